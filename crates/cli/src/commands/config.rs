//! `config` and what changes it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use domain::name::ConfigKey;
use wire::platform_api::berth::ConfigChange;
use wire::platform_api::{ConfigVars, ConfigVarsUpdate, Release};

use super::releases;
use crate::api_client::{ApiClient, path};
use crate::context::{Context, UsageError};
use crate::dotenv;
use crate::output;
use crate::shell_words;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth config --shell > .env")]
pub struct List {
    /// Print KEY=value lines that a shell and `config:import` read
    #[arg(short, long)]
    shell: bool,
}

pub(super) fn list(context: &Context, args: &List) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let vars: ConfigVars = client.get(&path(&["apps", &app, "config-vars"]))?;
    if context.out.json {
        return Ok(context.out.json(&vars)?);
    }
    if vars.is_empty() {
        context.out.note(format_args!("{app} has no config vars."));
    }
    if args.shell {
        let lines = vars.iter().map(|(key, value)| format!("{key}={}\n", shell_words::quote(value)));
        return Ok(context.out.text(lines.collect::<String>())?);
    }
    Ok(context.out.text(output::pairs(vars.iter().map(|(key, value)| (key.as_str(), value.clone()))))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth config:get DATABASE_URL")]
pub struct Get {
    /// The config var's name
    key: String,
}

pub(super) fn get(context: &Context, args: &Get) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let vars: ConfigVars = client.get(&path(&["apps", &app, "config-vars"]))?;
    let value = vars.get(&args.key);
    if context.out.json {
        return Ok(context.out.json(&value)?);
    }
    if value.is_none() {
        // Compat: an empty line and success, which scripts rely on; a person sees why.
        context.out.note(format_args!("{} is not set.", args.key));
    }
    Ok(context.out.line(value.map_or("", String::as_str))?)
}

/// A change is a release. It is waited for, so that a `run` after it sees the change, and a failure is not missed.
#[derive(Debug, clap::Args)]
struct Effect {
    /// Do not wait until dynos serve with the change
    #[arg(long)]
    no_wait: bool,
    /// Run the release phase with the change before dynos start with it
    #[arg(long)]
    release_phase: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth config:set SECRET_KEY=s3cret DEBUG=0\n  \
                  berth config:import -  < values.env    (keeps secrets out of the shell's history)")]
pub struct Set {
    /// Config vars to set; a value with blanks is quoted: 'KEY=two words'
    #[arg(required = true, value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn set(context: &Context, args: &Set) -> anyhow::Result<()> {
    let vars = args.assignments.iter().map(|text| assignment(text)).collect::<Result<_, _>>()?;
    change(context, vars, "Set", &args.effect)
}

/// Reads `KEY=value`. The message never shows the text: without a `=` it may be a value.
pub(super) fn assignment(text: &str) -> Result<(String, Option<String>), UsageError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| UsageError("write KEY=VALUE; if the value has blanks, quote it: 'KEY=two words'".to_owned()))?;
    let key = ConfigKey::parse(key).map_err(|error| UsageError(error.to_string()))?;
    Ok((key.to_string(), Some(value.to_owned())))
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth config:unset DEBUG")]
pub struct Unset {
    /// Names of the config vars to remove
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn unset(context: &Context, args: &Unset) -> anyhow::Result<()> {
    change(context, args.keys.iter().map(|key| (key.clone(), None)).collect(), "Unset", &args.effect)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth config:import production.env\n\n\
                  Reads KEY=value lines with comments, `export` and quotes. Nothing is expanded: a $ stays a $.")]
pub struct Import {
    /// A file in .env syntax; `-` reads the standard input
    file: PathBuf,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn import(context: &Context, args: &Import) -> anyhow::Result<()> {
    let mut text = String::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("cannot read the standard input")?;
    } else {
        text = std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    }
    let vars = dotenv::parse(&text).with_context(|| format!("cannot import {}", args.file.display()))?;
    if vars.is_empty() {
        anyhow::bail!("{} has no KEY=value lines; nothing was changed", args.file.display());
    }
    change(context, vars.into_iter().map(|(key, value)| (key, Some(value))).collect(), "Set", &args.effect)
}

fn change(context: &Context, vars: ConfigVarsUpdate, verb: &str, effect: &Effect) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let before = latest_version(&client, &app)?;
    let after: ConfigVars = if effect.release_phase {
        let change = ConfigChange { vars: vars.clone(), release_phase: true };
        client.patch(&path(&["berth", "apps", &app, "config-vars"]), &change)?
    } else {
        client.patch(&path(&["apps", &app, "config-vars"]), &vars)?
    };
    let latest = latest_version(&client, &app)?;
    let made = latest.filter(|_version| latest != before);
    // Names only: this output ends in CI logs and screenshots.
    let names = vars.into_keys().collect::<Vec<_>>().join(", ");
    match made {
        Some(version) => context.out.note(format_args!("{verb} {names} in {app}: v{version}, dynos restart with it.")),
        None => context.out.note(format_args!("{names}: as it was in {app}, nothing changed.")),
    }
    if let Some(version) = made.filter(|_version| !effect.no_wait) {
        releases::until_serving(context, &client, &app, version)?;
    }
    if context.out.json {
        context.out.json(&after)?;
    }
    Ok(())
}

pub(super) fn latest_version(client: &ApiClient, app: &str) -> anyhow::Result<Option<u64>> {
    let latest: Vec<Release> = client.list(&path(&["apps", app, "releases"]), Some("version ..; order=desc, max=1"))?;
    Ok(latest.first().map(|release| release.version))
}

/// `KEY=value` arguments as a map, for the environment of a one-off.
pub(super) fn environment(assignments: &[String]) -> Result<BTreeMap<String, serde_json::Value>, UsageError> {
    let one = |text: &String| {
        let (key, value) = assignment(text)?;
        Ok((key, serde_json::Value::from(value)))
    };
    assignments.iter().map(one).collect()
}
