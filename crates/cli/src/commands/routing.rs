//! `routing`: how an app's requests are handled.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use domain::duration_text;
use domain::dyno_size::ByteCount;
use domain::routing::{DynoProtocol, Hsts, PAGE_BYTES_MAX};
use wire::platform_api::routing::{Routing, RoutingUpdate};
use wire::routes::Page;

use crate::api_client::{ApiClient, path};
use crate::context::{Context, UsageError};
use crate::output;

const SETTINGS: &str = "Settings:\n  \
    https-only=on|off           send plain HTTP to HTTPS\n  \
    hsts=1y[,includeSubDomains][,preload]|off\n  \
    compression=on|off          compress responses; not for pages with secrets beside what visitors can put there\n  \
    dyno-protocol=http1|h2c     h2c is HTTP/2 without TLS, as gRPC servers speak it; dynos that start from now on\n  \
    session-affinity=on|off     a visitor stays on a dyno while that has room; `http-session-affinity` on Heroku\n  \
    request-size=50MB           longer request bodies are refused (413)\n  \
    timeout=30s                 until a response begins, else H12\n  \
    idle-timeout=55s            between two bytes after that, else H15 or H28\n  \
    boot-wait=75s               how long requests wait for a dyno that is starting, else H20";

pub(super) fn show(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    print(context, &client.get(&url(&app))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  berth routing:set https-only=on hsts=1y,includeSubDomains\n  \
                                berth routing:set timeout=60s request-size=50MB\n\n{SETTINGS}"))]
pub struct Set {
    /// A setting and its new value
    #[arg(value_name = "SETTING=VALUE", required = true)]
    changes: Vec<String>,
}

pub(super) fn set(context: &Context, args: &Set) -> anyhow::Result<()> {
    let mut update = RoutingUpdate::default();
    for text in &args.changes {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            UsageError(format!("{text:?} is not SETTING=VALUE; for example timeout=60s. `berth routing` shows all"))
        })?;
        change(&mut update, name, Some(value))?;
    }
    apply(context, &update)
}

#[derive(Debug, clap::Args)]
#[command(after_help = format!("Example: berth routing:unset timeout https-only\n\n{SETTINGS}"))]
pub struct Unset {
    /// A setting that goes back to its default
    #[arg(value_name = "SETTING", required = true)]
    settings: Vec<String>,
}

pub(super) fn unset(context: &Context, args: &Unset) -> anyhow::Result<()> {
    let mut update = RoutingUpdate::default();
    for name in &args.settings {
        change(&mut update, name, None)?;
    }
    apply(context, &update)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Shown while maintenance mode is on
    Maintenance,
    /// Shown when the app cannot answer
    Error,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth routing:page maintenance ./soon.html\n  \
    berth routing:page maintenance            (prints it)\n  berth routing:page maintenance --clear\n\n\
    One HTML file of 64 KiB at most; it may link to styles and pictures elsewhere.\n\
    A page that is kept elsewhere: berth config:set MAINTENANCE_PAGE_URL=https://… ERROR_PAGE_URL=https://…")]
pub struct PageArgs {
    /// Which page
    which: Which,
    /// The page; `-` reads it from the standard input
    #[arg(value_name = "FILE", conflicts_with = "clear")]
    file: Option<PathBuf>,
    /// Show the platform's own page again
    #[arg(long)]
    clear: bool,
}

pub(super) fn page(context: &Context, args: &PageArgs) -> anyhow::Result<()> {
    let html = match &args.file {
        None if !args.clear => return print_page(context, args.which),
        None => None,
        Some(file) => Some(read_page(file)?),
    };
    let mut update = RoutingUpdate::default();
    match args.which {
        Which::Maintenance => update.maintenance_page = Some(html),
        Which::Error => update.error_page = Some(html),
    }
    apply(context, &update)
}

fn read_page(file: &PathBuf) -> anyhow::Result<String> {
    let text =
        if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { fs::read_to_string(file) };
    let text = text.with_context(|| format!("cannot read the page {}", file.display()))?;
    if text.len() > PAGE_BYTES_MAX {
        return Err(UsageError(format!(
            "{} has {}; a page may have {}. Put pictures and styles elsewhere, and link to them",
            file.display(),
            output::bytes(text.len() as u64),
            output::bytes(PAGE_BYTES_MAX as u64)
        ))
        .into());
    }
    Ok(text)
}

fn print_page(context: &Context, which: Which) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let routing: Routing = client.get(&url(&app))?;
    let (page, word) = match which {
        Which::Maintenance => (routing.maintenance_page, "maintenance"),
        Which::Error => (routing.error_page, "error"),
    };
    if context.out.json {
        return Ok(context.out.json(&page)?);
    }
    match page {
        Some(Page::Html(html)) => context.out.text(html)?,
        Some(Page::Url(url)) => context.out.line(url)?,
        None => context.out.note(format_args!(
            "{app} has no {word} page of its own, so the platform's is shown: `berth routing:page {word} FILE`."
        )),
    }
    Ok(())
}

