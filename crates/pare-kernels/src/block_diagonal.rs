//! Block-diagonal matrices: each run of inputs reaches only its own run of outputs.

use crate::isa::Isa;
use crate::panels::{PanelType, Panels};
use crate::pool::Pool;
use crate::product::{Input, Product, check_part, check_row};
use crate::shared::Shared;

/// Bytes of blocks that are worth a part of their own.
const PART_BYTES: usize = 1 << 15;

/// A square matrix of `N` blocks `[size, size]` on its diagonal and zeros beside them; 1 / N of a dense one in bytes and time.
///
/// Obeys the one law: the zeros beside a block would not change a sum.
#[derive(Debug)]
pub struct BlockDiagonal {
    size: usize,
    blocks: Vec<Panels>,
}

impl BlockDiagonal {
    /// Packs `count` blocks `[size, size]`; `decode_row(block, row, buffer of size values)` writes a row of a block.
    ///
    /// # Panics
    /// When a block would not fit the address space.
    pub fn pack(
        ty: PanelType,
        count: usize,
        size: usize,
        decode_row: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
        pool: &Pool,
    ) -> BlockDiagonal {
        let pack = |block| Panels::pack(ty, size, size, &|row, values| decode_row(block, row, values), pool);
        BlockDiagonal { size, blocks: (0..count).map(pack).collect() }
    }

    /// How many blocks.
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Rows and columns of a block.
    pub fn size(&self) -> usize {
        self.size
    }

    /// What row `o` holds within its block, `[size]`; beside it there are zeros.
    ///
    /// # Panics
    /// When there is no such row, or `values` is not as long as a block is wide.
    pub fn decode_within(&self, o: usize, values: &mut [f32]) {
        self.blocks[o / self.size].decode_row(o % self.size, values);
    }
}

impl Product for BlockDiagonal {
    fn shape(&self) -> [usize; 2] {
        [self.size * self.blocks.len(); 2]
    }

    fn bytes(&self) -> usize {
        self.blocks.iter().map(Product::bytes).sum()
    }

    fn decode_row(&self, o: usize, row: &mut [f32]) {
        check_row(self.shape(), o, row);
        let block = o / self.size;
        row.fill(0.0);
        self.decode_within(o, &mut row[block * self.size..(block + 1) * self.size]);
    }

    fn parts(&self, _: Isa, rows: usize, threads: usize) -> usize {
        let work = self.bytes() * rows.div_ceil(16);
        (work / PART_BYTES).clamp(1, 8 * threads).min(self.blocks.len()).max(1)
    }

    unsafe fn multiply_part(&self, isa: Isa, input: &Input<'_>, part: usize, threads: usize, y: Shared<'_, f32>) {
        let (parts, count, width) = (self.parts(isa, input.rows(), threads), self.blocks.len(), self.shape()[0]);
        check_part(self.shape(), input, part, parts, &y);
        for index in part * count / parts..(part + 1) * count / parts {
            let (x, y) = (
                input.values()[index * self.size..].as_ptr(),
                y.window(index * self.size, input.rows(), width, self.size),
            );
            // SAFETY: each block reads and writes its own columns of the rows, whose lengths were compared.
            unsafe { self.blocks[index].multiply_columns(isa, (x, width), input.rows(), (y, width)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int8::Int8Rows;
    use crate::product::multiply_together_on;
    use crate::reference::{self, numbers, same_bits};

    #[test]
    fn blocks_give_the_bits_of_the_dense_matrix() {
        for &(count, size) in reference::sizes(&[(1, 5), (3, 32), (7, 33), (9, 64)], &[(1, 5), (2, 33)]) {
            let width = count * size;
            let values = numbers(6, count * size * size);
            let row = |block: usize, row: usize| &values[(block * size + row) * size..][..size];
            let pool = Pool::new(2);
            let packed =
                BlockDiagonal::pack(PanelType::F32, count, size, &|b, r, out| out.copy_from_slice(row(b, r)), &pool);
            let mut dense = vec![0.0; width * width];
            for (o, line) in dense.chunks_exact_mut(width).enumerate() {
                packed.decode_row(o, line);
                let at = o / size * size;
                assert!(same_bits(&line[at..at + size], row(o / size, o % size)));
                assert_eq!(line.iter().filter(|value| **value != 0.0).count(), size);
            }
            for &rows in reference::sizes(&[1, 2, 13, 70], &[1, 3]) {
                let x = numbers(8, rows * width);
                let expected = reference::multiply(&x, &dense, rows, width, width);
                for isa in Isa::available() {
                    let mut y = vec![f32::NAN; rows * width];
                    let terms = [(&packed as &dyn Product, &mut y[..])];
                    multiply_together_on(isa, terms, &x, &mut Int8Rows::new(), &pool);
                    assert!(same_bits(&y, &expected), "{} {rows} rows, {count} blocks of {size}", isa.name());
                }
            }
        }
    }
}
