//! The forms in which a directory of pare's own may keep a weight: the names of its tensors say which (docs/FORMAT.md).

use std::collections::BTreeSet;

use super::ModelDirectory;
use crate::config::Packing;
use crate::error::{FormatError, FormatErrorKind, Result};
use crate::gguf::GgmlType;
use crate::quote;

/// The deepest nesting of sums and wrapped weights.
pub const DEPTH: usize = 4;

/// How a weight is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageForm {
    /// One tensor under its own name.
    Plain,
    /// `NAME.q4_k` and its like: rows of quantised blocks.
    Blocks(GgmlType),
    /// As another tool packed it.
    Quantised(Packing),
    /// `NAME.2of4.positions`, `.values`, `.scales`.
    TwoOfFour,
    /// `NAME.rows8.offsets`, `.columns`, `.values`, `.scales`.
    EightRows,
    /// `NAME.low_rank.a`, `.b`.
    LowRank,
    /// `NAME.sum.0`, `NAME.sum.1`, ...: the form of each.
    Sum(Vec<StorageForm>),
    /// `NAME.wrapped.left`, `.core`, `.right`: the form of the core.
    Wrapped(Box<StorageForm>),
}

/// The block type whose suffix is `suffix`, as in `q4_k`.
fn blocks(suffix: &str) -> Option<GgmlType> {
    GgmlType::all().find(|ty| ty.supported() && ty.block_len() > 1 && suffix_of(*ty) == suffix)
}

/// The suffix of a weight in blocks of `ty`, as in `q4_k`.
#[must_use]
pub fn suffix_of(ty: GgmlType) -> String {
    ty.name().to_lowercase()
}

/// Every first part of a suffix, for messages.
fn known() -> String {
    let blocks = GgmlType::all().filter(|ty| ty.supported() && ty.block_len() > 1).map(suffix_of);
    blocks.chain(["2of4", "rows8", "low_rank", "sum", "wrapped"].map(str::to_owned)).collect::<Vec<_>>().join(", ")
}

/// The name of the weight that the tensor `name` is a part of, when it is spelt as a part of a matrix.
pub(super) fn owner(name: &str) -> Option<&str> {
    let end = name.find(".weight.")? + ".weight".len();
    name.get(..end).filter(|owner| is_matrix(owner))
}

/// Whether the tensor `name` of a model is a matrix.
pub(super) fn is_matrix(name: &str) -> bool {
    name.ends_with(".weight") && !name.ends_with("norm.weight")
}

impl ModelDirectory {
    /// How the weight `name` is kept. Only a directory whose `config.json` has a `quantization_config` keeps any in parts.
    ///
    /// # Errors
    /// `Found`, naming the tensor: there is none, more than one form, a part too few or one that no form has, nesting too deep.
    pub fn form(&self, name: &str) -> Result<StorageForm> {
        if let Some(quantised) = &self.config.quantised {
            return self.quantised_form(name, quantised.packing);
        }
        if !self.config.own_forms {
            return self.require(name).map(|_| StorageForm::Plain);
        }
        self.form_within(name, 0)
    }

