//! Values in the order in which the decode kernels read them.

use super::{Element, Stored};
use crate::weight::{Exact, Weight, Workspace};
use pare_kernels::panels::{PanelType, Panels};
use pare_kernels::pool::Pool;
use pare_kernels::product::{Product, multiply_together};
use pare_kernels::quant::QuantPanels;

/// A weight `[out, in]` repacked into panels of 32 outputs.
#[derive(Debug)]
pub struct Packed {
    panels: Box<dyn Product>,
    name: &'static str,
    exact: Exact,
}

impl Packed {
    /// Repacks any weight; `ty` decides what is lost (nothing, when it holds [`Weight::exact_in`]).
    pub fn pack(weight: &dyn Weight, ty: PanelType, pool: &Pool) -> Self {
        let [out, inn] = weight.shape();
        let panels = Box::new(Panels::pack(ty, out, inn, &|row, values| weight.decode_row(row, values), pool));
        let (name, exact) = match ty {
            PanelType::F32 => ("f32", Exact::F32),
            PanelType::F16 => ("f16", Exact::F16),
            PanelType::Bf16 => ("bf16", Exact::Bf16),
        };
        Self { panels, name, exact }
    }

    /// Repacks quantised blocks as they are: no value changes, but products round their rows to 8 bits. None when the weight is not
    /// quantised.
    pub fn blocks(weight: &Stored, pool: &Pool) -> Option<Self> {
        let Element::Block(ty) = weight.element() else { return None };
        let panels = Box::new(QuantPanels::pack(ty, weight.shape(), &|row| weight.row_bytes(row), pool));
        Some(Self { panels, name: weight.name(), exact: weight.exact_in() })
    }

    /// The smallest panel type that holds every value of `weight` exactly.
    pub fn exact_type(weight: &dyn Weight) -> PanelType {
        match weight.exact_in() {
            Exact::F16 => PanelType::F16,
            Exact::Bf16 => PanelType::Bf16,
            Exact::F32 => PanelType::F32,
        }
    }
}

impl Weight for Packed {
    fn shape(&self) -> [usize; 2] {
        self.panels.shape()
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], work: &mut Workspace, pool: &Pool) {
        multiply_together([(self.panels.as_ref(), y)], x, &mut work.int8, pool);
    }

    fn product(&self) -> Option<&dyn Product> {
        Some(self.panels.as_ref())
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.panels.decode_row(row, out);
    }

    fn bytes(&self) -> usize {
        self.panels.bytes()
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn exact_in(&self) -> Exact {
        self.exact
    }
}
