//! `env:clone`: a new app like another one, with a choice for each of its secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use wire::platform_api::environments::CloneCreate;
use wire::platform_api::{App, ConfigVars};

use super::config::assignment;
use crate::api_client::path;
use crate::context::{Context, UsageError};
use crate::{dotenv, prompt};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Secrets {
    /// Give each the source's value
    Copy,
    /// Leave each empty
    Blank,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth env:clone shop shop-staging\n  \
                  berth env:clone shop shop-staging --secrets blank --copy SENTRY_DSN --from staging.env --yes\n\n\
                  Config vars, formation and buildpacks are taken over; domains, code and jobs are not: deploy or\n\
                  promote to the new app. What looks like a secret is asked for one by one: copy, replace, blank.\n\
                  With --yes nothing is asked, and secrets that no option names are blank.")]
pub struct Clone {
    /// The app to copy
    source: String,
    /// The name of the new app
    new: String,
    /// What to do with secrets that no other option names
    #[arg(long, value_enum)]
    secrets: Option<Secrets>,
    /// Copy this config var; may be given several times
    #[arg(long, value_name = "KEY")]
    copy: Vec<String>,
    /// Leave this config var empty; may be given several times
    #[arg(long, value_name = "KEY")]
    blank: Vec<String>,
    /// Leave this config var out; may be given several times
    #[arg(long, value_name = "KEY")]
    without: Vec<String>,
    /// Give a config var another value; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take values from a .env file
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Ask nothing
    #[arg(short, long)]
    yes: bool,
}

/// What becomes of one config var.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Choice {
    Copy,
    Set(String),
    Leave,
}

pub(super) fn clone(context: &Context, args: &Clone) -> anyhow::Result<()> {
    let client = context.client()?;
    let vars: ConfigVars = client.get(&path(&["apps", &args.source, "config-vars"]))?;
    let mut choices = named_choices(args, &vars)?;
    for (key, value) in &vars {
        if choices.contains_key(key) {
            continue;
        }
        let choice = if !is_secret(key, value) {
            Choice::Copy
        } else if let Some(secrets) = args.secrets {
            if secrets == Secrets::Copy { Choice::Copy } else { Choice::Set(String::new()) }
        } else if args.yes {
            Choice::Set(String::new())
        } else if context.is_interactive() {
            ask(key)?
        } else {
            let text = format!("{key} looks like a secret: say --copy, --blank or --set {key}, or --secrets, or --yes");
            return Err(UsageError(text).into());
        };
        choices.insert(key.clone(), choice);
    }
    let mut body = CloneCreate { name: args.new.clone(), ..CloneCreate::default() };
    let mut blank = Vec::new();
    for (key, choice) in choices {
        match choice {
            Choice::Copy => body.copy.push(key),
            Choice::Set(value) => {
                if value.is_empty() {
                    blank.push(key.clone());
                }
                body.set.insert(key, value);
            }
            Choice::Leave => {}
        }
    }
    let app: App = client.post(&path(&["berth", "apps", &args.source, "clone"]), &body)?;
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    context.out.line(format_args!(
        "Made {} like {}: {} config vars copied, {} set.",
        app.name,
        args.source,
        body.copy.len(),
        body.set.len() - blank.len()
    ))?;
    if !blank.is_empty() {
        context.out.note(format_args!(
            "Empty, to be set with `berth config:set -a {}`: {}",
            app.name,
            blank.join(", ")
        ));
    }
    Ok(())
}

fn named_choices(args: &Clone, vars: &ConfigVars) -> anyhow::Result<BTreeMap<String, Choice>> {
    let mut choices = BTreeMap::new();
    if let Some(file) = &args.from {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let values = dotenv::parse(&text).with_context(|| format!("cannot use {}", file.display()))?;
        choices.extend(values.into_iter().map(|(key, value)| (key, Choice::Set(value))));
    }
    for text in &args.set {
        let (key, value) = assignment(text)?;
        choices.insert(key, Choice::Set(value.unwrap_or_default()));
    }
    let mut named = BTreeSet::new();
    let lists = [(&args.copy, Choice::Copy), (&args.blank, Choice::Set(String::new())), (&args.without, Choice::Leave)];
    for (keys, choice) in lists {
        for key in keys {
            if !vars.contains_key(key) {
                bail!("{} has no config var {key}", args.source)
            }
            if !named.insert(key) {
                bail!("{key} is named twice; choose one of --copy, --blank, --without")
            }
            choices.insert(key.clone(), choice.clone());
        }
    }
    Ok(choices)
}

fn ask(key: &str) -> anyhow::Result<Choice> {
    loop {
        let answer = prompt::line(&format!("{key}: (c)opy, (r)eplace, (b)lank, (l)eave out? "))?;
        match answer.to_ascii_lowercase().as_str() {
            "c" | "copy" => return Ok(Choice::Copy),
            "b" | "blank" => return Ok(Choice::Set(String::new())),
            "l" | "leave out" => return Ok(Choice::Leave),
            "r" | "replace" => {
                let value = prompt::secret(&format!("{key}: "))?;
                return Ok(Choice::Set(value.into_exposed()));
            }
            "" => bail!("nothing was made"),
            _other => {}
        }
    }
}

/// Whether a value should not be in two places without a thought: by its name, or because it is an address that holds
/// a password.
fn is_secret(key: &str, value: &str) -> bool {
    const WORDS: [&str; 11] =
        ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "KEY", "PRIVATE", "CREDENTIAL", "DSN", "DATABASE", "SALT", "AUTH"];
    let key = key.to_ascii_uppercase();
    let has_password = value.split_once("://").is_some_and(|(_scheme, rest)| {
        let authority = rest.split('/').next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _host)| user.contains(':'))
    });
    WORDS.iter().any(|word| key.contains(word)) || has_password || value.contains("PRIVATE KEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names_and_their_form() {
        for (key, value) in [
            ("SECRET_KEY_BASE", "x"),
            ("STRIPE_API_KEY", "x"),
            ("github_token", "x"),
            ("REDIS_URL", "redis://:hunter2@host:6379/0"),
            ("UPSTREAM", "https://ada:hunter2@example.com"),
            ("CERT", "-----BEGIN PRIVATE KEY-----"),
            ("DATABASE_URL", "postgres:///local"),
        ] {
            assert!(is_secret(key, value), "{key}");
        }
        for (key, value) in
            [("LOG_LEVEL", "info"), ("HOST", "https://example.com/a:b@c"), ("RAILS_ENV", "production"), ("URL", "x@y")]
        {
            assert!(!is_secret(key, value), "{key}");
        }
    }
}
