//! A Hugging Face directory.

mod forms;
mod quantised;

use super::{Loaded, Tensors, assemble, window_warning};
use crate::storage::{Element, Stored};
use crate::weight::Weight;
use pare_format::directory::ModelDirectory;
use pare_format::safetensors::{Dtype, TensorView};
use pare_format::{FormatError, FormatErrorKind, Result};
use std::sync::Arc;

/// The model in a directory.
///
/// # Errors
/// A tensor that is missing, of another shape than `config.json` says, or of a type that pare does not compute with.
pub fn from_directory(directory: &ModelDirectory) -> Result<Loaded> {
    directory.check_tensor_names()?;
    let config = directory.config().clone();
    let model = assemble(&config, directory)?;
    let mut warnings = directory.warnings().to_vec();
    warnings.extend(window_warning(&config));
    let bytes = directory.shards().iter().map(|shard| shard.file().bytes().len() as u64).sum();
    Ok(Loaded { model, config, warnings, bytes })
}

fn element(view: &TensorView, name: &str) -> Result<Element> {
    match view.dtype {
        Dtype::F32 => Ok(Element::F32),
        Dtype::F16 => Ok(Element::F16),
        Dtype::BF16 => Ok(Element::Bf16),
        other => {
            let kind =
                FormatErrorKind::Unsupported { found: other.name().to_owned(), supported: "F32, F16, BF16".into() };
            Err(FormatError::new(&view.file, kind).item(format!("tensor {name:?}")))
        }
    }
}

fn wrong_shape(view: &TensorView, name: &str, expected: &[usize]) -> FormatError {
    let (found, expected) = (format!("has shape {:?}", view.shape), format!("{expected:?}, as config.json says"));
    FormatError::new(&view.file, FormatErrorKind::Found { found, expected }).item(format!("tensor {name:?}"))
}

impl Tensors for ModelDirectory {
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Arc<dyn Weight>> {
        forms::weight(self, name, &self.form(name)?, shape)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Arc<[f32]>> {
        let view = self.require(name)?;
        if view.shape != [len] {
            return Err(wrong_shape(&view, name, &[len]));
        }
        let stored = Stored::new(element(&view, name)?, [1, len], view.bytes.clone());
        let stored = stored.ok_or_else(|| wrong_shape(&view, name, &[len]))?;
        let mut values = vec![0.0; len];
        stored.decode_row(0, &mut values);
        Ok(values.into())
    }
}
