//! How far the predictions of changed models are from those of the original, on a little text: what every search measures.

use crate::Error;
use crate::progress::Work;
use crate::residual::{Checkpoints, ResidualStream};
use pare_kernels::pool::Pool;
use pare_methods::metric::divergence::kl;
use pare_model::forward::logits_of;
use pare_model::model::Model;

/// Rows of logits of a changed model that are held at once.
const ROWS: usize = 64;

/// The original's predictions on windows of text.
pub(crate) struct DivergenceProbe {
    windows: Vec<Vec<u32>>,
    /// The tokens after which predictions are compared, numbered through all windows.
    rows: Vec<usize>,
    /// Logits of the original there, `[rows, V]`.
    reference: Vec<f32>,
}

impl DivergenceProbe {
    /// Remembers what `original` predicts after the tokens `rows`, given its stream behind the last block on `windows`.
    pub(crate) fn new(
        original: &Model,
        windows: Vec<Vec<u32>>,
        rows: Vec<usize>,
        stream: &ResidualStream,
        pool: &Pool,
    ) -> Self {
        let mut reference = Vec::with_capacity(rows.len() * original.architecture.vocab);
        for rows in rows.chunks(ROWS) {
            reference.append(&mut logits_of(original, &stream.rows(rows), pool));
        }
        Self { windows, rows, reference }
    }

    /// Mean divergence of `changed`, in nats per compared token. Blocks that it shares with the model of `checkpoints`, from the first on, are
    /// not run again: they are of the same windows.
    ///
    /// # Errors
    /// The user stops it.
    pub(crate) fn divergence(
        &self,
        changed: &Model,
        checkpoints: Option<&mut Checkpoints<'_>>,
        work: Work<'_>,
    ) -> Result<f64, Error> {
        let mut whole;
        let (first, stream) = match checkpoints.and_then(|checkpoints| checkpoints.resume(changed)) {
            Some(resumed) => resumed,
            None => {
                whole = ResidualStream::embed(changed, &self.windows);
                (0, &mut whole)
            }
        };
        stream.advance_through(&changed.blocks, first, work)?;
        let (vocab, mut sum) = (changed.architecture.vocab, 0.0);
        for (rows, reference) in self.rows.chunks(ROWS).zip(self.reference.chunks(ROWS * vocab)) {
            let logits = logits_of(changed, &stream.rows(rows), work.pool);
            let pairs = reference.chunks_exact(vocab).zip(logits.chunks_exact(vocab));
            pairs.for_each(|(reference, logits)| sum += kl(reference, logits));
        }
        Ok(sum / self.rows.len().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Interrupt, Silent};
    use pare_format::directory::ModelDirectory;
    use pare_methods::metric::Divergence;
    use pare_model::load::from_directory;
    use std::path::Path;

    static NEVER: Interrupt = Interrupt::new();

    #[test]
    fn what_is_not_run_again_changes_no_bit() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/families/llama-tied");
        let model = from_directory(&ModelDirectory::open(folder).unwrap()).unwrap().model;
        let windows: Vec<Vec<u32>> =
            (0..3).map(|text: u32| (0..70).map(|at| (text * 31 + at * 17) % 128).collect()).collect();
        let pool = Pool::new(2);
        let work = Work { pool: &pool, progress: &Silent, interrupt: &NEVER };
        let mut checkpoints = Checkpoints::of(&model, &windows, work).unwrap();
        let rows: Vec<usize> = (1..210).step_by(2).collect();
        let end = checkpoints.before(model.blocks.len()).clone();
        let probe = DivergenceProbe::new(&model, windows.clone(), rows.clone(), &end, &pool);
        let mut changed = model.clone();
        changed.blocks[1].ffn = None;
        let resumed = probe.divergence(&changed, Some(&mut checkpoints), work).unwrap();
        assert_eq!(probe.divergence(&changed, None, work).unwrap(), resumed);
        let mut stream = ResidualStream::embed(&changed, &windows);
        stream.advance_through(&changed.blocks, 0, work).unwrap();
        let [before, after] =
            [(&model, &end), (&changed, &stream)].map(|(model, stream)| logits_of(model, stream.x(), &pool));
        let mut divergence = Divergence::default();
        for row in rows {
            divergence.add(&before[row * 128..(row + 1) * 128], &after[row * 128..(row + 1) * 128]);
        }
        assert!(resumed > 1e-3, "{resumed}");
        assert_eq!(divergence.mean(), Some(resumed));
        assert!(probe.divergence(&model, Some(&mut checkpoints), work).unwrap() < 1e-7);
    }
}
