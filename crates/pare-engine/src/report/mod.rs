//! The report: everything measured in one run, as data and as one self-contained HTML file.

mod axis;
mod bars;
mod compared;
mod curves;
#[cfg(test)]
mod examples;
mod html;
mod labels;
mod number;
mod pareto;
mod picture;
mod redundancy;
mod summary;
mod tables;
mod text;

use crate::Error;
use crate::figures::Report;
pub use compared::render_comparison;

/// The report as a file.
///
/// # Errors
/// The template fails, which is a mistake in pare.
pub fn html(report: &Report) -> Result<String, Error> {
    html::render(report)
        .map_err(|error| Error::Refused(format!("the report could not be rendered ({error}); please report this")))
}
