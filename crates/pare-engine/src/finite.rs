//! Numbers that are not finite, looked for before the work that they would spoil.

use crate::bundle::Bundle;
use crate::progress::Work;
use crate::residual::ResidualStream;
use crate::{Error, parallel};
use pare_model::block::Block;
use pare_model::weight::{Linear, Weight};

/// Refuses a model with a number that is not finite, and one whose activations are not, already for one token.
///
/// One pass over the weights, and one token through the blocks: what calibration text does to the activations is seen when it passes.
///
/// # Errors
/// The first such number with its place; the user stops it.
pub fn refuse_not_finite(bundle: &Bundle, work: Work<'_>) -> Result<(), Error> {
    let model = &bundle.model;
    let refuse = |what: String| {
        Error::Refused(format!(
            "{}: {what}, expected a finite number; the file is damaged, or the training that made it failed",
            bundle.name
        ))
    };
    work.progress.begin("looking at weights", 1);
    let places = model.blocks.len() + 3;
    let look = |at: usize| {
        work.interrupt.check()?;
        let found = match at {
            0 => in_weight("embedding", model.embedding.as_ref()),
            1 => in_vector("final norm", &model.final_norm),
            2 => model.head.as_ref().and_then(|head| in_linear("head", head)),
            _ => in_block(&model.blocks[at - 3]).map(|found| format!("block {} {found}", at - 3)),
        };
        found.map_or(Ok(()), |found| Err(refuse(found)))
    };
    parallel::each(places, work.pool, &look)?;
    work.progress.end();
    let first = bundle.first_token();
    let mut stream = ResidualStream::embed(model, &[vec![first]]);
    for (index, block) in model.blocks.iter().enumerate() {
        stream.advance(index, block, work)?;
        if let Some(at) = stream.x().iter().position(|value| !value.is_finite()) {
            let value = stream.x()[at];
            return Err(refuse(format!("behind block {index}, channel {at} of the token {first} is {value}")));
        }
    }
    Ok(())
}

fn in_block(block: &Block) -> Option<String> {
    let linears = block.linears().find_map(|(projection, linear)| in_linear(&projection.to_string(), linear));
    let shortcuts = || block.shortcuts().find_map(|linear| in_linear("shortcut", linear));
    let attention = || {
        let part = block.attention()?;
        let heads = [("q norm", &part.q_norm), ("k norm", &part.k_norm)];
        let of_heads = || heads.iter().find_map(|(name, norm)| in_vector(name, norm.as_ref()?));
        in_vector("attention norm", &part.norm).or_else(of_heads)
    };
    let ffn = || in_vector("ffn norm", &block.ffn.as_ref()?.norm);
    linears.or_else(shortcuts).or_else(attention).or_else(ffn)
}

fn in_linear(name: &str, linear: &Linear) -> Option<String> {
    let bias = || in_vector(&format!("{name} bias"), linear.bias.as_ref()?);
    in_weight(name, linear.weight.as_ref()).or_else(bias)
}

fn in_weight(name: &str, weight: &dyn Weight) -> Option<String> {
    let [rows, columns] = weight.shape();
    let mut values = vec![0.0; columns];
    (0..rows).find_map(|row| {
        weight.decode_row(row, &mut values);
        let column = not_finite(&values)?;
        Some(format!("{name}: row {row}, column {column} is {}", values[column]))
    })
}

fn in_vector(name: &str, values: &[f32]) -> Option<String> {
    not_finite(values).map(|at| format!("{name}: value {at} is {}", values[at]))
}

/// The first value that is not finite.
fn not_finite(values: &[f32]) -> Option<usize> {
    // Without a way out in the middle, this runs in lanes.
    let sound = values.iter().fold(true, |sound, value| sound & value.is_finite());
    if sound { None } else { values.iter().position(|value| !value.is_finite()) }
}
