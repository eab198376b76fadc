//! `pare run`: generate text.

use super::{fit, open};
use crate::cli::{Run, USUAL_TOKENS};
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::fit::{Fit, peak_memory};
use pare_engine::generate::continue_text;
use pare_engine::progress::Work;
use pare_format::chat::Date;
use pare_model::sample::{Sampler, Sampling};
use serde_json::json;
use std::time::{Instant, SystemTime};

pub(crate) fn run(arguments: &Run, quiet: bool, work: Work<'_>) -> Result<()> {
    let sampling = sampling(arguments)?;
    let mut bundle = open(&arguments.model, work)?;
    bundle.tokenizer = bundle.tokenizer.with_date(arguments.date.unwrap_or_else(today));
    let prompt = match arguments.chat {
        true => bundle.prompt(&arguments.prompt, true)?,
        false => bundle.raw_prompt(&arguments.prompt, arguments.special)?,
    };
    bundle.check_length(&prompt, 1)?;
    let context = bundle.model.architecture.context;
    let limit = arguments.tokens.min(context - prompt.len());
    let pack = arguments.weights.pack();
    let fit = Fit::of(&bundle, pack, prompt.len(), prompt.len() + limit, work.pool.threads());
    if !quiet {
        show::remark(&fit::line(&bundle.name, &fit));
    }
    let model = bundle.model.packed(pack, work.pool);
    let mut sampler = Sampler::new(sampling, arguments.seed);
    let mut stream = bundle.tokenizer.stream(true);
    let mut failed = None;
    let start = Instant::now();
    let written = continue_text(&model, &prompt, limit, &mut sampler, work, |token| {
        if !arguments.ignore_end && bundle.is_end(token) {
            return false;
        }
        if arguments.json {
            return true;
        }
        failed = show::print(&stream.push(token)).err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let seconds = start.elapsed().as_secs_f64();
    let full = || {
        if written.len() == limit && limit < arguments.tokens && arguments.tokens != USUAL_TOKENS {
            let (name, asked) = (&bundle.name, arguments.tokens);
            show::remark(&format!("note: --tokens {asked}: the context of {name} is {context}; it is full"));
        }
    };
    if arguments.json {
        full();
        let text = bundle.tokenizer.decode(&written, true);
        let figures = json!({
            "text": text, "tokens": written, "prompt_tokens": prompt.len(), "seconds": seconds,
            "fit": fit, "peak_memory_bytes": peak_memory(),
        });
        return show::json(&figures);
    }
    show::print(&(stream.finish() + "\n"))?;
    full();
    Ok(())
}

/// The day, in UTC.
fn today() -> Date {
    #[expect(clippy::disallowed_methods, reason = "a chat template may ask for the day, and --date fixes it")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Date::of_seconds(since.as_secs())
}

fn sampling(arguments: &Run) -> Result<Sampling> {
    let Run { temperature, top_k, top_p, min_p, .. } = *arguments;
    let refuse = |option: &str, value: f32, range: &str| {
        Err(Error::Refused(format!("{option} {value}: expected {range}")).into())
    };
    if !(0.0..=100.0).contains(&temperature) {
        return refuse("--temperature", temperature, "0 to 100");
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return refuse("--top-p", top_p, "a number above 0, at most 1");
    }
    if !(0.0..=1.0).contains(&min_p) {
        return refuse("--min-p", min_p, "0 to 1");
    }
    Ok(Sampling { temperature, top_k, top_p, min_p })
}
