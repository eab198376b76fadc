//! The tensors of the file: names, shapes, and where each row comes from.

use super::architecture::{Architecture, Part, STAND_IN_CHANNELS};
use super::ggml_type;
use pare_format::config::Scaling;
use pare_format::gguf::TensorSpec;
use pare_format::map::Bytes;
use pare_kernels::blocks::RowType;
use pare_model::model::Model;
use pare_model::rope::divisors;
use pare_model::weight::{Linear, Weight};

/// Where the numbers of a tensor are.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// A weight; `interleaved` is the width D of a head whose two halves alternate in the file.
    Weight { weight: &'a dyn Weight, interleaved: Option<usize> },
    /// These numbers.
    Vector(Vec<f32>),
    /// This number everywhere.
    Fill(f32),
    /// Bytes of another file, in the type of the tensor.
    Copied(Bytes),
}

/// What the choice of types asks of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The token embedding.
    Embedding,
    /// The output head.
    Head,
    /// The value projection.
    Values,
    /// The down projection.
    Down,
    /// Any other matrix.
    Other,
    /// Norms, biases, factors of rotary positions.
    Vector,
}

/// One tensor of the file.
#[derive(Debug)]
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    pub(super) role: Role,
    /// `[out, in]`; a vector is one row.
    pub(super) shape: [usize; 2],
    pub(super) source: Source<'a>,
    /// How it is stored; chosen after the list is complete.
    pub(super) ty: RowType,
    /// How much errors of each column count, when an importance matrix says so.
    pub(super) weights: Option<Vec<f32>>,
}

impl Tensor<'_> {
    pub(super) fn is_matrix(&self) -> bool {
        self.role != Role::Vector
    }

    pub(super) fn is_copied(&self) -> bool {
        matches!(self.source, Source::Copied(_))
    }

    /// Whether its numbers went through a quantiser before.
    pub(super) fn is_from_blocks(&self) -> bool {
        match &self.source {
            Source::Weight { weight, .. } => matches!(as_read(*weight), RowType::Blocks(_) | RowType::Read(_)),
            Source::Copied(_) => matches!(self.ty, RowType::Blocks(_) | RowType::Read(_)),
            _ => false,
        }
    }

    pub(super) fn spec(&self) -> TensorSpec {
        let [rows, columns] = self.shape;
        let shape = if self.is_matrix() { vec![columns, rows] } else { vec![columns] };
        TensorSpec { name: self.name.clone(), ggml_type: ggml_type(self.ty), shape }
    }

    /// The bytes of row `row` of the file, when the weight has them in the tensor's type.
    pub(super) fn stored_row(&self, row: usize) -> Option<&[u8]> {
        let Source::Weight { weight, interleaved } = &self.source else { return None };
        let stored = weight.as_stored()?;
        let element = stored.element();
        let same = element.is_quantised() && element.row_type() == self.ty;
        same.then(|| stored.row_bytes(model_row(row, *interleaved)))
    }

    /// Decodes row `row` of the file.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        match &self.source {
            Source::Weight { weight, interleaved } => weight.decode_row(model_row(row, *interleaved), out),
            Source::Vector(values) => out.copy_from_slice(values),
            Source::Fill(value) => out.fill(*value),
            // Copied whole.
            Source::Copied(_) => {}
        }
    }
}

/// The type in which a file holds every number of a weight as it is: that of the bytes it was read from, f32 for what has none.
pub(super) fn as_read(weight: &dyn Weight) -> RowType {
    weight.as_stored().map_or(RowType::F32, |stored| stored.element().row_type())
}

/// The row of the model that row `row` of the file is: rows `2i` and `2i + 1` of a head are its rows `i` and `i + D/2`.
fn model_row(row: usize, interleaved: Option<usize>) -> usize {
    let Some(width) = interleaved else { return row };
    let within = row % width;
    row - within + within / 2 + within % 2 * (width / 2)
}

/// Puts the list together.
struct List<'a> {
    tensors: Vec<Tensor<'a>>,
}

impl<'a> List<'a> {
    fn push(&mut self, name: String, role: Role, shape: [usize; 2], source: Source<'a>) {
        self.tensors.push(Tensor { name, role, shape, source, ty: RowType::F32, weights: None });
    }

    fn matrix(&mut self, name: &str, role: Role, weight: &'a dyn Weight) {
        self.push(format!("{name}.weight"), role, weight.shape(), Source::Weight { weight, interleaved: None });
    }

    fn vector(&mut self, name: String, values: &[f32]) {
        self.push(name, Role::Vector, [1, values.len()], Source::Vector(values.to_vec()));
    }

