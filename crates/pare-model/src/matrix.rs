//! A dense f32 matrix: what methods read and write.

/// Row-major `[rows, cols]` matrix of `f32`.
///
/// Weights are `[out, in]`: row `o` holds the weights of output `o`.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Matrix {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// Takes `data` as `[rows, cols]`, row by row.
    ///
    /// # Panics
    /// When `data.len() != rows * cols`: a programmer's mistake.
    #[track_caller]
    pub fn from_vec(rows: usize, cols: usize, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), rows * cols, "a [{rows}, {cols}] matrix needs {} values", rows * cols);
        Self { rows, cols, data }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `row`, `cols` values.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }

    /// Row `row`, writable.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.cols..(row + 1) * self.cols]
    }

    /// All values, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values, row by row, writable.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The values, row by row.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }

    /// The matrix with only `rows`, in the order given.
    pub fn select_rows(&self, rows: &[usize]) -> Self {
        let data = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { rows: rows.len(), cols: self.cols, data }
    }

    /// The matrix with only `cols`, in the order given.
    pub fn select_cols(&self, cols: &[usize]) -> Self {
        let mut data = Vec::with_capacity(self.rows * cols.len());
        for row in 0..self.rows {
            let values = self.row(row);
            data.extend(cols.iter().map(|&col| values[col]));
        }
        Self { rows: self.rows, cols: cols.len(), data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_rows_and_columns_by_hand() {
        let matrix = Matrix::from_vec(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(matrix.select_rows(&[1]).data(), &[4.0, 5.0, 6.0]);
        assert_eq!(matrix.select_cols(&[2, 0]).data(), &[3.0, 1.0, 6.0, 4.0]);
    }
}
