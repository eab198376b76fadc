//! Why a matrix cannot be stored without its zeros, or stored parts are none.

use std::fmt;

/// The rule that a matrix or its stored parts break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SparseError {
    /// More than 2 of 4 consecutive inputs are not zero.
    NotTwoOfFour {
        /// The output.
        row: usize,
        /// The group of 4 inputs.
        group: usize,
        /// Inputs of the group that are not zero.
        found: usize,
    },
    /// Columns are stored in 16 bits.
    TooManyInputs {
        /// Inputs of the matrix.
        inputs: usize,
    },
    /// A value is not finite, or beyond 127 times the largest f16.
    Range {
        /// The output.
        row: usize,
        /// The run of 32 inputs, or of 32 kept columns.
        run: usize,
    },
    /// The shape has more values than memory has addresses.
    TooLarge,
    /// A part is too short or too long for the shape.
    Length {
        /// Which part.
        part: &'static str,
        /// Its length.
        found: usize,
        /// The length that belongs to the shape.
        expected: usize,
    },
    /// The two positions of a group do not ascend, or bits behind the last group are set.
    Positions {
        /// The output.
        row: usize,
        /// The group of 4 inputs.
        group: usize,
    },
    /// A value that is not zero stands behind the last input or output.
    Padding {
        /// The output, which may be past the last.
        row: usize,
        /// The group of 4 inputs, or the kept column.
        at: usize,
    },
    /// The offsets do not begin with 0, or do not ascend.
    Offsets {
        /// The group of 8 outputs.
        group: usize,
    },
    /// The columns of a group do not ascend, or are not below the number of inputs.
    Columns {
        /// The group of 8 outputs.
        group: usize,
        /// The place in the columns.
        at: usize,
    },
    /// A scale is not finite.
    Scale {
        /// The place in the scales.
        at: usize,
    },
}

impl fmt::Display for SparseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SparseError::NotTwoOfFour { row, group, found } => {
                let (first, last) = (4 * group, 4 * group + 3);
                write!(f, "row {row}: {found} of the inputs {first} to {last} are not zero, at most 2 may be")
            }
            SparseError::TooManyInputs { inputs } => {
                write!(f, "{inputs} inputs, but columns are stored in 16 bits: at most 65536")
            }
            SparseError::Range { row, run } => {
                write!(
                    f,
                    "row {row}, run {run} of 32: a value is not finite or too large for an 8-bit integer times an f16"
                )
            }
            SparseError::TooLarge => write!(f, "the shape has more values than memory has addresses"),
            SparseError::Length { part, found, expected } => write!(f, "{found} {part}, the shape has {expected}"),
            SparseError::Positions { row, group } => {
                write!(f, "row {row}, group {group}: the two positions of 4 do not ascend, or padding is not zero")
            }
            SparseError::Padding { row, at } => {
                write!(f, "row {row}, place {at}: a value behind the last input or output is not zero")
            }
            SparseError::Offsets { group } => {
                write!(f, "group {group}: offsets must begin with 0 and ascend by at most the number of inputs")
            }
            SparseError::Columns { group, at } => {
                write!(f, "group {group}, column {at}: columns must ascend and be below the number of inputs")
            }
            SparseError::Scale { at } => write!(f, "scale {at} is not finite"),
        }
    }
}

impl std::error::Error for SparseError {}
