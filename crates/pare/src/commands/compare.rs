//! `pare compare`: every recipe on one model, beside each other.

mod table;

use super::{Given, Wanted, dated, off_grid, open, window};
use crate::cli::Compare;
use crate::show;
use anyhow::Result;
use pare_engine::compare::{Comparison, Done, Request, check_folder, keeps, recipes, run as compare};
use pare_engine::progress::Work;
use pare_engine::report::render_comparison;
use pare_engine::{Error, refuse_not_finite};
use pare_format::write::{NewFile, refuse_inputs};
use std::path::Path;

pub(crate) fn run(arguments: &Compare, work: Work<'_>) -> Result<()> {
    // Everything that can be refused is refused before the first second of work.
    let keeps = keeps(&arguments.keep)?;
    let recipes = recipes(&arguments.recipes)?;
    let texts = &arguments.texts;
    let bundle = dated(off_grid(open(&arguments.model, work)?, arguments.off_grid)?, &arguments.texts);
    let folder = &arguments.output;
    refuse_inputs(folder, [Some(&bundle.path), texts.text.as_ref(), texts.held_out.as_ref()].into_iter().flatten())?;
    let files = Files::create(folder)?;
    let mut given = Given::read(texts, &bundle, Wanted { calibration: true, verification: true })?;
    refuse_not_finite(&bundle, work)?;
    let calibration = given.calibration(texts, &[&bundle], work)?;
    let verification = given.verification(texts, Some(&calibration), &bundle, work)?;
    let request = Request {
        bundle: &bundle,
        recipes: &recipes,
        keeps: &keeps,
        calibration: &calibration,
        verification: &verification,
        context: window(texts, &bundle),
        probes: arguments.probes,
        speed: !arguments.no_speed,
        seed: texts.seed,
        folder,
        keep_models: arguments.keep_models,
    };
    let done = compare(&request, work).inspect_err(|error| {
        if matches!(error, Error::Interrupted(_)) {
            show::remark(&format!(
                "what was measured is kept in {}; the same command goes on from there",
                folder.display()
            ));
        }
    })?;
    remarks(&done);
    // Figures that took hours are shown, whatever becomes of the files.
    let written = files.write(&done.comparison);
    if arguments.json {
        show::json(&serde_json::to_value(&done.comparison)?)?;
        return written;
    }
    show::print(&table::text(&done.comparison, arguments.sort))?;
    written?;
    show::print(&format!("\nfigures: {0}/compare.json\npage:    {0}/compare.html\n", folder.display()))
}

/// The files of a comparison, begun before the work.
struct Files {
    page: NewFile,
    /// Dropped last: with it goes the folder that was made for it.
    json: NewFile,
}

impl Files {
    fn create(folder: &Path) -> Result<Self> {
        check_folder(folder)?;
        let [json, page] = ["compare.json", "compare.html"].map(|name| NewFile::create(folder.join(name), true));
        Ok(Self { json: json?, page: page? })
    }

    fn write(self, comparison: &Comparison) -> Result<()> {
        // In the order of the fields: the first says that pare wrote it.
        self.json.write_whole(format!("{}\n", serde_json::to_string_pretty(comparison)?).as_bytes())?;
        let page = render_comparison(comparison)
            .map_err(|error| Error::Refused(format!("the page could not be rendered ({error}); please report this")))?;
        Ok(self.page.write_whole(page.as_bytes())?)
    }
}

/// What the figures do not say: how much of them was there already.
fn remarks(done: &Done) {
    for spoilt in &done.spoilt {
        show::remark(&format!("note: {spoilt}; measured anew"));
    }
    show::remark(&format!("measured now: {}; found from earlier runs: {}", done.computed, done.found));
}
