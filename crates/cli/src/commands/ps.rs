//! `ps`: dynos and the formation.

use domain::name::ProcessType;
use wire::platform_api::{Dyno, Formation, FormationBatchUpdate, FormationUpdate, Quantity};

use super::health;
use crate::api_client::path;
use crate::context::{Context, UsageError};
use crate::output::{self, Colour};
use crate::time_text;

pub(super) fn list(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let mut dynos: Vec<Dyno> = client.list(&path(&["apps", &app, "dynos"]), None)?;
    if context.out.json {
        return Ok(context.out.json(&dynos)?);
    }
    if dynos.is_empty() {
        context.out.note(format_args!("No dynos run in {app}: `berth ps:scale web=1` starts one after a deploy."));
    }
    dynos.sort_by_key(|dyno| dyno_order(&dyno.name));
    let health = health::of(&client, &app);
    let unhealthy = |name: &str| {
        let dyno = health.iter().flat_map(|health| &health.dynos).find(|dyno| dyno.name == name)?;
        let since = time_text::since(dyno.unhealthy_since.as_deref()?, context.now);
        Some(format!(", {} {since}", context.out.paint(Colour::Red, "unhealthy")))
    };
    let mut kind = String::new();
    for dyno in &dynos {
        if kind != dyno.process_type {
            let count = dynos.iter().filter(|other| other.process_type == dyno.process_type).count();
            let separator = if kind.is_empty() { "" } else { "\n" };
            context.out.text(format_args!(
                "{separator}=== {} ({}): {} ({count})\n",
                dyno.process_type, dyno.size, dyno.command
            ))?;
            kind.clone_from(&dyno.process_type);
        }
        let colour = match dyno.state.as_str() {
            "up" => Colour::Green,
            "crashed" | "down" => Colour::Red,
            _moving => Colour::Yellow,
        };
        let state = context.out.paint(colour, &dyno.state);
        let since = time_text::since(&dyno.updated_at, context.now);
        let health = unhealthy(&dyno.name).unwrap_or_default();
        context.out.line(format_args!("{}: {state} {since} (v{}){health}", dyno.name, dyno.release.version))?;
    }
    Ok(())
}

/// `web` first, then by name and number: `web.10` after `web.9`.
fn dyno_order(name: &str) -> (bool, String, u64) {
    let (kind, index) = name.split_once('.').unwrap_or((name, ""));
    (kind != "web", kind.to_owned(), index.parse().unwrap_or(0))
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth ps:scale web=3 worker=+1:standard-2x\n  \
                  berth ps:scale               (shows what is set)")]
pub struct Scale {
    /// How many dynos of a process type, and of which size
    #[arg(value_name = "TYPE=COUNT[:SIZE]")]
    changes: Vec<String>,
}

pub(super) fn scale(context: &Context, args: &Scale) -> anyhow::Result<()> {
    let updates = args.changes.iter().map(|text| scale_argument(text)).collect::<Result<Vec<_>, _>>()?;
    let (client, app) = context.app()?;
    let url = path(&["apps", &app, "formation"]);
    if updates.is_empty() {
        return show(context, &client.list(&url, None)?);
    }
    let after: Vec<Formation> = client.patch(&url, &FormationBatchUpdate { updates })?;
    show(context, &after)
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth ps:type                  (shows what is set)\n  berth ps:type web=standard-2x\n  \
                  berth ps:type standard-1x      (all process types)"
)]
pub struct Type {
    /// The size of one process type, or of all
    #[arg(value_name = "[TYPE=]SIZE")]
    changes: Vec<String>,
}

pub(super) fn set_type(context: &Context, args: &Type) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let url = path(&["apps", &app, "formation"]);
    let formation: Vec<Formation> = client.list(&url, None)?;
    let mut updates = Vec::new();
    for text in &args.changes {
        let size = |kind: &str, size: &str| FormationUpdate {
            process_type: Some(kind.to_owned()),
            quantity: None,
            size: Some(size.to_owned()),
            dyno_size: None,
        };
        match text.split_once('=') {
            Some((kind, name)) => updates.push(size(kind, name)),
            None => updates.extend(formation.iter().map(|entry| size(&entry.process_type, text))),
        }
    }
    if updates.is_empty() {
        return show(context, &formation);
    }
    let after: Vec<Formation> = client.patch(&url, &FormationBatchUpdate { updates })?;
    show(context, &after)
}

