//! Importance matrices: observed on calibration text, and what they say of the tensors of an export.

use super::architecture::{Architecture, refuse};
use super::mixed::NAMES;
use super::{Export, Target};
use crate::Error;
use crate::bundle::Bundle;
use crate::observe::{Needs, observe as statistics};
use crate::progress::Work;
use crate::text::Text;
use pare_format::gguf::Value;
use pare_format::imatrix::{Imatrix, Inputs};
use pare_kernels::blocks::RowType;
use pare_model::site::{Point, Projection, Site};
use pare_model::stats::Stat;
use std::path::Path;

/// The least that an input counts, as a share of the mean: values that read what was never seen are still rounded.
const LEAST: f32 = 1e-4;
/// Names that a note lists.
const NAMED: usize = 3;

/// The mean squares of what every projection of the blocks reads on `text`, under the names that an export gives the projections. Embedding and
/// head are left out, as llama-imatrix leaves them out.
///
/// # Errors
/// A model that cannot be exported; the user stops it; a sum that is not finite.
pub fn observe(bundle: &Bundle, text: &Text, work: Work<'_>) -> Result<Imatrix, Error> {
    let model = &bundle.model;
    Architecture::of(model).map_err(|why| refuse(&bundle.name, &why))?;
    let needs: Needs = (0..model.blocks.len())
        .flat_map(|block| Point::INPUTS.map(|point| (Site::new(block, point), Stat::MeanSquare)))
        .collect();
    let stats = statistics(model, &text.sequences, &needs, work)?;
    let tokens = stats.tokens() as f64;
    let mut imatrix = Imatrix {
        texts: vec![text.origin.clone()],
        chunks: text.sequences.len() as u32,
        chunk_tokens: text.sequences.iter().map(Vec::len).max().unwrap_or(0) as u32,
        ..Imatrix::default()
    };
    // Blocks without parts have no number in a file.
    let blocks = model.blocks.iter().enumerate().filter(|(_, block)| block.mixer.is_some() || block.ffn.is_some());
    for (number, (index, block)) in blocks.enumerate() {
        for (projection, name) in Projection::ALL.into_iter().zip(NAMES) {
            let means = stats.get(Site::new(index, projection.input()), Stat::MeanSquare);
            let (Some(_), Some(means)) = (block.linear(projection), means) else { continue };
            let squares = means.iter().map(|mean| (mean * tokens).min(f64::from(f32::MAX)) as f32).collect();
            let inputs = Inputs { squares, count: tokens as f32 };
            imatrix.entries.insert(format!("blk.{number}.{name}.weight"), inputs);
        }
    }
    Ok(imatrix)
}

/// How much errors of each input count, in units of their mean; none when nothing was seen, or zeros alone.
fn relative(inputs: &Inputs) -> Option<Vec<f32>> {
    let mean = inputs.squares.iter().map(|&own| f64::from(own)).sum::<f64>() / inputs.squares.len().max(1) as f64;
    let weight = |&own: &f32| (f64::from(own) / mean) as f32 + LEAST;
    (inputs.count > 0.0 && mean > 0.0).then(|| inputs.squares.iter().map(weight).collect())
}

impl Export<'_> {
    /// Lets errors count by the importance matrix that was read from `file`: the codes of every matrix that it names, and that is encoded, are
    /// chosen so that what its inputs make of the errors is small. The file says so in the keys of llama-quantize.
    ///
    /// # Errors
    /// A target without codes; an entry that fits no matrix of the model, or of another width.
    pub fn weigh(&mut self, file: &Path, imatrix: &Imatrix, target: Target) -> Result<(), Error> {
        let shown = file.display();
        if !matches!(target.row_type(), RowType::Blocks(_)) {
            let name = target.name();
            return Err(Error::Refused(format!(
                "--imatrix: {name} rounds every number alone, nothing is weighed; give q8_0, q4_k_m or the like"
            )));
        }
        let matrices = self.tensors.iter().filter(|tensor| tensor.is_matrix()).count();
        for (name, inputs) in &imatrix.entries {
            let Some(tensor) = self.tensors.iter_mut().find(|tensor| tensor.name == *name && tensor.is_matrix()) else {
                let model = self.model;
                return Err(Error::Refused(format!(
                    "{shown}: entry {name:?}: found in the importance matrix, expected one of the {matrices} matrices of {model}: it was made of another model"
                )));
            };
            let (found, expected) = (inputs.squares.len(), tensor.shape[1]);
            if found != expected {
                let model = self.model;
                return Err(Error::Refused(format!(
                    "{shown}: entry {name:?}: found {found} inputs, expected {expected} as in {model}: it was made of another model"
                )));
            }
            tensor.weights = relative(inputs);
        }
        let encoded = |weighed: bool| -> Vec<&str> {
            let own = self.tensors.iter().filter(|tensor| tensor.is_matrix() && !tensor.is_copied());
            own.filter(|tensor| tensor.weights.is_some() == weighed).map(|tensor| tensor.name.as_str()).collect()
        };
        let (weighed, alike) = (encoded(true).len(), encoded(false));
        if !alike.is_empty() {
            let more = if alike.len() > NAMED { format!(" and {} more", alike.len() - NAMED) } else { String::new() };
            let names = alike[..alike.len().min(NAMED)].join(", ");
            self.notes.push(format!("{shown} says nothing of {names}{more}: all errors count alike there"));
        }
        if weighed == 0 {
            self.notes.push(format!("{shown} changes nothing: every matrix that it names is copied as it was read"));
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.metadata.push(("quantize.imatrix.file".to_owned(), Value::text(name)));
        if let Some(text) = imatrix.texts.last() {
            self.metadata.push(("quantize.imatrix.dataset".to_owned(), Value::text(text)));
        }
        self.metadata.push(("quantize.imatrix.entries_count".to_owned(), Value::U32(imatrix.entries.len() as u32)));
        self.metadata.push(("quantize.imatrix.chunks_count".to_owned(), Value::U32(imatrix.chunks)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_relative_whatever_the_numbers() {
        let of = |squares: &[f32], count: f32| relative(&Inputs { squares: squares.to_vec(), count });
        assert_eq!(of(&[1.0, 3.0, 2.0], 7.0), Some(vec![0.5 + LEAST, 1.5 + LEAST, 1.0 + LEAST]));
        assert_eq!(of(&[f32::MAX, f32::MAX], 0.5), Some(vec![1.0 + LEAST; 2]));
        assert_eq!(of(&[1e-45, 0.0], 1.0), Some(vec![2.0 + LEAST, LEAST]));
        assert_eq!((of(&[0.0, 0.0], 1.0), of(&[1.0, 1.0], 0.0)), (None, None));
    }
}
