//! Values in the order in which the decode kernel reads them.

use crate::weight::{Exact, Weight};
use pare_kernels::panels::{PanelType, Panels};
use pare_kernels::pool::Pool;
use pare_kernels::product::Product;

/// A weight `[out, in]` repacked into panels of 32 outputs.
#[derive(Debug)]
pub struct Packed(Panels);

impl Packed {
    /// Repacks any weight; `ty` decides what is lost (nothing, when it holds [`Weight::exact_in`]).
    pub fn pack(weight: &dyn Weight, ty: PanelType, pool: &Pool) -> Self {
        let [out, inn] = weight.shape();
        Self(Panels::pack(ty, out, inn, &|row, values| weight.decode_row(row, values), pool))
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
        self.0.shape()
    }

    fn multiply(&self, x: &[f32], y: &mut [f32], pool: &Pool) {
        self.0.multiply(x, y, pool);
    }

    fn decode_row(&self, row: usize, out: &mut [f32]) {
        self.0.decode_row(row, out);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn name(&self) -> &'static str {
        match self.0.panel_type() {
            PanelType::F32 => "f32",
            PanelType::F16 => "f16",
            PanelType::Bf16 => "bf16",
        }
    }

    fn exact_in(&self) -> Exact {
        match self.0.panel_type() {
            PanelType::F32 => Exact::F32,
            PanelType::F16 => Exact::F16,
            PanelType::Bf16 => Exact::Bf16,
        }
    }
}
