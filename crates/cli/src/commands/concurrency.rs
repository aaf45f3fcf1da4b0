//! `ps:concurrency`: how many requests a web dyno may have at once.

use wire::platform_api::berth::{Concurrency as Shown, ConcurrencyUpdate};

use crate::api_client::path;
use crate::context::{Context, UsageError};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth ps:concurrency             (shows what is set and what was learned)\n  \
                  berth ps:concurrency web=4\n  berth ps:concurrency web=auto    (learned)")]
pub struct Concurrency {
    /// So many requests at once, or auto
    #[arg(value_name = "TYPE=COUNT")]
    change: Option<String>,
}

pub(super) fn concurrency(context: &Context, args: &Concurrency) -> anyhow::Result<()> {
    let update = args.change.as_deref().map(argument).transpose()?;
    let (client, app) = context.app()?;
    let url = path(&["berth", "apps", &app, "concurrency"]);
    let shown: Vec<Shown> = match &update {
        Some(update) => client.patch(&url, update)?,
        None => client.list(&url, None)?,
    };
    if context.out.json {
        return Ok(context.out.json(&shown)?);
    }
    let number = |number: Option<u32>, without: &str| number.map_or_else(|| without.to_owned(), |n| n.to_string());
    let row = |entry: &Shown| {
        let learned = if entry.declared.is_some() { "" } else { "not yet" };
        vec![
            entry.process_type.clone(),
            number(entry.declared, "auto"),
            number(entry.learned, learned),
            entry.in_flight.to_string(),
            entry.queued.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    Ok(context.out.text(output::table(&["TYPE", "CONCURRENCY", "LEARNED", "IN FLIGHT", "WAITING"], &rows))?)
}

fn argument(text: &str) -> Result<ConcurrencyUpdate, UsageError> {
    let wrong = || UsageError(format!("{text:?} is not TYPE=COUNT or TYPE=auto; for example web=4"));
    let (kind, count) = text.split_once('=').ok_or_else(wrong)?;
    let concurrency = match count {
        "auto" => None,
        count => Some(count.parse().map_err(|_not_a_number| wrong())?),
    };
    Ok(ConcurrencyUpdate { process_type: kind.to_owned(), concurrency })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_a_number_or_auto() {
        let check = |text, expect| {
            let update = argument(text).ok().map(|update| (update.process_type, update.concurrency));
            assert_eq!(update, expect, "{text}");
        };
        check("web=4", Some(("web".to_owned(), Some(4))));
        check("web=auto", Some(("web".to_owned(), None)));
        for wrong in ["web", "web=", "web=many", "4", "web=-1"] {
            check(wrong, None);
        }
    }
}
