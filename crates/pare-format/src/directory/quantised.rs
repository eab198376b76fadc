//! Which tensors of a directory that another tool quantised make which weight.

use super::{ModelDirectory, StorageForm};
use crate::config::Packing;
use crate::error::Result;

/// Scales of activations: they change nothing where activations are not rounded.
const OF_ACTIVATIONS: [&str; 2] = ["input_scale", "output_scale"];

impl ModelDirectory {
    /// The name of the weight that the tensor `name` is a part of, when it is spelt as a part of a quantised matrix; itself otherwise.
    pub(super) fn owner_of_part(&self, packing: Packing, name: &str) -> String {
        let (required, optional) = packing.parts();
        match name.rsplit_once('.') {
            Some((module, part)) if [required, optional, &OF_ACTIVATIONS].concat().contains(&part) => {
                format!("{module}.weight")
            }
            _ => name.to_owned(),
        }
    }

    /// Whether the tensor `name` is a bias of zeros that the model does not have: older tools write one for every matrix.
    pub(super) fn is_idle_bias(&self, name: &str) -> bool {
        name.ends_with(".bias") && self.tensor(name).is_some_and(|view| view.bytes.iter().all(|byte| *byte == 0))
    }

    /// How the matrix `name` is kept in a directory whose matrices may be packed as `packing` says.
    ///
    /// # Errors
    /// `Found`, naming the tensor: none of its parts is there, one too few, or one beside a plain weight.
    pub(super) fn quantised_form(&self, name: &str, packing: Packing) -> Result<StorageForm> {
        let module = name.strip_suffix("weight").unwrap_or(name);
        let (required, optional) = packing.parts();
        let there = |part: &&&str| self.info(&format!("{module}{part}")).is_some();
        let found: Vec<&str> = required.iter().chain(optional).filter(there).copied().collect();
        let plain = self.info(name);
        let is_float = plain.is_some_and(|(_, info)| info.dtype.is_float() && info.dtype.bits() > 8);
        match (found.as_slice(), plain) {
            ([] | ["weight"], Some(_)) if is_float => return Ok(StorageForm::Plain),
            (parts, Some(_)) if is_float => {
                let part = parts.iter().find(|part| **part != "weight").unwrap_or(&"weight");
                let expected = "parts of a quantised matrix, or the matrix, not both";
                return Err(self.wrong(&format!("{module}{part}"), &format!("stands beside {name}"), expected));
            }
            _ => {}
        }
        let scales = match packing {
            Packing::Float8 { .. } => found.iter().filter(|part| part.starts_with("weight_scale")).count(),
            _ => 1,
        };
        if let Some(missing) = required.iter().find(|part| !found.contains(part)) {
            let expected = format!("{} of a quantised matrix, or {name}", required.join(", "));
            return Err(self.wrong(&format!("{module}{missing}"), "is missing", &expected));
        }
        if scales != 1 {
            let found = format!("has {scales} tensors of scales");
            return Err(self.wrong(name, &found, "weight_scale or weight_scale_inv beside it"));
        }
        Ok(StorageForm::Quantised(packing))
    }
}
