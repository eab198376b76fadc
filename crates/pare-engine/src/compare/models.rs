//! Models that people have already: opened, named and checked before any work, so that none of them can lose what was measured of others.

use super::{AS_READ, DENSE};
use crate::bundle::Bundle;
use crate::progress::Work;
use crate::text::Found;
use crate::{Error, built_in};
use std::path::{Component, Path, PathBuf};

/// A model that stands beside the reference, run as it is stored.
#[derive(Debug)]
pub struct GivenModel {
    /// Its name in tables: that of its file or directory, with as many folders before it as tell it from the others.
    pub name: String,
    /// The model.
    pub bundle: Bundle,
}

/// Opens the models called `names` and checks all of them against `reference`, whose texts are cut into windows of `context` tokens. A model
/// that is named twice, or by several of its parts, is one model.
///
/// # Errors
/// A model that cannot be opened; one with other tokens than the reference, or with less context; the user stops it.
pub fn models(
    names: &[String],
    reference: &Bundle,
    context: usize,
    work: Work<'_>,
) -> Result<Found<Vec<GivenModel>>, Error> {
    let mut bundles: Vec<Bundle> = Vec::new();
    let mut places: Vec<PathBuf> = Vec::new();
    let mut notes = Vec::new();
    for name in names {
        work.interrupt.check()?;
        let bundle = Bundle::open(name, work)?;
        let place = place(&bundle.path);
        if let Some(at) = places.iter().position(|other| *other == place) {
            notes.push(format!("--models: {name} is the model {} once more; it has one row", bundles[at].name));
            continue;
        }
        compares(&bundle, reference, context)?;
        notes.extend(bundle.warnings.iter().map(|warning| format!("{name}: {warning}")));
        bundles.push(bundle);
        places.push(place);
    }
    let names = labels(&bundles.iter().map(parts).collect::<Vec<_>>());
    let found = names.into_iter().zip(bundles).map(|(name, bundle)| GivenModel { name, bundle }).collect();
    Ok(Found { found, notes })
}

fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Refuses a model whose predictions cannot be compared with those of the reference, position by position.
fn compares(bundle: &Bundle, reference: &Bundle, context: usize) -> Result<(), Error> {
    let refuse = |field: &str, found: String, expected: String, todo: &str| {
        let (name, other) = (&bundle.name, &reference.name);
        Err(Error::Refused(format!("{name}: {field}: found {found}, expected {expected} as in {other}; {todo}")))
    };
    const ADVICE: &str = "predictions of other tokens have no divergence: give models with the reference's tokenizer, or another reference";
    let (own, theirs) = (&bundle.model.architecture, &reference.model.architecture);
    if own.vocab != theirs.vocab {
        return refuse("vocabulary", format!("{} tokens", own.vocab), format!("{} tokens", theirs.vocab), ADVICE);
    }
    // Rows that one of them has no token for are padding: converters name it, or leave it out.
    let pair = |id: u32| bundle.tokenizer.token(id).zip(reference.tokenizer.token(id));
    let differs =
        (0..own.vocab as u32).find_map(|id| pair(id).filter(|(own, other)| own != other).map(|pair| (id, pair)));
    if let Some((id, (own, other))) = differs {
        let [found, expected] = [own, other].map(|token| format!("{:?}", shown(token)));
        return refuse(&format!("tokenizer, token {id}"), found, expected, ADVICE);
    }
    if own.context < context {
        let todo = format!("give --context {} to measure all models on shorter windows", own.context);
        return Err(Error::Refused(format!(
            "{}: context: found {} tokens, expected the {context} of a window, or more; {todo}",
            bundle.name, own.context
        )));
    }
    Ok(())
}

/// The beginning of a token, as text.
fn shown(token: &[u8]) -> String {
    const SHOWN: usize = 40;
    let text = String::from_utf8_lossy(token);
    let end = if text.chars().count() > SHOWN { "..." } else { "" };
    text.chars().take(SHOWN).chain(end.chars()).collect()
}

/// The parts of a name, the last one last: those of a path, or the whole name of a model that has another.
fn parts(bundle: &Bundle) -> Vec<String> {
    if built_in::find(&bundle.name).is_some() || bundle.name.starts_with("hf:") {
        return vec![bundle.name.clone()];
    }
    let path = place(&bundle.path);
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

/// For each model the last parts of its name, as many as tell it from all others and from the rows of the reference.
fn labels(models: &[Vec<String>]) -> Vec<String> {
    let end = |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].join("/");
    let label = |at: usize| {
        let own = &models[at];
        let alone = |count: &usize| {
            let label = end(own, *count);
            let taken = |(index, other): (usize, &Vec<String>)| index != at && end(other, *count) == label;
            ![DENSE, AS_READ].contains(&label.as_str()) && !models.iter().enumerate().any(taken)
        };
        end(own, (1..own.len()).find(alone).unwrap_or(own.len()))
    };
    (0..models.len()).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_can_be() {
        let of = |paths: &[&str]| {
            labels(&paths.iter().map(|path| path.split('/').map(str::to_owned).collect()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["m/a.gguf", "m/b.gguf"]), ["a.gguf", "b.gguf"]);
        assert_eq!(of(&["x/one/model", "x/two/model", "model"]), ["one/model", "two/model", "model"]);
        assert_eq!(of(&["x/one/q/model", "x/two/q/model", "q"]), ["one/q/model", "two/q/model", "q"]);
        assert_eq!(of(&["x/dense", "x/as read"]), ["x/dense", "x/as read"], "rows of the reference have those names");
    }

    #[test]
    fn tokens_are_shown_in_short() {
        assert_eq!(shown(b" the"), " the");
        assert_eq!(shown(&[b'x'; 50]), format!("{}...", "x".repeat(40)));
        assert_eq!(shown(&[0xff]), "\u{fffd}");
    }
}
