//! `apps`, `apps:create`, `apps:info`, `apps:destroy`, `open`, `maintenance`.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use wire::platform_api::{App, AppCreate, AppUpdate, Switch};

use crate::api_client::path;
use crate::app_selection::REMOTE_NAME;
use crate::context::{Context, UsageError};
use crate::output::{self, Colour};
use crate::{git, prompt};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth create shop")]
pub struct Create {
    /// The name; one is made up if you give none
    name: Option<String>,
    /// Make no git remote
    #[arg(long)]
    no_remote: bool,
}

pub(super) fn create(context: &Context, args: &Create) -> anyhow::Result<()> {
    let client = context.client()?;
    let name = args.name.clone().or_else(|| context.global.app.clone());
    let app: App = client.post("/apps", &AppCreate { name, region: None, stack: None })?;
    let remote = context.global.remote.as_deref().unwrap_or(REMOTE_NAME);
    if !args.no_remote && git::is_repository(&context.directory) {
        let authority = context.login()?.authority;
        git::set_remote(&context.directory, remote, &app.git_url, authority.as_deref())
            .with_context(|| format!("{} was created, but its git remote was not made", app.name))?;
        context.out.note(format_args!("The git remote {remote} points to {}.", app.name));
        if let Some(hindrance) = git::overridden_authority(authority.as_deref()) {
            context.out.warn(hindrance);
        }
    }
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    let web_url = app.web_url.as_deref().unwrap_or_default();
    Ok(context.out.text(output::pairs([
        ("Created", app.name.clone()),
        ("Web URL", web_url.to_owned()),
        ("Git URL", app.git_url.clone()),
    ]))?)
}

pub(super) fn list(context: &Context) -> anyhow::Result<()> {
    let apps: Vec<App> = context.client()?.list("/apps", None)?;
    if context.out.json {
        return Ok(context.out.json(&apps)?);
    }
    if apps.is_empty() {
        context.out.note("There are no apps yet: `berth create NAME` makes one.");
    }
    for app in &apps {
        let maintenance = if app.maintenance { "  (maintenance mode)" } else { "" };
        context.out.line(format_args!("{}{maintenance}", app.name))?;
    }
    Ok(())
}

pub(super) fn info(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let app: App = client.get(&path(&["apps", &app]))?;
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("Name", app.name.clone()),
        ("Web URL", known(&app.web_url)),
        ("Git URL", app.git_url.clone()),
        ("Owner", app.owner.email.clone()),
        ("Stack", app.stack.name.clone()),
        ("Language", known(&app.buildpack_provided_description)),
        ("Slug size", app.slug_size.map_or_else(|| "-".to_owned(), output::bytes)),
        ("Maintenance", if app.maintenance { "on" } else { "off" }.to_owned()),
        ("Created", app.created_at.clone()),
        ("Released", known(&app.released_at)),
    ];
    Ok(context.out.text(output::pairs(lines))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth apps:destroy shop --confirm shop")]
pub struct Destroy {
    /// The app to destroy
    name: Option<String>,
    /// The app's name again, instead of being asked
    #[arg(short, long, value_name = "NAME")]
    confirm: Option<String>,
}

pub(super) fn destroy(context: &Context, args: &Destroy) -> anyhow::Result<()> {
    let client = context.client()?;
    // Never guessed from a git remote: the app must be named.
    let Some(name) = args.name.as_deref().or(context.global.app.as_deref()) else {
        return Err(UsageError("name the app to destroy: berth apps:destroy NAME".to_owned()).into());
    };
    let app: App = client.get(&path(&["apps", name]))?;
    let confirmed = match &args.confirm {
        Some(confirm) => confirm.clone(),
        None if context.is_interactive() => {
            context.out.warn(format_args!("This destroys {} with its releases, config vars and logs.", app.name));
            prompt::line(&format!(" !    Type {} to go on: ", app.name))?
        }
        None => return Err(UsageError(format!("to destroy {0}, add --confirm {0}", app.name)).into()),
    };
    if confirmed != app.name {
        bail!("{confirmed:?} is not {:?}; nothing was destroyed", app.name);
    }
    let destroyed: App = client.delete(&path(&["apps", &app.id.to_string()]))?;
    if context.out.json {
        return Ok(context.out.json(&destroyed)?);
    }
    Ok(context.out.line(format_args!("Destroyed {}.", destroyed.name))?)
}

pub(super) fn open(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let app: App = client.get(&path(&["apps", &app]))?;
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    let url = app.web_url.with_context(|| format!("{} has no address yet", app.name))?;
    context.out.line(&url)?;
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = std::process::Command::new(program);
    // Browsers talk on the terminal that they were started from.
    let opened = command.arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !opened.is_ok_and(|status| status.success()) {
        context.out.note("No browser could be opened here; the address is above.");
    }
    Ok(())
}

pub(super) fn maintenance(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let app: App = client.get(&path(&["apps", &app]))?;
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    Ok(context.out.line(if app.maintenance { "on" } else { "off" })?)
}

pub(super) fn set_maintenance(context: &Context, on: bool) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let update = AppUpdate { maintenance: Some(Switch::Word(on)), ..AppUpdate::default() };
    let app: App = client.patch(&path(&["apps", &app]), &update)?;
    if context.out.json {
        return Ok(context.out.json(&app)?);
    }
    let (state, colour) = if app.maintenance { ("on", Colour::Yellow) } else { ("off", Colour::Green) };
    Ok(context.out.line(format_args!("Maintenance mode of {} is {}.", app.name, context.out.paint(colour, state)))?)
}
