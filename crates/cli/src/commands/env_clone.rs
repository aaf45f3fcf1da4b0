//! `env:clone`: a new app like another one, with a choice for each of its secrets and add-ons.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use wire::platform_api::add_ons::AddOnAttachment;
use wire::platform_api::environments::{CloneAddOn, CloneCreate, CloneHow};
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
                  berth env:clone shop shop-staging --secrets blank --copy SENTRY_DSN --from staging.env --yes\n  \
                  berth env:clone shop shop-staging --add-on REDIS=attach --add-on SEARCH=leave\n\n\
                  Config vars, formation and buildpacks are taken over; domains, code and jobs are not: deploy or\n\
                  promote to the new app. What looks like a secret is asked for one by one: copy, replace, blank.\n\
                  So are add-ons: attach the same, a new one of the same plan, leave out. A new one takes its values\n\
                  from --set and --from: --set DATABASE_URL=postgres://… makes one in the place of DATABASE.\n\
                  With --yes nothing is asked: secrets that no option names are blank, add-ons are left out.")]
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
    /// What becomes of an add-on; may be given several times
    #[arg(long, value_name = "NAME=attach|new|leave")]
    add_on: Vec<String>,
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
    let mut vars: ConfigVars = client.get(&path(&["apps", &args.source, "config-vars"]))?;
    let attachments: Vec<AddOnAttachment> = client.list(&path(&["apps", &args.source, "addon-attachments"]), None)?;
    for (var, attachment) in owned(&attachments) {
        vars.remove(&var);
        if [&args.copy, &args.blank, &args.without].iter().any(|keys| keys.contains(&var)) {
            bail!("{var} belongs to an add-on: say --add-on {attachment}=attach, or {attachment}=leave")
        }
    }
    let mut choices = named_choices(args, &vars)?;
    let add_ons = add_ons(context, args, &attachments, &mut choices)?;
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
    let mut body = CloneCreate { name: args.new.clone(), add_ons, ..CloneCreate::default() };
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
        "Made {} like {}: {} config vars copied, {} set; {} of {} add-ons.",
        app.name,
        args.source,
        body.copy.len(),
        body.set.len() - blank.len(),
        body.add_ons.len(),
        attachments.len()
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

/// The config vars that belong to add-ons, each with the name of its attachment.
fn owned(attachments: &[AddOnAttachment]) -> BTreeMap<String, String> {
    let vars = |one: &AddOnAttachment| {
        let name = one.name.clone();
        one.config_vars.clone().unwrap_or_default().into_iter().map(move |var| (var, name.clone()))
    };
    attachments.iter().flat_map(vars).collect()
}

/// What becomes of each add-on. Values that were given for a new one are taken out of the choices of config vars.
fn add_ons(
    context: &Context,
    args: &Clone,
    attachments: &[AddOnAttachment],
    choices: &mut BTreeMap<String, Choice>,
) -> anyhow::Result<Vec<CloneAddOn>> {
    let mut named = named_add_ons(args, attachments)?;
    let mut wanted = Vec::new();
    for attachment in attachments {
        let name = &attachment.name;
        let mut options = BTreeMap::new();
        for var in attachment.config_vars.iter().flatten() {
            let option = var.strip_prefix(&format!("{name}_")).unwrap_or(var);
            if let Some(Choice::Set(value)) = choices.remove(var) {
                options.insert(option.to_owned(), value);
            }
        }
        let how = match named.remove(name) {
            Some(how) => how,
            None if !options.is_empty() => Some(CloneHow::New),
            None if args.yes => None,
            None if context.is_interactive() => ask_about(name)?,
            None => {
                let text =
                    format!("{name} is an add-on: say --add-on {name}=attach, {name}=new or {name}=leave, or --yes");
                return Err(UsageError(text).into());
            }
        };
        let Some(how) = how else { continue };
        if how == CloneHow::Attach && !options.is_empty() {
            bail!("{name} is to be attached as it is, and has another value: choose one")
        }
        if how == CloneHow::New && context.is_interactive() && !args.yes {
            for var in attachment.config_vars.iter().flatten() {
                let option = var.strip_prefix(&format!("{name}_")).unwrap_or(var);
                if !options.contains_key(option) {
                    options.insert(option.to_owned(), prompt::secret(&format!("{var}: "))?.into_exposed());
                }
            }
        }
        wanted.push(CloneAddOn { attachment: name.clone(), how, options });
    }
    Ok(wanted)
}

fn named_add_ons(args: &Clone, attachments: &[AddOnAttachment]) -> anyhow::Result<BTreeMap<String, Option<CloneHow>>> {
    let mut named = BTreeMap::new();
    for text in &args.add_on {
        let usage = || UsageError("write --add-on NAME=attach, NAME=new or NAME=leave".to_owned());
        let (name, how) = text.split_once('=').ok_or_else(usage)?;
        let how = match how {
            "attach" => Some(CloneHow::Attach),
            "new" => Some(CloneHow::New),
            "leave" => None,
            _other => return Err(usage().into()),
        };
        if !attachments.iter().any(|one| one.name == name) {
            bail!("{} has no add-on {name}", args.source)
        }
        if named.insert(name.to_owned(), how).is_some() {
            bail!("{name} is named twice")
        }
    }
    Ok(named)
}

fn ask_about(name: &str) -> anyhow::Result<Option<CloneHow>> {
    loop {
        let question = format!("{name} (add-on): (a)ttach the same, (n)ew one of the same plan, (l)eave out? ");
        match prompt::line(&question)?.to_ascii_lowercase().as_str() {
            "a" | "attach" => return Ok(Some(CloneHow::Attach)),
            "n" | "new" => return Ok(Some(CloneHow::New)),
            "l" | "leave" | "leave out" => return Ok(None),
            "" => bail!("nothing was made"),
            _other => {}
        }
    }
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
