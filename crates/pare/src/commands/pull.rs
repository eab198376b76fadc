//! `pare pull`: a model of a hub or a built-in one, fetched by name.

use crate::cli::Pull;
use crate::show;
use anyhow::Result;
use pare_engine::Error;
use pare_engine::built_in::{BUILT_IN, find};
use pare_engine::hub::{Settings, fetch_with};
use pare_engine::progress::Work;

pub(crate) fn run(arguments: &Pull, work: Work<'_>) -> Result<()> {
    let Pull { name, revision, token } = arguments;
    let refused = |why: &str| anyhow::Error::from(Error::Refused(format!("{name}: {why}")));
    if let Some(model) = find(name) {
        if revision.is_some() || token.is_some() {
            return Err(refused("is built in: it has one revision and needs no token"));
        }
        return show::print(&format!("{}\n", model.fetch()?.display()));
    }
    let repository = name.strip_prefix("hf:").unwrap_or(name);
    if !repository.contains('/') {
        let known: Vec<&str> = BUILT_IN.iter().map(|model| model.name).collect();
        let known = known.join(", ");
        return Err(refused(&format!(
            "no built-in model; expected organisation/name of a hub, or a built-in name: {known}"
        )));
    }
    let repository = match revision {
        Some(_) if repository.contains('@') => return Err(refused("has a revision already; leave out --revision")),
        Some(revision) => format!("{repository}@{revision}"),
        None => repository.to_owned(),
    };
    let mut settings = Settings::from_environment()?;
    if let Some(token) = token {
        settings = settings.with_token(token, "--token")?;
    }
    let path = fetch_with(&repository, &settings, work.progress, work.interrupt)?;
    show::print(&format!("{}\n", path.display()))
}
