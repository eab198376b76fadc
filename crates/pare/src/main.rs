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
use progress::Stages;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

static INTERRUPT: Interrupt = Interrupt::new();
static STAGES: OnceLock<Stages> = OnceLock::new();

/// How long the work may take to stop by itself: a decomposition or a silent network does not look whether it should.
const GRACE: Duration = Duration::from_millis(1500);
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    bus_error::say_what_happened();
    if let Err(error) = limit_instructions() {
        show::error(&show::told(&error));
        return ExitCode::from(2);
    }
    let stages = STAGES.get_or_init(|| Stages::new(cli.quiet));
    let handler = ctrlc::set_handler(|| {
        if INTERRUPT.check().is_err() {
            end_at_once();
        }
        INTERRUPT.set();
        // Without a thread the work still stops where it looks.
        let _ = std::thread::Builder::new().spawn(|| {
            std::thread::sleep(GRACE);
            end_at_once();
        });
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
    let work = Work { pool: &pool, progress: stages, interrupt: &INTERRUPT };
    match commands::run(cli.command, cli.quiet, work) {
        Ok(()) if INTERRUPT.check().is_err() => {
            show::error("interrupted when the work was done; what was written is whole");
            ExitCode::from(INTERRUPTED)
        }
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stages.clear();
            if show::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            show::error(&show::told(&error));
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

/// Ends the process wherever it is. What is not finished is removed; what has its name stays.
fn end_at_once() -> ! {
    pare_format::write::abandon();
    if let Some(stages) = STAGES.get() {
        stages.clear();
    }
    show::error("interrupted");
    std::process::exit(INTERRUPTED.into());
}

fn code(error: &anyhow::Error) -> u8 {
    let interrupted = |error: &pare_engine::Error| matches!(error, pare_engine::Error::Interrupted(_));
    let engine = error.downcast_ref::<pare_engine::Error>();
    let format = error.downcast_ref::<pare_format::FormatError>();
    // What else fails after an interruption fails because of it.
    let stopped = engine.is_some_and(interrupted) || error.downcast_ref::<Interrupted>().is_some();
    if stopped || INTERRUPT.check().is_err() {
        return INTERRUPTED;
    }
    let bad_input = engine.map(pare_engine::Error::is_bad_input).or(format.map(pare_engine::is_bad_file));
    if bad_input == Some(true) { 2 } else { 1 }
}
