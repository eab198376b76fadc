//! What a recipe must hold before the engine relies on it.

use super::{Cut, Encode, Recipe, RecipeError};
use pare_methods::card::Grain;
use pare_methods::compensate::Build;
use pare_methods::select::Compare;
use pare_methods::{allocate, compensate, encode, names, rewrite, score};
use std::fmt::Write as _;

/// The recipe's file, for messages.
struct In<'a>(&'a str);

impl In<'_> {
    fn field(&self, field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> RecipeError {
        let (file, field) = (self.0.to_owned(), field.into());
        RecipeError::Field { file, field, found: found.to_string(), expected: expected.into() }
    }

    fn unknown(&self, field: String, found: &str, known: Vec<&'static str>) -> RecipeError {
        let mut expected = format!("one of {}", known.join(", "));
        if let Some(near) = names::nearest(found, known.iter().copied()) {
            let _ = write!(expected, "; did you mean {near:?}?");
        }
        self.field(field, format!("{found:?}"), expected)
    }

    /// What building a method says of its parameters.
    fn built<T>(&self, field: String, built: Result<T, pare_methods::error::MethodError>) -> Result<(), RecipeError> {
        built.map(|_| ()).map_err(|error| self.field(field, error, "parameters that the method reads"))
    }
}

impl Recipe {
    pub(super) fn check(&self, file: &str) -> Result<(), RecipeError> {
        let file = In(file);
        if !(self.keep > 0.0 && self.keep <= 1.0) {
            return Err(file.field("keep", self.keep, "a number above 0, at most 1"));
        }
        if self.cut.is_empty() && self.rewrite.is_empty() && self.encode.is_empty() {
            return Err(file.field("cut", "none", "at least one [[cut]], [[rewrite]] or [[encode]]"));
        }
        for (index, step) in self.rewrite.iter().enumerate() {
            let known = || rewrite::ENTRIES.iter().map(|entry| entry.card.name).collect();
            let entry = rewrite::find(&step.method)
                .map_err(|_| file.unknown(format!("rewrite[{index}].method"), &step.method, known()))?;
            file.built(format!("rewrite[{index}].with"), (entry.build)(&step.with, 0))?;
        }
        self.check_grains(&file)?;
        for (index, cut) in self.cut.iter().enumerate() {
            self.check_cut(&file, index, cut)?;
        }
        for (index, step) in self.encode.iter().enumerate() {
            check_encode(&file, index, step)?;
        }
        self.check_shares(&file)
    }

    fn check_shares(&self, file: &In<'_>) -> Result<(), RecipeError> {
        let cuts = self.cut.iter().map(|cut| cut.share).take(if self.joint { 1 } else { usize::MAX });
        let rewrites = self.rewrite.iter().filter(|step| rewrite::find(&step.method).is_ok_and(|entry| entry.removes));
        let encodes = self.encode.iter().filter(|step| encode::find(&step.method).is_ok_and(|entry| entry.removes));
        let shares = cuts.chain(rewrites.map(|step| step.share)).chain(encodes.map(|step| step.share));
        let shares: Vec<f64> = shares.collect();
        let whole: f64 = shares.iter().sum();
        let wrong = (whole - 1.0).abs() > 1e-6 || shares.iter().any(|share| share.is_nan() || *share <= 0.0);
        if !shares.is_empty() && wrong {
            let found = shares.iter().map(f64::to_string).collect::<Vec<_>>().join(" + ");
            return Err(file.field("cut.share", found, "positive shares that add up to 1"));
        }
        if shares.is_empty() && self.keep != 1.0 {
            return Err(file.field("keep", self.keep, "1, for no stage of the recipe removes anything"));
        }
        Ok(())
    }

    fn check_grains(&self, file: &In<'_>) -> Result<(), RecipeError> {
        let grains: Vec<Grain> = self.cut.iter().map(|cut| cut.grain).collect();
        let repeated = grains.iter().enumerate().any(|(index, grain)| grains[..index].contains(grain));
        if repeated || (grains.contains(&Grain::Weight) && grains.len() > 1) {
            let expected = "one cut per grain, and weights alone: a repair would fill the zeros of a mask again";
            return Err(file.field("cut.grain", format!("{grains:?}"), expected));
        }
        if self.joint && (grains.len() < 2 || grains.contains(&Grain::Weight)) {
            return Err(file.field(
                "joint",
                "true",
                "false, unless there are two cuts or more of larger units than weights",
            ));
        }
        if self.joint && self.cut.iter().any(|cut| cut.allocate != self.cut[0].allocate) {
            return Err(file.field("joint", "true", "one allocation for all cuts"));
        }
        Ok(())
    }

