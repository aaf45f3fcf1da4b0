//! `notify`: messages about an app, to Slack-compatible addresses and signed webhooks.

use wire::platform_api::environments::{Notification, NotificationCreate};

use crate::api_client::path;
use crate::context::Context;
use crate::output;

pub(super) fn list(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let all: Vec<Notification> = client.list(&path(&["berth", "apps", &app, "notifications"]), None)?;
    if context.out.json {
        return Ok(context.out.json(&all)?);
    }
    if all.is_empty() {
        context.out.note(format_args!("Nobody is told about {app}: `berth notify:add URL` changes that."));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|entry| {
            vec![
                entry.id.to_string(),
                entry.format.clone(),
                entry.host.clone(),
                format!("{} sent, {} waiting, {} lost", entry.delivered, entry.pending, entry.given_up),
                entry.events.join(","),
                entry.last_error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    Ok(context.out.text(output::table(&["ID", "FORMAT", "HOST", "MESSAGES", "EVENTS", "LAST ERROR"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth notify:add https://hooks.slack.com/services/T0/B0/x\n  \
                  berth notify:add https://example.com/hook --events failure,crash,cron.failed\n\n\
                  Events: deploy, failure, promotion, rollback, config, scaling, scaling.maximum, crash, cron.failed,\n\
                  cron.missed.\n\
                  A webhook is signed: Berth-Signature is sha256= and the HMAC-SHA256 of the body, with the secret that\n\
                  is printed here once.")]
pub struct Add {
    /// Where to post; `-` reads it from the standard input
    url: String,
    /// Which events, separated by commas; all if absent
    #[arg(long, value_delimiter = ',')]
    events: Vec<String>,
    /// slack or webhook; by the URL's host if absent
    #[arg(long)]
    format: Option<String>,
}

pub(super) fn add(context: &Context, args: &Add) -> anyhow::Result<()> {
    let mut url = args.url.clone();
    if url == "-" {
        url.clear();
        std::io::stdin().read_line(&mut url)?;
    }
    let (client, app) = context.app()?;
    let body = NotificationCreate {
        url: url.trim().to_owned(),
        events: args.events.clone(),
        format: args.format.clone(),
        secret: None,
    };
    let made: Notification = client.post(&path(&["berth", "apps", &app, "notifications"]), &body)?;
    if context.out.json {
        return Ok(context.out.json(&made)?);
    }
    context.out.note(format_args!("{} is told about {app} ({}).", made.host, made.events.join(", ")));
    match &made.secret {
        Some(secret) => {
            context.out.note("Messages are signed with this secret, which is shown this once:");
            Ok(context.out.line(secret)?)
        }
        None => Ok(()),
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth notify:remove 01234567-89ab-cdef-0123-456789abcdef")]
pub struct Remove {
    /// As `berth notify` shows it
    id: String,
}

pub(super) fn remove(context: &Context, args: &Remove) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let removed: Notification = client.delete(&path(&["berth", "apps", &app, "notifications", &args.id]))?;
    if context.out.json {
        return Ok(context.out.json(&removed)?);
    }
    Ok(context.out.line(format_args!("{} is not told about {app} any more.", removed.host))?)
}