    fn fill(&mut self, name: String, role: Role, shape: [usize; 2], value: f32) {
        self.push(name, role, shape, Source::Fill(value));
    }

    /// A projection, with a bias when all of its kind have one.
    fn linear(&mut self, name: &str, role: Role, linear: &'a Linear, interleaved: Option<usize>, bias: bool) {
        let weight = linear.weight.as_ref();
        self.push(format!("{name}.weight"), role, weight.shape(), Source::Weight { weight, interleaved });
        if !bias {
            return;
        }
        match &linear.bias {
            Some(own) => {
                let turned: Vec<f32> = (0..own.len()).map(|row| own[model_row(row, interleaved)]).collect();
                self.vector(format!("{name}.bias"), &turned);
            }
            None => self.fill(format!("{name}.bias"), Role::Vector, [1, linear.outputs()], 0.0),
        }
    }

    /// A projection of zeros.
    fn zeros(&mut self, name: &str, role: Role, shape: [usize; 2], bias: bool) {
        self.fill(format!("{name}.weight"), role, shape, 0.0);
        if bias {
            self.fill(format!("{name}.bias"), Role::Vector, [1, shape[0]], 0.0);
        }
    }
}

/// Every tensor of the file, in order.
pub(super) fn list<'a>(model: &'a Model, architecture: &Architecture<'a>) -> Vec<Tensor<'a>> {
    let (hidden, head_dim) = (model.architecture.hidden, model.architecture.head_dim);
    let interleaved = architecture.interleaves().then_some(head_dim);
    let mut list = List { tensors: Vec::new() };
    list.matrix("token_embd", Role::Embedding, model.embedding.as_ref());
    for (index, layer) in architecture.layers.iter().enumerate() {
        let named = |name: &str| format!("blk.{index}.{name}");
        let (bias, output_bias) = (architecture.attention_bias, architecture.output_bias());
        match &layer.attention {
            Part::Own(part) => {
                list.vector(named("attn_norm.weight"), &part.norm);
                list.linear(&named("attn_q"), Role::Other, &part.q, interleaved, bias);
                list.linear(&named("attn_k"), Role::Other, &part.k, interleaved, bias);
                list.linear(&named("attn_v"), Role::Values, &part.v, None, bias);
                list.linear(&named("attn_output"), Role::Other, &part.o, None, output_bias);
                for (name, gain) in [("attn_q_norm.weight", &part.q_norm), ("attn_k_norm.weight", &part.k_norm)] {
                    gain.iter().for_each(|gain| list.vector(named(name), gain));
                }
            }
            Part::StandIn => {
                list.fill(named("attn_norm.weight"), Role::Vector, [1, hidden], 1.0);
                list.zeros(&named("attn_q"), Role::Other, [head_dim, hidden], bias);
                list.zeros(&named("attn_k"), Role::Other, [head_dim, hidden], bias);
                list.zeros(&named("attn_v"), Role::Values, [head_dim, hidden], bias);
                list.zeros(&named("attn_output"), Role::Other, [hidden, head_dim], output_bias);
            }
            Part::Absent => {}
        }
        let bias = architecture.ffn_bias;
        match &layer.ffn {
            Part::Own(part) => {
                list.vector(named("ffn_norm.weight"), &part.norm);
                list.linear(&named("ffn_gate"), Role::Other, &part.gate, None, bias);
                list.linear(&named("ffn_up"), Role::Other, &part.up, None, bias);
                list.linear(&named("ffn_down"), Role::Down, &part.down, None, bias);
            }
            Part::StandIn => {
                list.fill(named("ffn_norm.weight"), Role::Vector, [1, hidden], 1.0);
                list.zeros(&named("ffn_gate"), Role::Other, [STAND_IN_CHANNELS, hidden], bias);
                list.zeros(&named("ffn_up"), Role::Other, [STAND_IN_CHANNELS, hidden], bias);
                list.zeros(&named("ffn_down"), Role::Down, [hidden, STAND_IN_CHANNELS], bias);
            }
            Part::Absent => {}
        }
    }
    list.vector("output_norm.weight".to_owned(), &model.final_norm);
    if let Some(head) = &model.head {
        list.matrix("output", Role::Head, head.weight.as_ref());
    }
    if let Scaling::Llama3 { .. } | Scaling::Divisors(_) = model.architecture.rope.scaling {
        list.vector("rope_freqs.weight".to_owned(), &divisors(&model.architecture.rope, head_dim));
    }
    list.tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_alternate_by_hand() {
        let rows: Vec<usize> = (0..12).map(|row| model_row(row, Some(6))).collect();
        assert_eq!(rows, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        assert_eq!(model_row(7, None), 7);
    }
}
