//! Models split over several files.

use std::borrow::Borrow;

use super::Gguf;
use crate::{FormatError, FormatErrorKind as Kind, Result};

/// Which part of a split model a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Position of this part, from 0.
    pub no: u64,
    /// Number of parts, at least 2.
    pub count: u64,
    /// Number of tensors over all parts, when the file says so.
    pub tensors: Option<u64>,
}

impl Gguf {
    /// Which part this file is, or `None` when it is a whole model.
    ///
    /// # Errors
    /// When the keys contradict each other.
    pub fn split(&self) -> Result<Option<Split>> {
        let Some(count) = self.opt_u64("split.count")? else { return Ok(None) };
        if count < 2 {
            return Ok(None);
        }
        let no = self.u64("split.no")?;
        if no >= count {
            let kind =
                Kind::Found { found: format!("part {no} of {count}"), expected: "a part below split.count".into() };
            return Err(self.error("split.no", kind));
        }
        Ok(Some(Split { no, count, tensors: self.opt_u64("split.tensors.count")? }))
    }
}

/// Checks that `parts` are all the parts of one model, in any order; returns their positions in part order.
///
/// # Errors
/// Names the missing, repeated or foreign part.
pub fn check_split<P: Borrow<Gguf>>(parts: &[P]) -> Result<Vec<usize>> {
    let parts: Vec<&Gguf> = parts.iter().map(Borrow::borrow).collect();
    let Some(&first) = parts.first() else {
        return Err(FormatError::new("", Kind::Absent { expected: "at least one part" }));
    };
    let fail =
        |part: &Gguf, key: &str, found: String, expected: String| Err(part.error(key, Kind::Found { found, expected }));
    let mut order: Vec<Option<usize>> = Vec::new();
    let mut total = 0_u64;
    let mut declared = None;
    let mut names: Vec<(&str, &Gguf)> = Vec::new();
    let count = first.split()?.map_or(1, |s| s.count);
    if count != parts.len() as u64 {
        return fail(
            first,
            "split.count",
            format!("{count} parts declared, {} given", parts.len()),
            "all parts".into(),
        );
    }
    order.resize(parts.len(), None);
    for (at, &part) in parts.iter().enumerate() {
        let split = part.split()?.unwrap_or(Split { no: 0, count: 1, tensors: None });
        if split.count != count {
            let expected = format!("{count} as in {}", first.file().display());
            return fail(part, "split.count", format!("{} parts", split.count), expected);
        }
        let slot = usize::try_from(split.no).ok().and_then(|no| order.get_mut(no));
        match slot {
            Some(slot @ None) => *slot = Some(at),
            _ => {
                let found = format!("part {} is given twice", split.no.saturating_add(1));
                return fail(part, "split.no", found, format!("each of the {count} parts once"));
            }
        }
        let (here, there) = (part.opt_str("general.architecture")?, first.opt_str("general.architecture")?);
        if let (Some(here), Some(there)) = (here, there)
            && here != there
        {
            let expected = format!("{there:?} as in {}", first.file().display());
            return fail(part, "general.architecture", format!("{here:?}"), expected);
        }
        if let Some(tensors) = split.tensors
            && *declared.get_or_insert(tensors) != tensors
        {
            let expected = format!("{} as in the other parts", declared.unwrap_or(0));
            return fail(part, "split.tensors.count", format!("{tensors}"), expected);
        }
        total = total.saturating_add(part.tensors().len() as u64);
        names.extend(part.tensors().iter().map(|t| (t.name.as_str(), part)));
    }
    if let Some(tensors) = declared
        && tensors != total
    {
        return fail(first, "split.tensors.count", format!("{tensors} tensors"), format!("{total}, as the parts hold"));
    }
    names.sort_by_key(|n| n.0);
    for pair in names.windows(2) {
        if let [a, b] = pair
            && a.0 == b.0
        {
            let kind =
                Kind::Found { found: format!("also in {}", a.1.file().display()), expected: "one part only".into() };
            return Err(FormatError::new(b.1.file(), kind).item(format!("tensor {:?}", b.0)));
        }
    }
    Ok(order.into_iter().flatten().collect())
}
