//! `status`, `doctor`, `gc`: the server and its machine.

use std::path::PathBuf;
use std::process::ExitCode;

use wire::platform_api::berth::{GarbageReport, Status};

use crate::context::Context;
use crate::doctor::{self, Grade};
use crate::output::{self, Colour};

pub(super) fn status(context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let status: Status = client.get("/berth/status")?;
    if context.out.json {
        return Ok(context.out.json(&status)?);
    }
    let router = match &status.router {
        Some(router) => format!(
            "pid {}, {} requests, {} connections, table generation {}",
            router.pid, router.requests_total, router.connections, router.generation
        ),
        None => context.out.paint(Colour::Red, "not running: `berth up` starts it"),
    };
    context.out.text(output::pairs([
        ("Server", format!("{} (version {}, instance {})", client.server, status.version, status.instance)),
        ("Mode", status.mode.clone()),
        ("Isolation", or_dash(status.in_force.join(", "))),
        (
            "Apps",
            format!(
                "{} with {} dynos, at http://APP.{}:{}",
                status.apps, status.dynos, status.domain, status.http_port
            ),
        ),
        ("API", api_address(&status)),
        ("Router", router),
        ("Data", format!("{}, {} free", status.data_dir, output::bytes(status.disk_free_bytes))),
    ]))?;
    if let Some(failure) = &status.api_certificate_failure {
        let mark = context.out.paint(Colour::Red, "certificate:");
        context.out.line(format_args!("{mark} {failure}. It is ordered again by itself (docs/certificates.md)."))?;
    }
    for reduced in &status.reduced {
        context.out.line(format_args!("{} {reduced}", context.out.paint(Colour::Yellow, "reduced:")))?;
    }
    Ok(())
}

/// Where the API answers for other machines.
fn api_address(status: &Status) -> String {
    match (&status.api_url, &status.api_certificate_until) {
        (None, _) => "on this machine only: `berth up --https-port 443` opens it to others".to_owned(),
        (Some(url), Some(until)) => format!("{url}, with a certificate until {until}"),
        (Some(url), None) if url.starts_with("https:") => {
            format!("{url}, without a certificate that clients trust (docs/certificates.md)")
        }
        (Some(url), None) => url.clone(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sudo berth doctor\n\n\
                  Looks at this machine; run it where the server runs. The exit code is 1 if something is missing that\n\
                  Berth cannot do without.")]
pub struct Doctor {
    /// The data directory whose disk to look at
    #[arg(long, value_name = "DIR", env = "BERTH_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The ports that Berth is to listen on
    #[arg(long, value_name = "PORT", value_delimiter = ',', default_values_t = [5000, 8080])]
    ports: Vec<u16>,
}

pub(super) fn doctor(context: &Context, args: &Doctor) -> anyhow::Result<ExitCode> {
    let server: Option<Status> = match context.client() {
        Ok(client) => client.get("/berth/status").ok(),
        Err(_not_logged_in) => None,
    };
    let data_dir = args.data_dir.clone().or_else(|| server.as_ref().map(|status| PathBuf::from(&status.data_dir)));
    let mut facts = doctor::look(data_dir, &args.ports);
    facts.server_runs = server.is_some();
    let findings = doctor::judge(&facts);
    let reduced = server.map(|status| status.reduced).unwrap_or_default();
    if context.out.json {
        context.out.json(&serde_json::json!({ "findings": findings, "reduced": reduced }))?;
    } else {
        for finding in &findings {
            let mark = match finding.grade {
                Grade::Good => context.out.paint(Colour::Green, "good   "),
                Grade::Reduced => context.out.paint(Colour::Yellow, "reduced"),
                Grade::Missing => context.out.paint(Colour::Red, "missing"),
            };
            context.out.line(format_args!("{mark}  {}: {}", finding.name, finding.detail))?;
            if let Some(consequence) = &finding.consequence {
                context.out.line(format_args!("         {consequence}"))?;
            }
        }
        for sentence in reduced {
            context
                .out
                .line(format_args!("{}  the server says: {sentence}", context.out.paint(Colour::Yellow, "reduced")))?;
        }
    }
    let is_missing = findings.iter().any(|finding| finding.grade == Grade::Missing);
    Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth gc             (shows what could be deleted)\n  berth gc --delete")]
pub struct Gc {
    /// Delete what is shown
    #[arg(long)]
    delete: bool,
}

pub(super) fn gc(context: &Context, args: &Gc) -> anyhow::Result<()> {
    let client = context.client()?;
    let report: GarbageReport =
        if args.delete { client.post("/berth/gc", &serde_json::json!({}))? } else { client.get("/berth/gc")? };
    if context.out.json {
        return Ok(context.out.json(&report)?);
    }
    if report.items.is_empty() {
        return Ok(context.out.line("There is nothing to delete.")?);
    }
    let rows: Vec<Vec<String>> = report
        .items
        .iter()
        .map(|item| vec![item.kind.clone(), output::bytes(item.bytes), item.path.clone(), item.reason.clone()])
        .collect();
    context.out.text(output::table(&["KIND", "SIZE", "PATH", "WHY"], &rows))?;
    let total = output::bytes(report.bytes_total);
    Ok(if report.deleted {
        context.out.line(format_args!("{total} were freed."))
    } else {
        context.out.line(format_args!("{total} can be freed: `berth gc --delete`."))
    }?)
}
