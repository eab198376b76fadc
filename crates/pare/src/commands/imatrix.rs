//! `pare imatrix`: how large the inputs of each matrix are, as llama.cpp keeps it.

use super::{Given, Wanted, dated, open};
use crate::cli::Imatrix as Arguments;
use crate::show;
use anyhow::Result;
use pare_engine::export::imatrix::observe;
use pare_engine::progress::Work;
use pare_engine::{Error, refuse_not_finite};
use pare_format::imatrix::ImatrixFormat;
use pare_format::write::{NewFile, refuse_inputs};
use serde_json::json;
use std::path::Path;

pub(crate) fn run(arguments: &Arguments, work: Work<'_>) -> Result<()> {
    let (path, texts) = (&arguments.output, &arguments.texts);
    let form = form(path)?;
    if texts.held_out.is_some() {
        return Err(
            Error::Refused("--held-out: nothing is measured; --text gives the text to observe".to_owned()).into()
        );
    }
    let bundle = dated(open(&arguments.model, work)?, texts);
    refuse_inputs(path, [Some(&bundle.path), texts.text.as_ref()].into_iter().flatten())?;
    let file = NewFile::create(path, arguments.force)?;
    let mut given = Given::read(texts, &bundle, Wanted { calibration: true, verification: false })?;
    refuse_not_finite(&bundle, work)?;
    let text = given.calibration(texts, &[&bundle], work)?;
    let imatrix = observe(&bundle, &text, work)?;
    file.write_whole(&imatrix.to_bytes(path, form)?)?;
    let (matrices, windows, tokens) = (imatrix.entries.len(), imatrix.chunks, imatrix.chunk_tokens);
    if arguments.json {
        return show::json(&json!({
            "written": path,
            "matrices": matrices,
            "windows": windows,
            "window_tokens": tokens,
            "text": text.origin,
        }));
    }
    let shown = path.display();
    show::print(&format!(
        "written: {shown}, {matrices} matrices, {windows} windows of {tokens} tokens: {}\n",
        text.origin
    ))
}

fn form(path: &Path) -> Result<ImatrixFormat> {
    match path.extension().and_then(|end| end.to_str()) {
        Some(end) if end.eq_ignore_ascii_case("gguf") => Ok(ImatrixFormat::Gguf),
        Some(end) if end.eq_ignore_ascii_case("dat") => Ok(ImatrixFormat::Binary),
        _ => Err(Error::Refused(format!(
            "{}: the name says in which form an importance matrix is written: give one that ends in .gguf, or in .dat for older programs",
            path.display()
        ))
        .into()),
    }
}
