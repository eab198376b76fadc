//! The goldens that pare writes itself: figures of the real model, updated on purpose and read in review.

use crate::check;
use crate::project::{Project, run};
use crate::tidy::OWN;
use anyhow::Result;

/// Lets the end-to-end tests write what they found, and shows what changed.
pub(crate) fn update(project: &Project) -> Result<()> {
    let mut tests = check::prepared(project, &["--test", "end_to_end"])?;
    run(tests.env("PARE_UPDATE_GOLDENS", "1"))?;
    run(project.command("git").args(["--no-pager", "diff", "--stat", "--"]).args(OWN))
}
