//! Rows of a tensor to bytes, in pieces that fit in memory, shared among threads.

use super::ggml_type;
use pare_kernels::blocks::RowType;
use pare_kernels::pool::Pool;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Numbers that are encoded between two looks at the user's wish to stop.
const CHUNK: usize = 1 << 22;
/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 15;

/// A matrix to be encoded.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// For messages.
    pub(crate) name: &'a str,
    pub(crate) columns: usize,
    pub(crate) ty: RowType,
    /// Decodes a row.
    pub(crate) row: &'a (dyn Fn(usize, &mut [f32]) + Sync),
    /// The bytes of a row, when they are there already: encoding again could only lose.
    pub(crate) stored: &'a (dyn Fn(usize) -> Option<&'a [u8]> + Sync),
    /// How much errors of each column count, when that is known.
    pub(crate) weights: Option<&'a [f32]>,
}

/// The rows of a tensor in pieces.
pub(crate) struct Chunks {
    next: usize,
    rows: usize,
    each: usize,
}

impl Chunks {
    pub(crate) fn of([rows, columns]: [usize; 2]) -> Self {
        Self { next: 0, rows, each: (CHUNK / columns.max(1)).max(1) }
    }
}

impl Iterator for Chunks {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rows = self.next..(self.next + self.each).min(self.rows);
        self.next = rows.end;
        (!rows.is_empty()).then_some(rows)
    }
}

/// The bytes that one thread fills, and how it went.
type Piece<'a> = (&'a mut [u8], Result<(), String>);

/// Encodes `rows` of `matrix` into `buffer`, which is overwritten.
///
/// # Errors
/// The first number that the type cannot hold.
pub(crate) fn rows(matrix: &Matrix<'_>, rows: Range<usize>, buffer: &mut Vec<u8>, pool: &Pool) -> Result<(), String> {
    let columns = matrix.columns;
    let row_bytes = columns / matrix.ty.values_per_block() * matrix.ty.bytes_per_block();
    buffer.clear();
    buffer.resize(rows.len() * row_bytes, 0);
    let each = (PIECE / columns.max(1)).max(1);
    let pieces: Vec<Mutex<Piece<'_>>> =
        buffer.chunks_mut(each * row_bytes).map(|bytes| Mutex::new((bytes, Ok(())))).collect();
    pool.run(pieces.len(), &|index| {
        let mut piece = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, outcome) = &mut *piece;
        let mut values = vec![0.0; columns];
        let mut counts = vec![0.0; columns];
        for (row, bytes) in (rows.start + index * each..).zip(bytes.chunks_mut(row_bytes)) {
            (matrix.row)(row, &mut values);
            if let Err(why) = check(matrix, row, &values) {
                *outcome = Err(why);
                return;
            }
            match ((matrix.stored)(row), matrix.weights, matrix.ty) {
                (Some(stored), ..) => bytes.copy_from_slice(stored),
                (None, Some(weights), RowType::Blocks(ty)) => {
                    of_row(&values, weights, &mut counts);
                    ty.encode_weighted(&values, &counts, bytes);
                }
                (None, _, ty) => ty.encode(&values, bytes),
            }
        }
    });
    pieces.into_iter().try_for_each(|piece| piece.into_inner().unwrap_or_else(PoisonError::into_inner).1)
}

/// How much the errors of a row count: by the column's weight and, large values more, by their magnitude above a floor of the row's root mean
/// square, as llama.cpp's quantiser has it.
fn of_row(values: &[f32], weights: &[f32], counts: &mut [f32]) {
    let square = values.iter().map(|value| value * value).sum::<f32>() / values.len().max(1) as f32;
    for ((count, value), weight) in counts.iter_mut().zip(values).zip(weights) {
        *count = weight * (square + value * value).sqrt();
    }
}

fn check(matrix: &Matrix<'_>, row: usize, values: &[f32]) -> Result<(), String> {
    let most = matrix.ty.largest();
    let Some(at) = values.iter().position(|value| !(value.is_finite() && value.abs() <= most)) else { return Ok(()) };
    let (value, ty) = (values[at], ggml_type(matrix.ty).name());
    let what = if value.is_finite() { "too large" } else { "not a finite number" };
    let hint = match matrix.ty {
        RowType::F32 | RowType::Bf16 => "",
        _ if value.is_finite() => "; bf16 and f32 can hold it",
        _ => "",
    };
    let name = matrix.name;
    Err(format!("tensor {name:?}: row {row}, column {at} is {value}, {what} for {ty} (at most {most}){hint}"))
}