fn show(context: &Context, formation: &[Formation]) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(&formation)?);
    }
    if formation.is_empty() {
        context.out.note("There are no process types yet: they come with the first deploy.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = formation
        .iter()
        .map(|entry| {
            vec![entry.process_type.clone(), entry.quantity.to_string(), entry.size.clone(), entry.command.clone()]
        })
        .collect();
    Ok(context.out.text(output::table(&["TYPE", "COUNT", "SIZE", "COMMAND"], &rows))?)
}

/// Reads `web=3`, `worker=+1:standard-2x` and Heroku's older `web+2`.
fn scale_argument(text: &str) -> Result<FormationUpdate, UsageError> {
    let wrong = || UsageError(format!("{text:?} is not TYPE=COUNT or TYPE=COUNT:SIZE; for example web=3 or worker=+1"));
    let at = text.find(['=', '+']).ok_or_else(wrong)?;
    let (kind, rest) = text.split_at(at);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    ProcessType::parse(kind).map_err(|_invalid| wrong())?;
    let (count, size) = match rest.split_once(':') {
        Some((count, size)) => (count, Some(size.to_owned())),
        None => (rest, None),
    };
    let digits = count.strip_prefix(['+', '-']).unwrap_or(count);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || size.as_deref() == Some("") {
        return Err(wrong());
    }
    Ok(FormationUpdate {
        process_type: Some(kind.to_owned()),
        quantity: Some(Quantity::Text(count.to_owned())),
        size,
        dyno_size: None,
    })
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth ps:restart           (all dynos)\n  berth ps:restart web\n  berth ps:restart web.1"
)]
pub struct Restart {
    /// One dyno or one process type; all if absent
    #[arg(value_name = "DYNO|TYPE")]
    which: Option<String>,
}

pub(super) fn restart(context: &Context, args: &Restart) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let url = match args.which.as_deref() {
        None => path(&["apps", &app, "dynos"]),
        Some(dyno) if dyno.contains('.') => path(&["apps", &app, "dynos", dyno]),
        Some(kind) => path(&["apps", &app, "formations", kind]),
    };
    let answer: serde_json::Value = client.delete(&url)?;
    if context.out.json {
        return Ok(context.out.json(&answer)?);
    }
    let which = args.which.as_deref().unwrap_or("all dynos");
    Ok(context.out.line(format_args!("Restarting {which} of {app}; `berth ps` shows how far it is."))?)
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: berth ps:stop run.1234\n\nA dyno of the formation starts again; scale it to 0 to keep it stopped."
)]
pub struct Stop {
    /// One dyno or one process type
    #[arg(value_name = "DYNO|TYPE")]
    which: String,
}

pub(super) fn stop(context: &Context, args: &Stop) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let collection = if args.which.contains('.') { "dynos" } else { "formations" };
    let url = path(&["apps", &app, collection, &args.which, "actions", "stop"]);
    let answer: serde_json::Value = client.post(&url, &serde_json::json!({}))?;
    if context.out.json {
        return Ok(context.out.json(&answer)?);
    }
    Ok(context.out.line(format_args!("Stopping {} of {app}.", args.which))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(&str, &str, Option<&str>)>) {
        let update = scale_argument(text).ok();
        let expect = expect.map(|(kind, count, size)| FormationUpdate {
            process_type: Some(kind.to_owned()),
            quantity: Some(Quantity::Text(count.to_owned())),
            size: size.map(str::to_owned),
            dyno_size: None,
        });
        assert_eq!(update, expect, "{text}");
    }

    #[test]
    fn a_scale_argument_names_a_type_a_count_and_perhaps_a_size() {
        check("web=3", Some(("web", "3", None)));
        check("worker=+1:standard-2x", Some(("worker", "+1", Some("standard-2x"))));
        check("web=-1", Some(("web", "-1", None)));
        check("web+2", Some(("web", "+2", None)));
        for wrong in ["web", "web=", "web=x", "=3", "web=3:", "web=1.5", "we b=1", "web=+"] {
            check(wrong, None);
        }
    }

    #[test]
    fn dynos_are_listed_web_first_and_by_number() {
        let mut names = ["worker.1", "web.10", "clock.1", "web.9"];
        names.sort_by_key(|name| dyno_order(name));
        assert_eq!(names, ["web.9", "web.10", "clock.1", "worker.1"]);
    }
}