    fn check_cut(&self, file: &In<'_>, index: usize, cut: &Cut) -> Result<(), RecipeError> {
        let at = |key: &str| format!("cut[{index}].{key}");
        let scores = || score::ENTRIES.iter().map(|entry| entry.card.name).collect();
        let entry = score::find(&cut.score).map_err(|_| file.unknown(at("score"), &cut.score, scores()))?;
        if !entry.card.grains.is_empty() && !entry.card.grains.contains(&cut.grain) {
            let expected = format!("a score that serves it; {} serves {:?}", cut.score, entry.card.grains);
            return Err(file.field(at("grain"), format!("{:?}", cut.grain), expected));
        }
        let known = || allocate::ENTRIES.iter().map(|entry| entry.card.name).collect();
        let allocation =
            allocate::find(&cut.allocate).map_err(|_| file.unknown(at("allocate"), &cut.allocate, known()))?;
        file.built(at("allocate-with"), (allocation.build)(&cut.allocate_with, 0))?;
        check_repair(file, &at, cut.compensate.as_deref(), &cut.compensate_with, Some(cut.grain))?;
        if cut.multiple == 0 || (cut.multiple > 1 && cut.grain != Grain::Channel) {
            return Err(file.field(at("multiple"), cut.multiple, "at least 1, and above 1 only for channels"));
        }
        if cut.compare != Compare::Row && cut.grain != Grain::Weight {
            return Err(file.field(at("compare"), format!("{:?}", cut.compare), "only with grain = \"weight\""));
        }
        if self.sequential && !matches!(cut.grain, Grain::Weight | Grain::Channel | Grain::Group) {
            return Err(file.field("sequential", "true", "false, unless every cut is of weights, channels or groups"));
        }
        Ok(())
    }
}

fn check_encode(file: &In<'_>, index: usize, step: &Encode) -> Result<(), RecipeError> {
    let at = |key: &str| format!("encode[{index}].{key}");
    let known = || encode::ENTRIES.iter().map(|entry| entry.card.name).collect();
    let entry = encode::find(&step.method).map_err(|_| file.unknown(at("method"), &step.method, known()))?;
    let built = (entry.build)(&step.with);
    let pattern = built.as_ref().ok().and_then(|method| method.pattern(step.compare));
    file.built(at("with"), built)?;
    check_repair(file, &at, step.compensate.as_deref(), &step.compensate_with, None)?;
    let of_zeros = |name: &String| compensate::find(name).is_ok_and(|entry| entry.of_zeros);
    let Some(repair) = step.compensate.as_ref().filter(|name| of_zeros(name)) else { return Ok(()) };
    match (pattern, step.with.bits) {
        (Some(_), None) => Ok(()),
        (Some(_), Some(bits)) => {
            let expected = format!("no bits: what {repair} solves anew is rounded to nothing");
            Err(file.field(at("with"), format!("bits = {bits}"), expected))
        }
        (None, _) => {
            let expected = format!("another repair, or none: {} leaves no zeros to solve around", step.method);
            Err(file.field(at("compensate"), format!("{repair:?}"), expected))
        }
    }
}

/// A repair of removed columns belongs to a cut of channels or groups, a repair of matrices to masks and encodings (no grain).
fn check_repair(
    file: &In<'_>,
    at: &dyn Fn(&str) -> String,
    repair: Option<&str>,
    with: &pare_methods::settings::Settings,
    grain: Option<Grain>,
) -> Result<(), RecipeError> {
    let Some(repair) = repair else {
        return match with.set().next() {
            None => Ok(()),
            Some(key) => Err(file.field(at("compensate-with"), key, "nothing, without a repair")),
        };
    };
    let known = || compensate::ENTRIES.iter().map(|entry| entry.card.name).collect();
    let entry = compensate::find(repair).map_err(|_| file.unknown(at("compensate"), repair, known()))?;
    let found = || grain.map_or("an encoding".to_owned(), |grain| format!("grain {grain:?}"));
    match (entry.build, grain) {
        (Build::Columns(build), Some(Grain::Channel | Grain::Group)) => file.built(at("compensate-with"), build(with)),
        (Build::Matrix(build), Some(Grain::Weight) | None) => file.built(at("compensate-with"), build(with)),
        (Build::Columns(_), _) => Err(file.field(
            at("compensate"),
            found(),
            "channel or group: a repair needs a reader whose columns were removed",
        )),
        (Build::Matrix(_), _) => {
            let expected = format!("weight, or an encoding: {repair} repairs matrices that kept their shape");
            Err(file.field(at("compensate"), found(), expected))
        }
    }
}
