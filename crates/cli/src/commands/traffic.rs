//! `traffic`: whether an app's requests are held, and for how long.

use std::thread::sleep;
use std::time::{Duration, Instant};

use domain::duration_text;
use wire::platform_api::routing::{Traffic, TrafficUpdate};

use crate::api_client::{ApiClient, path};
use crate::context::{Context, UsageError};
use crate::output;
use crate::time_text;

/// How long the router is given to do what was asked, before that is said to be open.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(20);

pub(super) fn show(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let traffic: Traffic = client.get(&url(&app))?;
    if context.out.json {
        return Ok(context.out.json(&traffic)?);
    }
    let state = match &traffic.paused_until {
        None => "served".to_owned(),
        Some(until) => format!("held until {}", time_text::second(until)),
    };
    let lines =
        [("Requests", state), ("In flight", traffic.in_flight.to_string()), ("Waiting", traffic.waiting.to_string())];
    Ok(context.out.text(output::pairs(lines))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth traffic:pause -a shop --for 30s\n  berth traffic:resume -a shop\n\n\
    New requests wait in the router, and are served when the pause ends: by itself after the given time, or by\n\
    traffic:resume. Requests under way and open WebSockets go on. Up to 1,000 requests of an app wait; more are\n\
    refused with H11. The command returns when the pause is in force. A second pause takes the place of the first.")]
pub struct Pause {
    /// How long, from 100ms to 5m
    #[arg(long = "for", value_name = "DURATION", default_value = "30s")]
    length: String,
}

pub(super) fn pause(context: &Context, args: &Pause) -> anyhow::Result<()> {
    let length = duration_text::parse(&args.length).map_err(|error| UsageError(error.to_string()))?;
    let (client, app) = context.app()?;
    let pause_ms = Some(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    let traffic = apply(context, &client, &app, TrafficUpdate { pause_ms })?;
    if context.out.json {
        return Ok(context.out.json(&traffic)?);
    }
    let until = traffic.paused_until.as_deref().map_or_else(|| "now".to_owned(), time_text::second);
    Ok(context.out.line(format_args!(
        "New requests of {app} are held until {until}; `berth traffic:resume -a {app}` lets them through."
    ))?)
}

pub(super) fn resume(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let traffic = apply(context, &client, &app, TrafficUpdate { pause_ms: None })?;
    if context.out.json {
        return Ok(context.out.json(&traffic)?);
    }
    Ok(context.out.line(format_args!("Requests of {app} are served."))?)
}

fn url(app: &str) -> String {
    path(&["berth", "apps", app, "traffic"])
}

/// Asks, and waits until the router does it.
fn apply(context: &Context, client: &ApiClient, app: &str, update: TrafficUpdate) -> anyhow::Result<Traffic> {
    let mut traffic: Traffic = client.patch(&url(app), &update)?;
    let deadline = Instant::now() + PATIENCE;
    while !traffic.in_force && Instant::now() < deadline {
        sleep(PAUSE_BETWEEN_LOOKS);
        traffic = client.get(&url(app))?;
    }
    if !traffic.in_force {
        context.out.warn("The router has not said yet that it does so: see `berth status`.");
    }
    Ok(traffic)
}
