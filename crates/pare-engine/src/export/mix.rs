//! The type of each tensor: the mixes of llama.cpp's quantiser.

use super::Target;
use super::architecture::Architecture;
use super::tensors::{Role, Tensor};
use pare_kernels::blocks::{BlockType, RowType};

/// Gives every matrix its type.
pub(super) fn choose(tensors: &mut [Tensor<'_>], target: Target, architecture: &Architecture<'_>) {
    let tied = !tensors.iter().any(|tensor| tensor.role == Role::Head);
    let values = tensors.iter().filter(|tensor| tensor.role == Role::Values).count();
    // Blocks without attention are not counted for values, but those without feed-forward layer are for the down projections.
    let downs = architecture.layers.len();
    let (mut value, mut down) = (0, 0);
    for tensor in tensors.iter_mut().filter(|tensor| tensor.is_matrix()) {
        let columns = tensor.shape[1];
        let RowType::Blocks(usual) = target.row_type() else {
            tensor.ty = target.row_type();
            continue;
        };
        let mixed = matches!(target, Target::Q4KM | Target::Q5KM);
        let wanted = match tensor.role {
            Role::Head => of_head(usual, columns),
            Role::Embedding if tied => of_head(usual, columns),
            Role::Values => {
                value += 1;
                match mixed && matters_most(value - 1, values) {
                    true => BlockType::Q6K,
                    // Eight heads share one matrix of values there: more bits cost little.
                    false if usual == BlockType::Q4K && is_70b(architecture) => BlockType::Q5K,
                    false => usual,
                }
            }
            Role::Down => {
                down += 1;
                if mixed && matters_most(down - 1, downs) { BlockType::Q6K } else { usual }
            }
            _ => usual,
        };
        tensor.ty = fitting(wanted, columns);
    }
}

/// The first and the last eighth, and every third in between.
fn matters_most(index: usize, count: usize) -> bool {
    let eighth = count / 8;
    index < eighth || index >= 7 * count / 8 || (index - eighth) % 3 == 2
}

fn is_70b(architecture: &Architecture<'_>) -> bool {
    let one = |layer: &super::architecture::Layer<'_>| layer.heads() == layer.groups();
    architecture.layers.len() == 80
        && match architecture.name {
            "llama" => !architecture.layers.first().is_some_and(one),
            "deci" | "qwen2" => true,
            _ => false,
        }
}

/// The head is read for every token and decides alone: it gets more bits.
fn of_head(usual: BlockType, columns: usize) -> BlockType {
    match usual {
        BlockType::Q8_0 => BlockType::Q8_0,
        _ if !columns.is_multiple_of(usual.values_per_block()) => BlockType::Q8_0,
        _ => BlockType::Q6K,
    }
}

/// The type for rows of `columns`: blocks of 256 fall back to blocks of 32, and those to f16.
pub(crate) fn fitting(wanted: BlockType, columns: usize) -> RowType {
    let fits = |ty: BlockType| columns.is_multiple_of(ty.values_per_block());
    let smaller = match wanted {
        _ if fits(wanted) => wanted,
        BlockType::Q4K => BlockType::Q5_0,
        BlockType::Q5K => BlockType::Q5_1,
        BlockType::Q6K => BlockType::Q8_0,
        other => other,
    };
    if fits(smaller) { RowType::Blocks(smaller) } else { RowType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_that_matter_most_by_hand() {
        let of = |count: usize| (0..count).filter(|&index| matters_most(index, count)).collect::<Vec<_>>();
        // 30 blocks: an eighth is 3, the last begins at 26, and of 3.. every third.
        assert_eq!(of(30), [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
        assert_eq!(of(2), [1]);
        assert_eq!(of(1), [0]);
    }

    #[test]
    fn rows_that_do_not_fit_fall_back() {
        let blocks = RowType::Blocks;
        assert_eq!(fitting(BlockType::Q4K, 512), blocks(BlockType::Q4K));
        assert_eq!(fitting(BlockType::Q4K, 576), blocks(BlockType::Q5_0));
        assert_eq!(fitting(BlockType::Q5K, 576), blocks(BlockType::Q5_1));
        assert_eq!(fitting(BlockType::Q6K, 576), blocks(BlockType::Q8_0));
        assert_eq!(fitting(BlockType::Q4K, 72), RowType::F16);
        assert_eq!(fitting(BlockType::Q4_0, 72), RowType::F16);
        assert_eq!((of_head(BlockType::Q4_0, 576), of_head(BlockType::Q4K, 576)), (BlockType::Q6K, BlockType::Q8_0));
    }
}
