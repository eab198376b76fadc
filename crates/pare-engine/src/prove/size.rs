//! How large a result will be, before the work; and what is to be said when that is no gain.

use crate::as_read::{in_blocks, rounds_to, with_zero};
use crate::bundle::Bundle;
use crate::recipe::{Cut, Recipe};
use crate::write::{Pattern, WriteAs};
use pare_format::safetensors::Dtype;
use pare_kernels::blocks::{BlockType, RowType};
use pare_kernels::sparse::SparseType;
use pare_methods::card::Grain;
use pare_methods::encode;
use pare_model::model::Model;
use pare_model::site::Projection;
use pare_model::weight::Weight;

/// Sizes that differ by less than this share are the same.
const SAME: f64 = 0.01;

/// About how many bytes shrinking `model` writes: the result, and, with a proof, the dense model and plain bits beside it.
///
/// Masks leave zeros, which take their place as any other number.
pub fn bytes_to_write(model: &Model, recipe: &Recipe, keep: f64, write_as: WriteAs, with_proof: bool) -> u64 {
    let result = result_bytes(model, recipe, keep, write_as);
    let each = if write_as.dtype(model) == Dtype::F32 { 4 } else { 2 };
    let numbers = model.parameters().total;
    let dense = if with_proof { numbers.saturating_mul(each) } else { 0 };
    // Plain bits have at most the bytes of the result, and of 16 bits.
    let plain = if with_proof { result.min(numbers.saturating_mul(2)) } else { 0 };
    result.saturating_add(dense).saturating_add(plain)
}

/// About how many bytes the finished blocks of a run take beside the output until it is in place, at most: what the recipe changes of
/// them, in blocks where the result is, else in f32.
pub fn job_bytes(model: &Model, recipe: &Recipe, keep: f64, write_as: WriteAs) -> u64 {
    let stays = if leaves_zeros(recipe) { 1.0 } else { keep };
    let is_ffn = |projection: Projection| matches!(projection, Projection::Gate | Projection::Up | Projection::Down);
    let cuts = |cut: &Cut, projection| match cut.grain {
        Grain::Weight => true,
        Grain::Channel => is_ffn(projection),
        Grain::Group => !is_ffn(projection),
        Grain::Attention | Grain::Ffn | Grain::Block => false,
    };
    let changes = |projection| !recipe.encode.is_empty() || recipe.cut.iter().any(|cut| cuts(cut, projection));
    let own_blocks = own_blocks(recipe);
    let each = |weight: &dyn Weight| match write_as {
        WriteAs::AsRead if in_blocks(weight).is_some() => projection_bytes(weight, recipe, keep, 4.0, write_as),
        WriteAs::Kept if own_blocks.is_some() => projection_bytes(weight, recipe, keep, 4.0, write_as),
        _ => stays * 4.0,
    };
    let projections = model.blocks.iter().flat_map(|block| block.linears()).filter(|(at, _)| changes(*at));
    let bytes = |weight: &dyn Weight| (weight.shape()[0] as u64 * weight.shape()[1] as u64) as f64 * each(weight);
    projections.map(|(_, linear)| bytes(linear.weight.as_ref())).sum::<f64>() as u64
}

/// The block type that the recipe itself rounds projections to.
fn own_blocks(recipe: &Recipe) -> Option<BlockType> {
    recipe.encode.iter().find_map(|step| (encode::find(&step.method).ok()?.build)(&step.with).ok()?.blocks())
}

fn of_type(ty: RowType) -> f64 {
    ty.bytes_per_block() as f64 / ty.values_per_block() as f64
}

fn of_blocks(ty: BlockType) -> f64 {
    of_type(RowType::Blocks(ty))
}

