//! A weight matrix repacked in panels of 32 outputs, the layout that every product reads front to back.

use crate::memory::Aligned;
use crate::pool::Pool;
use crate::shared::Shared;
use crate::tile::PANEL;
use half::{bf16, f16};

/// How the values of [`Panels`] are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelType {
    /// 4 bytes, exact.
    F32,
    /// 2 bytes, 11 significant bits, up to 65504.
    F16,
    /// 2 bytes, 8 significant bits, the range of f32.
    Bf16,
}

impl PanelType {
    /// Bytes of one value.
    pub fn bytes_per_value(self) -> usize {
        match self {
            PanelType::F32 => 4,
            PanelType::F16 | PanelType::Bf16 => 2,
        }
    }
}

/// A matrix `[out, in]` stored as `[ceil(out / 32)][in][32]`; outputs past the last are zero.
#[derive(Debug)]
pub struct Panels {
    ty: PanelType,
    out: usize,
    inn: usize,
    data: Aligned<u16>,
}

impl Panels {
    /// Packs the matrix whose row `o` is what `decode_row(o, buffer of inn values)` writes, rounded to `ty` (to the
    /// nearest, ties to even). Rows are decoded once each, in parallel, in no fixed order.
    pub fn pack(
        ty: PanelType,
        out: usize,
        inn: usize,
        decode_row: &(dyn Fn(usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> Panels {
        let halves = ty.bytes_per_value() / 2;
        let panels = out.div_ceil(PANEL);
        let each = inn * PANEL * halves;
        let mut data = Aligned::<u16>::zeroed(panels * each);
        let shared = Shared::new(&mut data);
        pool.run(panels, &|p| {
            // SAFETY: each panel belongs to one part.
            let panel = unsafe { shared.slice_mut(p * each, each) };
            let mut row = vec![0.0f32; inn];
            for lane in 0..PANEL.min(out - p * PANEL) {
                decode_row(p * PANEL + lane, &mut row);
                for (k, &value) in row.iter().enumerate() {
                    let at = k * PANEL + lane;
                    match ty {
                        PanelType::F16 => panel[at] = f16::from_f32(value).to_bits(),
                        PanelType::Bf16 => panel[at] = bf16::from_f32(value).to_bits(),
                        PanelType::F32 => {
                            panel[2 * at] = value.to_bits() as u16;
                            panel[2 * at + 1] = (value.to_bits() >> 16) as u16;
                        }
                    }
                }
            }
        });
        Panels { ty, out, inn, data }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.out, self.inn]
    }

    /// How the values are stored.
    pub fn panel_type(&self) -> PanelType {
        self.ty
    }

    /// Bytes held, padding included: what one pass over the matrix reads.
    pub fn bytes(&self) -> usize {
        self.data.len() * 2
    }

    fn value(&self, o: usize, k: usize) -> f32 {
        let at = (o / PANEL * self.inn + k) * PANEL + o % PANEL;
        match self.ty {
            PanelType::F16 => f16::from_bits(self.data[at]).to_f32(),
            PanelType::Bf16 => bf16::from_bits(self.data[at]).to_f32(),
            PanelType::F32 => f32::from_bits(u32::from(self.data[2 * at]) | u32::from(self.data[2 * at + 1]) << 16),
        }
    }

    /// Writes row `o`, as stored, into `row` of `in` values.
    ///
    /// # Panics
    /// When `o` is not a row or `row` is not `in` long.
    pub fn decode_row(&self, o: usize, row: &mut [f32]) {
        assert!(o < self.out, "row {o} of {}", self.out);
        assert_eq!(row.len(), self.inn, "the row buffer");
        row.iter_mut().enumerate().for_each(|(k, value)| *value = self.value(o, k));
    }

    /// `y[t,o] = sum over i in order of x[t,i] * w[o,i]`, with `x` `[T, in]` and `y` `[T, out]`, which is overwritten.
    ///
    /// Cost: one read of [`Panels::bytes`], `T * out * in` multiply-adds.
    ///
    /// # Panics
    /// When the lengths of `x` and `y` do not agree on one `T`.
    pub fn multiply(&self, x: &[f32], y: &mut [f32], pool: &Pool) {
        let rows = y.len().checked_div(self.out).unwrap_or(0);
        assert_eq!(y.len(), rows * self.out, "y is not [T, {}]", self.out);
        assert_eq!(x.len(), rows * self.inn, "x is not [{rows}, {}]", self.inn);
        let shared = Shared::new(y);
        pool.run(self.out, &|o| {
            for t in 0..rows {
                let sum = (0..self.inn).fold(0.0f32, |acc, k| x[t * self.inn + k].mul_add(self.value(o, k), acc));
                // SAFETY: each element of y belongs to one part.
                unsafe { *shared.at(t * self.out + o) = sum };
            }
        });
    }
}
