//! `pare export`: a model as one GGUF file.

use super::{off_grid, open};
use crate::cli::Export as Arguments;
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::export::{Export, Target};
use pare_engine::progress::Work;
use pare_format::write::{NewFile, refuse_inputs};

pub(crate) fn run(arguments: &Arguments, work: Work<'_>) -> Result<()> {
    let Some(target) = Target::find(&arguments.gguf) else {
        let known = Target::names().collect::<Vec<_>>().join(", ");
        return Err(Error::Refused(format!("--gguf {}: no such type; there are {known}", arguments.gguf)).into());
    };
    let bundle = off_grid(open(&arguments.model, work)?, arguments.off_grid)?;
    refuse_inputs(&arguments.output, [&bundle.path])?;
    let export = Export::plan(&bundle, target)?;
    for note in export.notes() {
        show::remark(&format!("note: {note}"));
    }
    let written = export.write(NewFile::create(&arguments.output, arguments.force)?, work)?;
    if arguments.json {
        return show::json(&serde_json::to_value(&written)?);
    }
    let types: Vec<String> = written.tensors.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let (file, size) = (arguments.output.display(), written.bytes);
    show::print(&format!(
        "written: {file}, {size} bytes, architecture {}, {}\n",
        written.architecture,
        types.join(", ")
    ))
}
