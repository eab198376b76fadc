//! `pare`: find what is redundant in a language model, remove it, prove what was kept.
//!
//! The only crate that prints. Results go to the output stream, progress and errors to the error stream. Exit codes: 0 done, 1 failure,
//! 2 bad input or usage, 130 interrupted.

mod bus_error;
mod cli;
mod commands;
mod progress;
mod show;

use clap::Parser as _;
use pare_engine::progress::{Interrupt, Interrupted, Work};
use pare_kernels::isa::{Isa, Level};
use pare_kernels::pool::{Pool, default_threads};
use std::process::ExitCode;

static INTERRUPT: Interrupt = Interrupt::new();

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    bus_error::say_what_happened();
    if let Err(error) = limit_instructions() {
        show::error(&format!("{error:#}"));
        return ExitCode::from(2);
    }
    // A second Ctrl-C ends the process at once: nothing half-written is visible before its rename.
    let handler = ctrlc::set_handler(|| {
        if INTERRUPT.check().is_err() {
            std::process::exit(130);
        }
        INTERRUPT.set();
    });
    if let Err(error) = handler {
        show::error(&format!("cannot listen for Ctrl-C ({error}); going on without"));
    }
    let most = default_threads();
    let asked = cli.threads.map_or(most, usize::from);
    let threads = if asked > 4 * most { most } else { asked };
    if threads != asked {
        show::error(&format!("--threads {asked}: this machine has {most}; using {threads}"));
    }
    let pool = Pool::new(threads);
    let bars = progress::Bars::new(cli.quiet);
    let work = Work { pool: &pool, progress: &bars, interrupt: &INTERRUPT };
    match commands::run(cli.command, work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            bars.clear();
            if show::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            show::error(&format!("{error:#}"));
            ExitCode::from(code(&error))
        }
    }
}

/// `PARE_ISA=portable` and the like use fewer instructions than the machine has: for comparisons, the results are the same.
fn limit_instructions() -> anyhow::Result<()> {
    let Some(asked) = std::env::var_os("PARE_ISA") else { return Ok(()) };
    let level = asked.to_str().and_then(Level::named);
    let names = Level::ALL.map(Level::name).join(", ");
    let level = level.ok_or_else(|| anyhow::anyhow!("PARE_ISA={}: expected one of {names}", asked.display()))?;
    let used = Isa::limit(level);
    anyhow::ensure!(used.level() == level, "PARE_ISA={}: this machine has {}", level.name(), used.name());
    Ok(())
}

fn code(error: &anyhow::Error) -> u8 {
    let interrupted = |error: &pare_engine::Error| matches!(error, pare_engine::Error::Interrupted(_));
    let engine = error.downcast_ref::<pare_engine::Error>();
    let format = error.downcast_ref::<pare_format::FormatError>();
    if engine.is_some_and(interrupted) || error.downcast_ref::<Interrupted>().is_some() {
        return 130;
    }
    let bad_input = engine.map(pare_engine::Error::is_bad_input).or(format.map(pare_engine::is_bad_file));
    if bad_input == Some(true) { 2 } else { 1 }
}
