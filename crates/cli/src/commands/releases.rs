//! `releases`, `rollback`, and following a release until it serves.

use std::io;

use anyhow::{Context as _, bail};
use wire::platform_api::berth::{self, ReleaseProgress};
use wire::platform_api::{ConfigVars, Release, ReleaseCreate};

use crate::api_client::{ApiClient, path};
use crate::context::Context;
use crate::follow;
use crate::output::{self, Colour};
use crate::progress::Progress;
use crate::time_text;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth releases -n 5")]
pub struct List {
    /// How many to show, newest first
    #[arg(short, long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1000))]
    num: u32,
}

pub(super) fn list(context: &Context, args: &List) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let releases = newest(&client, &app, args.num)?;
    if context.out.json {
        return Ok(context.out.json(&releases)?);
    }
    let rows: Vec<Vec<String>> = releases
        .iter()
        .map(|release| {
            let state = if release.current { "current" } else { release.status.as_str() };
            vec![
                format!("v{}", release.version),
                release.description.clone(),
                state.to_owned(),
                release.user.email.clone(),
                time_text::minute(&release.created_at),
            ]
        })
        .collect();
    Ok(context.out.text(output::table(&["", "DESCRIPTION", "STATE", "BY", "AT"], &rows))?)
}

fn newest(client: &ApiClient, app: &str, count: u32) -> anyhow::Result<Vec<Release>> {
    Ok(client.list(&path(&["apps", app, "releases"]), Some(&format!("version ..; order=desc, max={count}")))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth releases:info v12")]
pub struct Which {
    /// The release, as v12 or 12; the newest if absent
    #[arg(value_name = "VERSION")]
    version: Option<String>,
}

fn find(client: &ApiClient, app: &str, which: &Which) -> anyhow::Result<Release> {
    match &which.version {
        Some(version) => Ok(client.get(&path(&["apps", app, "releases", version]))?),
        None => newest(client, app, 1)?.into_iter().next().with_context(|| format!("{app} has no releases")),
    }
}

pub(super) fn info(context: &Context, which: &Which) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let release = find(&client, &app, which)?;
    let progress = progress(&client, &app, &release.version.to_string())?;
    if context.out.json {
        return Ok(context.out.json(&serde_json::json!({ "release": release, "progress": progress }))?);
    }
    let vars: ConfigVars =
        client.get(&path(&["apps", &app, "releases", &release.version.to_string(), "config-vars"]))?;
    let mut lines = vec![
        ("Release", format!("v{}{}", release.version, if release.current { " (current)" } else { "" })),
        ("Description", release.description.clone()),
        ("State", progress.state),
        ("By", release.user.email.clone()),
        ("At", time_text::minute(&release.created_at)),
        ("Rollback", if release.eligible_for_rollback { "possible" } else { "not possible" }.to_owned()),
        ("Config vars", if vars.is_empty() { "-".to_owned() } else { vars.into_keys().collect::<Vec<_>>().join(", ") }),
    ];
    lines.extend(progress.failure.map(|failure| ("Failure", failure)));
    Ok(context.out.text(output::pairs(lines))?)
}

pub(super) fn output(context: &Context, which: &Which) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let release = find(&client, &app, which)?;
    if context.out.json {
        return Ok(context.out.json(&release)?);
    }
    let Some(url) = &release.output_stream_url else {
        context.out.note(format_args!("v{} has no output: its release phase has not run.", release.version));
        return Ok(());
    };
    Ok(follow::copy_output(&client, url, &mut io::stdout())??)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth releases:resume v12")]
pub struct Resume {
    /// The held release
    #[arg(value_name = "VERSION")]
    version: String,
    /// Do not wait until it serves
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn resume(context: &Context, args: &Resume) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let url = path(&["berth", "apps", &app, "releases", &args.version, "resume"]);
    let progress: ReleaseProgress = client.post(&url, &serde_json::json!({}))?;
    finish(context, &client, &app, progress.version, args.no_wait)
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth rollback          (to the release that served before)\n  berth rollback v12\n\n\
                  Code and config vars go back together; add-ons keep their current credentials. The release phase does\n\
                  not run unless you ask for it: old code must not run its migrations against a newer database."
)]
pub struct Rollback {
    /// The release to go back to; the one before the current if absent
    #[arg(value_name = "VERSION")]
    version: Option<String>,
    /// Do not wait until it serves
    #[arg(long)]
    no_wait: bool,
    /// Run the release phase of the old code, too
    #[arg(long)]
    release_phase: bool,
}

pub(super) fn rollback(context: &Context, args: &Rollback) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let to = match &args.version {
        Some(_) => find(&client, &app, &Which { version: args.version.clone() })?,
        None => previous(newest(&client, &app, 100)?)
            .with_context(|| format!("{app} has no earlier release that served; `berth releases` lists them"))?,
    };
    let release: Release = if args.release_phase {
        let url = path(&["berth", "apps", &app, "releases", &to.id.to_string(), "rollback"]);
        client.post(&url, &berth::Rollback { release_phase: true })?
    } else {
        let body = ReleaseCreate { release: Some(to.id.to_string()), ..ReleaseCreate::default() };
        client.post(&path(&["apps", &app, "releases"]), &body)?
    };
    context.out.note(format_args!("Rolling {app} back to v{} as v{}.", to.version, release.version));
    finish(context, &client, &app, release.version, args.no_wait)
}

