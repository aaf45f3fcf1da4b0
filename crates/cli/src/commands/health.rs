//! `health`: how web dynos are checked while they serve, and how they are.

use domain::duration_text;
use domain::health::HealthCheck as Check;
use wire::platform_api::health::{Health, HealthUpdate};

use crate::api_client::{ApiClient, path};
use crate::context::{Context, UsageError};
use crate::output::{self, Colour};
use crate::time_text;

pub(super) fn show(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    print(context, &app, &client.get(&url(&app))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth health:set path=/health\n  \
    berth health:set path=/health status=200-399 interval=5s timeout=2s\n\n\
    Settings:\n  \
    path=/                asked with the app's first domain as Host and X-Forwarded-Proto: https\n  \
    status=200-399        answers that pass; a list of statuses and ranges\n  \
    interval=10s          between two checks of a dyno\n  \
    timeout=5s            for an answer\n  \
    failures=3            in a row make a dyno unhealthy: it gets no requests while a healthy one is there\n  \
    successes=2           in a row make it healthy again\n  \
    replace-after=2m      unhealthy for so long, it is replaced: one at a time, the new one first")]
pub struct Set {
    /// A setting and its value; the others stay as they are
    #[arg(value_name = "SETTING=VALUE", required = true)]
    changes: Vec<String>,
}

pub(super) fn set(context: &Context, args: &Set) -> anyhow::Result<()> {
    let mut update = HealthUpdate::default();
    for text in &args.changes {
        change(&mut update, text)?;
    }
    let (client, app): (ApiClient, String) = context.app()?;
    print(context, &app, &client.patch(&url(&app), &update)?)
}

pub(super) fn off(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    print(context, &app, &client.delete(&url(&app))?)
}

fn url(app: &str) -> String {
    path(&["berth", "apps", app, "health"])
}

/// How the dynos are, for a list of them; nothing where the server does not know.
pub(super) fn of(client: &ApiClient, app: &str) -> Option<Health> {
    client.get(&url(app)).ok()
}

fn print(context: &Context, app: &str, health: &Health) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(health)?);
    }
    let Some(check) = &health.check else {
        context.out.note(format_args!(
            "The web dynos of {app} are not checked while they serve: `berth health:set path=/health`."
        ));
        return Ok(());
    };
    let described = Check::try_from(check.clone()).map(|check| check.described());
    let described = described.map_err(|error| anyhow::anyhow!("the server has another idea of a check: {error}"))?;
    context.out.text(output::pairs(described))?;
    for dyno in &health.dynos {
        let colour = match dyno.health.as_str() {
            "healthy" => Colour::Green,
            "unhealthy" => Colour::Red,
            _unchecked => Colour::Yellow,
        };
        let since = dyno.unhealthy_since.as_deref().map(|since| time_text::since(since, context.now));
        let since = since.map(|since| format!(" {since}")).unwrap_or_default();
        let failure = dyno.failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
        let health = context.out.paint(colour, &dyno.health);
        context.out.line(format_args!("{}: {health}{since}{failure}", dyno.name))?;
    }
    Ok(())
}

fn change(update: &mut HealthUpdate, text: &str) -> Result<(), UsageError> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| UsageError(format!("{text:?} is not SETTING=VALUE; for example path=/health")))?;
    let duration = || match duration_text::parse(value) {
        Ok(duration) => Ok(Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))),
        Err(error) => Err(UsageError(error.to_string())),
    };
    let count = || match value.parse() {
        Ok(count) => Ok(Some(count)),
        Err(_not_a_number) => Err(UsageError(format!("{name} is a number, not {value:?}"))),
    };
    match name {
        "path" => update.path = Some(value.to_owned()),
        "status" => update.status = Some(value.to_owned()),
        "interval" => update.interval_ms = duration()?,
        "timeout" => update.timeout_ms = duration()?,
        "failures" => update.failures = count()?,
        "successes" => update.successes = count()?,
        "replace-after" => update.replace_after_ms = duration()?,
        other => {
            return Err(UsageError(format!(
                "there is no setting {other:?}: path, status, interval, timeout, failures, successes, replace-after"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_read_as_it_is_shown() {
        let mut update = HealthUpdate::default();
        for (name, value) in Check::default().described() {
            change(&mut update, &format!("{name}={value}")).unwrap();
        }
        assert!(update.path.is_some() && update.replace_after_ms.is_some());
        let mut check = Check { failures: 9, path: "/x".to_owned(), ..Check::default() };
        update.apply(&mut check).unwrap();
        assert_eq!(check, Check::default());
        for wrong in ["path", "interval=5", "failures=many", "colour=red"] {
            change(&mut HealthUpdate::default(), wrong).unwrap_err();
        }
    }
}
