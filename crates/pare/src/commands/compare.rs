//! `pare compare`: every recipe on one model, and models that are there already, beside each other.

mod table;

use super::{Given, Wanted, dated, memory, off_grid, open, told, window};
use crate::cli::Compare;
use crate::show;
use anyhow::Result;
use pare_engine::compare::{Comparison, Done, Recipes, Request, check_folder, keeps, models, recipes, run as compare};
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
    let Some(reference) = arguments.model.as_ref().or(arguments.against.as_ref()) else {
        let ways =
            "give MODEL to run recipes on it, or --models and --against to measure models that are there already";
        return Err(Error::Refused(ways.to_owned()).into());
    };
    let cuts = arguments.against.is_none();
    let bundle = dated(off_grid(open(reference, work)?, arguments.off_grid)?, &arguments.texts);
    let context = window(texts, &bundle);
    let models = told(models(&arguments.models, &bundle, context, work)?);
    let folder = &arguments.output;
    let inputs = [Some(&bundle.path), texts.text.as_ref(), texts.held_out.as_ref()].into_iter().flatten();
    refuse_inputs(folder, inputs.chain(models.iter().map(|model| &model.bundle.path)))?;
    let files = Files::create(folder)?;
    let mut given = Given::read(texts, &bundle, Wanted { calibration: cuts, verification: true })?;
    let all = std::iter::once(&bundle).chain(models.iter().map(|model| &model.bundle));
    all.into_iter().try_for_each(|bundle| refuse_not_finite(bundle, work))?;
    let calibration = if cuts { Some(given.calibration(texts, &[&bundle], work)?) } else { None };
    let verification = given.verification(texts, calibration.as_ref(), &bundle, work)?;
    let recipes = calibration.as_ref().map(|calibration| Recipes { list: &recipes, keeps: &keeps, calibration });
    let weigh = |path: &Path| memory::of(path, work.pool.threads());
    let request = Request {
        bundle: &bundle,
        recipes,
        models: &models,
        verification: &verification,
        context,
        probes: arguments.probes,
        speed: !arguments.no_speed,
        weigh: Some(&weigh),
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
    for corrupt in &done.corrupt {
        show::remark(&format!("note: {corrupt}; measured anew"));
    }
    show::remark(&format!("measured now: {}; found from earlier runs: {}", done.computed, done.found));
}