/// Bytes in the result for each number that a projection has now; a `plain` number takes so many.
fn projection_bytes(weight: &dyn Weight, recipe: &Recipe, keep: f64, plain: f64, write_as: WriteAs) -> f64 {
    let masks = leaves_zeros(recipe);
    let stays = if masks { 1.0 } else { keep };
    match write_as {
        WriteAs::AsRead => match in_blocks(weight) {
            Some(read) if masks => of_blocks(with_zero(rounds_to(read))),
            Some(read) => stays * of_type(read.row_type()),
            None => stays * 2.0,
        },
        WriteAs::Kept => own_blocks(recipe).map_or(stays * 2.0, of_blocks),
        WriteAs::Blocks(ty) => stays * of_blocks(ty),
        // Half of the values, and two bits for the place of each.
        WriteAs::Sparse(Pattern::TwoOfFour, SparseType::F16) => 1.125,
        WriteAs::Sparse(Pattern::TwoOfFour, SparseType::Int8) => 0.6875,
        // Eight values to each column, which takes two bytes.
        WriteAs::Sparse(Pattern::EightRows, SparseType::F16) => keep * 2.25,
        WriteAs::Sparse(Pattern::EightRows, SparseType::Int8) => keep * 1.3125,
        WriteAs::Auto | WriteAs::Type(_) => stays * plain,
    }
}

/// About how many bytes the result has.
pub fn result_bytes(model: &Model, recipe: &Recipe, keep: f64, write_as: WriteAs) -> u64 {
    let plain = if write_as.dtype(model) == Dtype::F32 { 4.0 } else { 2.0 };
    let of_projection = |weight: &dyn Weight| projection_bytes(weight, recipe, keep, plain, write_as);
    let of_shared = |weight: &dyn Weight| match write_as {
        WriteAs::AsRead | WriteAs::Kept => in_blocks(weight).map_or(2.0, |read| of_type(read.row_type())),
        WriteAs::Blocks(BlockType::Q6K) => of_blocks(BlockType::Q6K),
        WriteAs::Blocks(_) => of_blocks(BlockType::Q8_0),
        _ => plain,
    };
    let mut matrices = 0;
    let mut bytes = |weight: &dyn Weight, each: &dyn Fn(&dyn Weight) -> f64| {
        let numbers = weight.shape()[0] as u64 * weight.shape()[1] as u64;
        matrices += numbers;
        numbers as f64 * each(weight)
    };
    let projections = model.blocks.iter().flat_map(|block| block.linears());
    let mut all: f64 = projections.map(|(_, linear)| bytes(linear.weight.as_ref(), &of_projection)).sum();
    all += model.head.iter().map(|head| bytes(head.weight.as_ref(), &of_shared)).sum::<f64>();
    all += bytes(model.embedding.as_ref(), &of_shared);
    // Norms and biases stay plain.
    all += plain * model.parameters().total.saturating_sub(matrices) as f64;
    all as u64
}

/// Whether what is removed leaves zeros, which are stored.
fn leaves_zeros(recipe: &Recipe) -> bool {
    recipe.patterns().next().is_some()
}

/// What is to be said before the work of a result that will not be smaller than what was read.
pub fn size_note(bundle: &Bundle, recipe: &Recipe, keep: f64, write_as: WriteAs) -> Option<String> {
    let (had, expected) = (bundle.bytes, result_bytes(&bundle.model, recipe, keep, write_as));
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let form = write_as.name();
    if expected as f64 > had as f64 * (1.0 + SAME) {
        let plain = matches!(write_as, WriteAs::Auto | WriteAs::Type(_) | WriteAs::Blocks(_) | WriteAs::Sparse(..));
        let way_out = match WriteAs::Auto.of(recipe, &bundle.model) {
            WriteAs::AsRead if plain => "; without --dtype it is written in the blocks that were read",
            _ => "",
        };
        return Some(format!(
            "the result will be larger than what was read: about {:.1} MB as {form}, where {} has {:.1} MB{way_out}",
            mega(expected),
            bundle.name,
            mega(had)
        ));
    }
    (leaves_zeros(recipe) && expected as f64 > had as f64 * (1.0 - SAME)).then(|| {
        format!(
            "recipe {} leaves zeros in the place of weights, and zeros are stored: the result will be no smaller than the {:.1} MB that were \
             read, nor faster",
            recipe.name,
            mega(had)
        )
    })
}

/// The same of what was written.
pub(super) fn size_remark(had: u64, written: u64) -> Option<String> {
    let share = written as f64 / had.max(1) as f64;
    let mega = |bytes: u64| bytes as f64 / 1e6;
    (share > 1.0 + SAME).then(|| {
        format!("The result is larger than what was read: {:.1} MB, and {:.1} MB were read.", mega(written), mega(had))
    })
}