    fn form_within(&self, name: &str, depth: usize) -> Result<StorageForm> {
        let parts = self.parts(name);
        if let Some(nameless) = parts.iter().find(|part| first(part).is_empty()) {
            return Err(self.wrong(&format!("{name}.{nameless}"), "is of no form", &format!("one of {}", known())));
        }
        let mut kinds: BTreeSet<&str> = parts.iter().map(|part| first(part)).collect();
        if self.info(name).is_some() {
            kinds.insert("");
        }
        let mut all = kinds.iter();
        let (Some(&kind), None) = (all.next(), all.next()) else {
            if kinds.is_empty() {
                let expected = format!("a tensor of this name or of one of the forms {}", known());
                return Err(self.wrong(name, "is missing", &expected));
            }
            let shown = |kind: &&str| if kind.is_empty() { "a plain tensor".to_owned() } else { quote::quoted(kind) };
            let found = kinds.iter().take(5).map(shown).collect::<Vec<_>>().join(" and as ");
            return Err(self.wrong(name, &format!("is kept as {found}"), "one form"));
        };
        let whole = |required: &[&str], optional: &[&str]| self.exactly(name, kind, &parts, required, optional);
        match kind {
            "" => Ok(StorageForm::Plain),
            "2of4" => whole(&["positions", "values"], &["scales"]).map(|()| StorageForm::TwoOfFour),
            "rows8" => whole(&["offsets", "columns", "values"], &["scales"]).map(|()| StorageForm::EightRows),
            "low_rank" => whole(&["a", "b"], &[]).map(|()| StorageForm::LowRank),
            "sum" | "wrapped" if depth >= DEPTH => Err(self.wrong(
                &format!("{name}.{kind}"),
                &format!("is nested {} deep", depth + 1),
                &format!("at most {DEPTH}"),
            )),
            "sum" => self.sum(name, &parts, depth),
            "wrapped" => {
                let within: Vec<&str> = parts.iter().map(|part| first(rest(part))).collect();
                self.exactly_these(&format!("{name}.wrapped"), &within, &["left", "core", "right"], &[])?;
                for (part, within) in parts.iter().zip(&within) {
                    if *within != "core" && rest(part) != *within {
                        return Err(self.wrong(
                            &format!("{name}.{part}"),
                            "is no part of a wrapped weight",
                            "left, core, right",
                        ));
                    }
                }
                Ok(StorageForm::Wrapped(Box::new(self.form_within(&format!("{name}.wrapped.core"), depth + 1)?)))
            }
            suffix => match blocks(suffix) {
                Some(ty) if parts == [suffix] => Ok(StorageForm::Blocks(ty)),
                Some(_) => {
                    let extra = parts.iter().find(|part| **part != suffix).unwrap_or(&suffix);
                    Err(self.wrong(
                        &format!("{name}.{extra}"),
                        "is below a tensor of blocks",
                        &format!("{name}.{suffix} alone"),
                    ))
                }
                None => {
                    let part = parts.first().unwrap_or(&suffix);
                    Err(self.wrong(&format!("{name}.{part}"), "is of no form", &format!("one of {}", known())))
                }
            },
        }
    }

    fn sum(&self, name: &str, parts: &[&str], depth: usize) -> Result<StorageForm> {
        let terms: BTreeSet<&str> = parts.iter().map(|part| first(rest(part))).collect();
        // As many names as terms, each of its own number below that: none is missing.
        for term in &terms {
            let number =
                term.parse::<usize>().ok().filter(|number| *number < terms.len() && number.to_string() == **term);
            if number.is_none() {
                let expected = format!("terms numbered from 0 without gaps, below {} here", terms.len());
                return Err(self.wrong(&format!("{name}.sum.{term}"), "is not the number of a term", &expected));
            }
        }
        let forms = (0..terms.len()).map(|term| self.form_within(&format!("{name}.sum.{term}"), depth + 1));
        forms.collect::<Result<_>>().map(StorageForm::Sum)
    }

    /// What follows `name.` in the names of all tensors.
    fn parts(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{name}.");
        let start = self.by_name.partition_point(|&place| self.name_at(place) < prefix.as_str());
        let places = self.by_name.get(start..).unwrap_or_default();
        places.iter().map_while(|&place| self.name_at(place).strip_prefix(prefix.as_str())).collect()
    }

    fn name_at(&self, place: (u32, u32)) -> &str {
        self.at(place).map_or("", |(_, info)| info.name.as_str())
    }

    fn exactly(&self, name: &str, kind: &str, parts: &[&str], required: &[&str], optional: &[&str]) -> Result<()> {
        let within: Vec<&str> = parts.iter().map(|part| rest(part)).collect();
        self.exactly_these(&format!("{name}.{kind}"), &within, required, optional)
    }

    fn exactly_these(&self, prefix: &str, found: &[&str], required: &[&str], optional: &[&str]) -> Result<()> {
        if let Some(missing) = required.iter().find(|part| !found.contains(part)) {
            let expected = format!("{} of {prefix}", [required, optional].concat().join(", "));
            return Err(self.wrong(&format!("{prefix}.{missing}"), "is missing", &expected));
        }
        match found.iter().find(|part| !required.contains(part) && !optional.contains(part)) {
            None => Ok(()),
            Some(extra) => {
                let expected = [required, optional].concat().join(", ");
                Err(self.wrong(&format!("{prefix}.{extra}"), "is no part of its form", &expected))
            }
        }
    }

    pub(super) fn wrong(&self, name: &str, found: &str, expected: &str) -> FormatError {
        let kind = FormatErrorKind::Found { found: found.to_owned(), expected: expected.to_owned() };
        FormatError::new(&self.root, kind).item(quote::tensor(name))
    }
}

/// The part of a name before its first dot.
fn first(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The part of a name behind its first dot.
fn rest(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, rest)| rest)
}
