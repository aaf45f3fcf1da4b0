//! `certs:dns`: zones that the server may change, for certificates that need a record.

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use wire::platform_api::dns::{DnsZone, DnsZoneUpdate};

use crate::api_client::path;
use crate::context::Context;
use crate::output;
use crate::prompt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Provider {
    Cloudflare,
    Route53,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth certs:dns:add example.com --provider cloudflare < token-file\n  \
                  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… berth certs:dns:add example.com --provider route53\n\n\
                  Cloudflare's token (CLOUDFLARE_API_TOKEN) needs Zone:Read and DNS:Edit for the zone. Amazon's key needs\n\
                  route53:ListHostedZonesByName, ChangeResourceRecordSets and GetChange. What is not in the environment\n\
                  is asked for, or read from the standard input.")]
pub struct Add {
    /// The zone, as its provider names it
    #[arg(value_name = "ZONE")]
    zone: String,
    /// Who holds it
    #[arg(long)]
    provider: Provider,
    /// The address of the provider's API, where it is not the usual one
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth certs:dns:remove example.com")]
pub struct Remove {
    /// The zone, as it was added
    #[arg(value_name = "ZONE")]
    zone: String,
}

pub(super) fn list(context: &Context) -> anyhow::Result<()> {
    let zones: Vec<DnsZone> = context.client()?.list("/berth/dns-zones", None)?;
    if context.out.json {
        return Ok(context.out.json(&zones)?);
    }
    let row =
        |zone: &DnsZone| vec![zone.zone.clone(), zone.provider.clone(), zone.access_key_id.clone().unwrap_or_default()];
    let rows: Vec<Vec<String>> = zones.iter().map(row).collect();
    Ok(context.out.text(output::table(&["ZONE", "PROVIDER", "KEY"], &rows))?)
}

pub(super) fn add(context: &Context, args: &Add) -> anyhow::Result<()> {
    let mut update = DnsZoneUpdate { endpoint: args.endpoint.clone(), ..DnsZoneUpdate::default() };
    match args.provider {
        Provider::Cloudflare => {
            "cloudflare".clone_into(&mut update.provider);
            update.token = Some(given("CLOUDFLARE_API_TOKEN", "Cloudflare API token: ")?);
        }
        Provider::Route53 => {
            "route53".clone_into(&mut update.provider);
            update.access_key_id = Some(given("AWS_ACCESS_KEY_ID", "AWS access key id: ")?);
            update.secret_access_key = Some(given("AWS_SECRET_ACCESS_KEY", "AWS secret access key: ")?);
        }
    }
    let zone: DnsZone = context.client()?.put(&path(&["berth", "dns-zones", &args.zone]), &update)?;
    if context.out.json {
        return Ok(context.out.json(&zone)?);
    }
    Ok(context.out.line(format_args!("Certificates for {} are proved by DNS at {}.", zone.zone, zone.provider))?)
}

pub(super) fn remove(context: &Context, args: &Remove) -> anyhow::Result<()> {
    let removed: serde_json::Value = context.client()?.delete(&path(&["berth", "dns-zones", &args.zone]))?;
    if context.out.json {
        return Ok(context.out.json(&removed)?);
    }
    Ok(context.out.line(format_args!("Forgot {} and its credentials.", args.zone))?)
}

/// From the environment or whoever sits there: arguments can be seen by everybody on the machine.
fn given(variable: &str, question: &str) -> anyhow::Result<String> {
    if let Ok(value) = std::env::var(variable) {
        return Ok(value);
    }
    let secret = prompt::secret(question).with_context(|| format!("cannot read it; or set {variable}"))?;
    if secret.expose().is_empty() {
        bail!("nothing was given; set {variable}, or write it to the standard input");
    }
    Ok(secret.into_exposed())
}
