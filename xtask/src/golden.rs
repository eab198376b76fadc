//! The goldens that pare writes itself: figures of the real model, updated on purpose and read in review.

use crate::check;
use crate::project::{Project, run};
use anyhow::Result;

/// Files under `goldens/` that come from pare, not from a script beside them.
pub(crate) const OWN: &[&str] = &["goldens/end-to-end.tsv", "goldens/end-to-end/run.txt"];

/// Lets the end-to-end tests write what they found, and shows what changed.
pub(crate) fn update(project: &Project) -> Result<()> {
    let mut tests = check::prepared(project, &["--test", "end_to_end"])?;
    run(tests.env("PARE_UPDATE_GOLDENS", "1"))?;
    run(project.command("git").args(["--no-pager", "diff", "--stat", "--"]).args(OWN))
}
