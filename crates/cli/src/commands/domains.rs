//! `domains`: the host names of an app, and where their requests go.

use wire::platform_api::domains::{Domain, DomainCreate};
use wire::platform_api::routing::{DomainRoute, DomainRouteUpdate};

use crate::api_client::path;
use crate::context::{Context, UsageError};
use crate::output;

pub(super) fn list(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let domains: Vec<DomainRoute> = client.get(&path(&["berth", "apps", &app, "domains"]))?;
    if context.out.json {
        return Ok(context.out.json(&domains)?);
    }
    let row = |route: &DomainRoute| {
        let Domain { hostname, cname, sni_endpoint, .. } = &route.domain;
        vec![
            hostname.clone(),
            route.upstream.clone().unwrap_or_else(|| "dynos".to_owned()),
            cname.clone().unwrap_or_default(),
            sni_endpoint.as_ref().map(|endpoint| endpoint.name.clone()).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = domains.iter().map(row).collect();
    Ok(context.out.text(output::table(&["DOMAIN", "LEADS TO", "DNS TARGET", "CERTIFICATE"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth domains:add www.example.com -a shop")]
pub struct Add {
    /// The host name, or *.example.com for all names below one
    #[arg(value_name = "HOST")]
    host: String,
}

pub(super) fn add(context: &Context, args: &Add) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let create = DomainCreate { hostname: args.host.clone(), sni_endpoint: None };
    let domain: Domain = client.post(&path(&["apps", &app, "domains"]), &create)?;
    if context.out.json {
        return Ok(context.out.json(&domain)?);
    }
    let target = domain.cname.unwrap_or_default();
    Ok(context.out.line(format_args!("Added {}. Lead its DNS record to {target}.", domain.hostname))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth domains:remove www.example.com -a shop")]
pub struct Remove {
    /// The host name
    #[arg(value_name = "HOST")]
    host: String,
}

pub(super) fn remove(context: &Context, args: &Remove) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let domain: Domain = client.delete(&path(&["apps", &app, "domains", &args.host]))?;
    if context.out.json {
        return Ok(context.out.json(&domain)?);
    }
    Ok(context.out.line(format_args!("Removed {}.", domain.hostname))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth domains:front www.example.com https://calm-sea-123.herokudns.com\n  \
    berth domains:front www.example.com --clear\n\n\
    The old host gets the requests with the domain as Host and in TLS, so it must still serve the domain, with a\n\
    certificate for it that this machine trusts. DNS can then lead here before the app has moved in; what goes wrong\n\
    on the way stands in the app's log (H19, H21 with its cause). The app's own name here leads to its dynos meanwhile.")]
pub struct Front {
    /// The domain
    #[arg(value_name = "HOST")]
    host: String,
    /// The old host's address, by a name that does not lead here
    #[arg(value_name = "URL", conflicts_with = "clear")]
    url: Option<String>,
    /// Lead the domain to the app's dynos
    #[arg(long)]
    clear: bool,
}

pub(super) fn front(context: &Context, args: &Front) -> anyhow::Result<()> {
    if args.url.is_none() && !args.clear {
        return Err(UsageError("name the old host's URL, or --clear to lead the domain to the dynos".to_owned()).into());
    }
    let (client, app) = context.app()?;
    let update = DomainRouteUpdate { upstream: args.url.clone() };
    let route: DomainRoute = client.patch(&path(&["berth", "apps", &app, "domains", &args.host]), &update)?;
    if context.out.json {
        return Ok(context.out.json(&route)?);
    }
    let to = route.upstream.unwrap_or_else(|| format!("the dynos of {app}"));
    Ok(context.out.line(format_args!("{} leads to {to}.", route.domain.hostname))?)
}