fn url(app: &str) -> String {
    path(&["berth", "apps", app, "routing"])
}

fn apply(context: &Context, update: &RoutingUpdate) -> anyhow::Result<()> {
    let (client, app): (ApiClient, String) = context.app()?;
    print(context, &client.patch(&url(&app), update)?)
}

fn print(context: &Context, routing: &Routing) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(routing)?);
    }
    let page = |page: &Option<Page>| match page {
        None => "the platform's".to_owned(),
        Some(Page::Html(html)) => format!("its own, {}", output::bytes(html.len() as u64)),
        Some(Page::Url(url)) => url.clone(),
    };
    let mut lines = routing.settings().described();
    lines.push(("maintenance page", page(&routing.maintenance_page)));
    lines.push(("error page", page(&routing.error_page)));
    Ok(context.out.text(output::pairs(lines))?)
}

/// Reads one setting; without a value it goes back to its default.
fn change(update: &mut RoutingUpdate, name: &str, value: Option<&str>) -> Result<(), UsageError> {
    match name {
        "https-only" => update.https_only = Some(value.map(switch).transpose()?),
        "compression" => update.compression = Some(value.map(switch).transpose()?),
        "hsts" => {
            let hsts = value.filter(|value| *value != "off").map(Hsts::parse).transpose();
            update.hsts = Some(hsts.map_err(|error| UsageError(error.to_string()))?.map(Into::into));
        }
        "dyno-protocol" => update.dyno_protocol = Some(value.map(protocol).transpose()?.map(Into::into)),
        "session-affinity" => update.session_affinity = Some(value.map(switch).transpose()?),
        "request-size" => {
            let size = value.filter(|value| *value != "unlimited").map(ByteCount::parse).transpose();
            update.request_bytes_max = Some(size.map_err(|error| UsageError(error.to_string()))?.map(|size| size.0));
        }
        "timeout" => update.timeout_ms = Some(value.map(duration_ms).transpose()?),
        "idle-timeout" => update.idle_timeout_ms = Some(value.map(duration_ms).transpose()?),
        "boot-wait" => update.boot_wait_ms = Some(value.map(duration_ms).transpose()?),
        "maintenance-page" | "error-page" => {
            let which = name.trim_end_matches("-page");
            return Err(UsageError(format!("pages come from files: berth routing:page {which} FILE")));
        }
        other => {
            return Err(UsageError(format!(
                "there is no setting {other:?}: https-only, hsts, compression, dyno-protocol, session-affinity, \
                 request-size, timeout, idle-timeout, boot-wait"
            )));
        }
    }
    Ok(())
}

fn switch(text: &str) -> Result<bool, UsageError> {
    match text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        other => Err(UsageError(format!("{other:?} is neither on nor off"))),
    }
}

fn protocol(text: &str) -> Result<DynoProtocol, UsageError> {
    DynoProtocol::parse(text).ok_or_else(|| UsageError(format!("dynos speak http1 or h2c, not {text:?}")))
}

fn duration_ms(text: &str) -> Result<u64, UsageError> {
    let duration = duration_text::parse(text).map_err(|error| UsageError(error.to_string()))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_are_shown() {
        let routing = |update: RoutingUpdate| {
            let mut settings = domain::routing::RoutingSettings::default();
            update.apply(&mut settings);
            settings
        };
        let mut update = RoutingUpdate::default();
        let words = [
            ("https-only", "on"),
            ("hsts", "1y,includeSubDomains"),
            ("compression", "on"),
            ("dyno-protocol", "h2c"),
            ("session-affinity", "on"),
            ("request-size", "50MB"),
            ("timeout", "90s"),
            ("idle-timeout", "2m"),
            ("boot-wait", "500ms"),
        ];
        for (name, value) in words {
            change(&mut update, name, Some(value)).unwrap();
        }
        let described = routing(update).described();
        assert_eq!(described, words.map(|(name, value)| (name, value.to_owned())));
        // And back again, to the defaults as they are shown.
        let (mut shown, mut unset) = (RoutingUpdate::default(), RoutingUpdate::default());
        for (name, value) in domain::routing::RoutingSettings::default().described() {
            change(&mut shown, name, Some(&value)).unwrap();
            change(&mut unset, name, None).unwrap();
        }
        assert_eq!(routing(shown), routing(unset));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let said = |name: &str, value: &str| change(&mut RoutingUpdate::default(), name, Some(value)).unwrap_err().0;
        assert!(said("timeout", "60").contains("500ms, 30s"));
        assert!(said("request-size", "50M").contains("50MB"));
        assert!(said("hsts", "forever").contains("1y"));
        assert!(said("https-only", "maybe").contains("on nor off"));
        assert!(said("dyno-protocol", "h3").contains("h2c"));
        assert!(said("colour", "red").contains("boot-wait"));
        assert!(said("maintenance-page", "x").contains("routing:page maintenance FILE"));
    }
}
