//! Biases that a repair adds: which family can hold them, and what is said of it.

use crate::Error;
use crate::recipe::{Cut, Recipe};
use pare_format::config::{Family, ModelConfig};
use pare_methods::card::Grain;
use pare_methods::compensate;
use pare_model::model::Model;
use pare_model::site::Projection;
use std::collections::BTreeSet;

/// Whether a result of a model described by `before` may have a bias on `projection`.
///
/// A recipe whose repairs cannot do without has the choice of the families that the model also is; any other keeps the model in its own,
/// because every reader of that family loads it as before.
pub fn allows_bias(before: &ModelConfig, recipe: &Recipe, projection: Projection) -> bool {
    holds(written_family(before, recipe), projection)
}

/// Refuses a recipe that needs a bias where no family that the model is has a place for it.
///
/// # Errors
/// `Refused` with the projection, the reason, and what to take instead.
pub fn check_biases(before: &ModelConfig, recipe: &Recipe) -> Result<(), Error> {
    let mut needed = needed(recipe).into_iter();
    let Some(projection) = needed.find(|&projection| !allows_bias(before, recipe, projection)) else { return Ok(()) };
    let family = before.family.model_type();
    let why = match before.family.has_qk_norm() {
        true => "it normalises queries and keys per head",
        false => "it has a sliding window",
    };
    Err(Error::Refused(format!(
        "recipe {} puts biases on {}, for which {family} has no place, and as {why} it cannot be written as llama either; use a recipe that \
         repairs by least-squares, which works without biases",
        recipe.name,
        place(projection)
    )))
}

/// That the result of `recipe` will be of another family, to be said before the work: none when it stays in its own.
pub fn other_family(before: &ModelConfig, recipe: &Recipe) -> Option<String> {
    (written_family(before, recipe) != before.family).then(|| {
        let places: Vec<&str> = needed(recipe).into_iter().filter(|&p| !holds(before.family, p)).map(place).collect();
        format!(
            "recipe {} puts biases on {}, for which {} has no place: the result is written as llama, which computes the same",
            recipe.name,
            places.join(" and "),
            before.family.model_type()
        )
    })
}

/// That a result is described as one of another family, to be said of it: none when it stayed in its own.
pub(crate) fn family_note(before: &ModelConfig, after: &ModelConfig) -> Option<String> {
    let [own, other] = [before.family, after.family].map(Family::model_type);
    (own != other).then(|| {
        format!("The result is written as {other}, which computes the same: a config.json of {own} cannot say it.")
    })
}

/// The family that can hold what `recipe` needs: the model's own when it can, or when no other can.
fn written_family(before: &ModelConfig, recipe: &Recipe) -> Family {
    let own = needed(recipe).into_iter().all(|projection| holds(before.family, projection));
    let other = if own { None } else { before.to_llama() };
    other.map_or(before.family, |llama| llama.family)
}

/// Whether the family's `config.json` has a place for a bias that a repair adds to `projection`.
fn holds(family: Family, projection: Projection) -> bool {
    match projection {
        Projection::O => family.may_have_output_bias(),
        Projection::Down => family.may_have_mlp_bias(),
        _ => false,
    }
}

/// The readers of what is cut to which a repair of `recipe` adds a bias in any case.
fn needed(recipe: &Recipe) -> BTreeSet<Projection> {
    let reader = |cut: &Cut| {
        let entry = compensate::find(cut.compensate.as_ref()?).ok()?;
        match cut.grain {
            Grain::Group if entry.needs_bias => Some(Projection::O),
            Grain::Channel if entry.needs_bias => Some(Projection::Down),
            _ => None,
        }
    };
    recipe.cut.iter().filter_map(reader).collect()
}

fn place(projection: Projection) -> &'static str {
    match projection {
        Projection::O => "the output projection of attention",
        _ => "the down projection",
    }
}

/// The projection of `model` whose bias the configuration `config` has no place for.
pub(super) fn bias_without_slot(config: &ModelConfig, model: &Model) -> Option<(usize, Projection)> {
    let has_place = |projection| match projection {
        Projection::Q | Projection::K | Projection::V => config.attention_bias && config.family != Family::Mistral,
        Projection::O => config.output_bias() && config.family.may_have_output_bias(),
        _ => config.mlp_bias && config.family.may_have_mlp_bias(),
    };
    model.blocks.iter().enumerate().find_map(|(index, block)| {
        let mut linears = block.linears();
        let (projection, _) = linears.find(|(projection, linear)| linear.bias.is_some() && !has_place(*projection))?;
        Some((index, projection))
    })
}