/// The newest release that served before the current one. `releases` come newest first.
fn previous(releases: Vec<Release>) -> Option<Release> {
    let current = releases.iter().find(|release| release.current).map(|release| release.version);
    releases.into_iter().find(|release| {
        release.eligible_for_rollback && !release.current && current.is_none_or(|current| release.version < current)
    })
}

/// Follows a release, unless told not to, and prints it as JSON if that was asked for.
fn finish(context: &Context, client: &ApiClient, app: &str, version: u64, no_wait: bool) -> anyhow::Result<()> {
    if !no_wait {
        until_serving(context, client, app, version)?;
    }
    if context.out.json {
        context.out.json(&progress(client, app, &version.to_string())?)?;
    } else if no_wait {
        context.out.line(format_args!("v{version} is on its way; `berth releases:info v{version}` shows how far."))?;
    }
    Ok(())
}

fn progress(client: &ApiClient, app: &str, version: &str) -> anyhow::Result<ReleaseProgress> {
    Ok(client.get(&path(&["berth", "apps", app, "releases", version]))?)
}

/// Waits until a release serves, with the output of its release phase. A failure is an error with the server's reason.
pub(super) fn until_serving(context: &Context, client: &ApiClient, app: &str, version: u64) -> anyhow::Result<()> {
    let version_text = version.to_string();
    let url = path(&["berth", "apps", app, "releases", &version_text]);
    let mut seen = String::new();
    let mut phase_shown = false;
    let moving = Progress::start(&format!("v{version}: waiting for its turn"));
    let enter = |phase: &str| {
        moving.above(|| context.out.note(format_args!("v{version}: {phase}")));
        moving.phase(&format!("v{version}: {phase}"));
    };
    loop {
        let progress = follow::until_some(|| {
            let progress: ReleaseProgress = client.get(&url)?;
            Ok((progress.state != seen).then_some(progress))
        })?;
        seen.clone_from(&progress.state);
        // One that is over in a moment has begun and ended between two looks.
        if matches!(seen.as_str(), "rolling_out" | "serving" | "failed") && !std::mem::replace(&mut phase_shown, true) {
            let release = client.get::<Release>(&path(&["apps", app, "releases", &version_text]));
            copy_output(context, client, release.ok().and_then(|release| release.output_stream_url), &moving)?;
        }
        match progress.state.as_str() {
            "preparing" => {
                phase_shown = true;
                enter("running the release phase");
                let stream = release_phase(client, app, &version_text)?;
                copy_output(context, client, stream, &moving)?;
            }
            "rolling_out" => enter("starting dynos, waiting until they are ready"),
            "serving" => {
                drop(moving);
                let serving = context.out.paint(Colour::Green, "serving");
                if !context.out.json {
                    context.out.line(format_args!("v{version}: {serving}"))?;
                }
                return Ok(());
            }
            "superseded" => {
                drop(moving);
                context.out.warn(format_args!("v{version} has been replaced by a newer release already."));
                return Ok(());
            }
            "held" => bail!("v{version} is held; `berth releases:resume v{version}` serves it"),
            "failed" => {
                drop(moving);
                let failure = progress.failure.unwrap_or_default();
                let failure = failure.trim_end();
                if !failure.is_empty() {
                    context.out.note(failure);
                }
                bail!("v{version} failed; what served before goes on serving");
            }
            _pending => {}
        }
    }
}

/// Where the release phase's output is, once it has begun.
fn release_phase(client: &ApiClient, app: &str, version: &str) -> anyhow::Result<Option<String>> {
    let url = path(&["apps", app, "releases", version]);
    let state = path(&["berth", "apps", app, "releases", version]);
    Ok(follow::until_some(|| {
        let release: Release = client.get(&url)?;
        if release.output_stream_url.is_some() {
            return Ok(Some(release.output_stream_url));
        }
        let progress: ReleaseProgress = client.get(&state)?;
        if progress.state == "preparing" {
            return Ok(None);
        }
        // A short one may have begun and ended between the two answers.
        let release: Release = client.get(&url)?;
        Ok(Some(release.output_stream_url))
    })?)
}

/// Shows the release phase's output, if there is one. It is news, not a result: what counts is the state after it.
fn copy_output(context: &Context, client: &ApiClient, stream: Option<String>, moving: &Progress) -> anyhow::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let copied = if context.out.json {
        follow::copy_output(client, &stream, &mut moving.output(io::stderr()))?
    } else {
        follow::copy_output(client, &stream, &mut moving.output(io::stdout()))?
    };
    match copied {
        Err(error) if !follow::is_only_output(&error) => Err(error.into()),
        Err(_lost) => {
            moving.above(|| context.out.warn("The rest of the output could not be read; the release goes on."));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_rollback_goes_to_the_last_release_that_served() {
        let release = |version, eligible, current| Release {
            eligible_for_rollback: eligible,
            current,
            ..testing::release(version, "succeeded")
        };
        let newest_first = |list: Vec<Release>| previous(list).map(|release| release.version);
        assert_eq!(newest_first(vec![release(3, true, true), release(2, true, false)]), Some(2));
        // A newer release that failed or is held is not where to go back to.
        let failed_newest = vec![release(4, false, false), release(3, true, true), release(2, true, false)];
        assert_eq!(newest_first(failed_newest), Some(2));
        let gap = vec![release(5, true, true), release(4, false, false), release(3, true, false)];
        assert_eq!(newest_first(gap), Some(3));
        assert_eq!(newest_first(vec![release(1, false, true)]), None);
    }
}
