//! `apps:transfer`, `apps:transfers`: apps that are given to somebody else, and what that somebody says.

use clap::Subcommand;
use wire::platform_api::app_transfers::{AppTransfer, AppTransferCreate, AppTransferUpdate};
use wire::platform_api::pipelines::Reference;

use crate::api_client::path;
use crate::context::{Context, UsageError};
use crate::{output, time_text};

#[derive(Debug, Subcommand)]
pub enum AppTransfers {
    /// Give an app to somebody else
    #[command(name = "apps:transfer", display_order = 1)]
    Create(Create),
    /// List the apps that you give and are given
    #[command(name = "apps:transfers", after_help = "Example: berth apps:transfers", display_order = 1)]
    List,
    /// Take an app that somebody gives you
    #[command(
        name = "apps:transfers:accept",
        after_help = "Example: berth apps:transfers:accept shop\n\nWho owned the app stays a collaborator.",
        display_order = 1
    )]
    Accept(Which),
    /// Leave an app that somebody gives you with them
    #[command(
        name = "apps:transfers:decline",
        after_help = "Example: berth apps:transfers:decline shop",
        display_order = 1
    )]
    Decline(Which),
    /// Keep an app that you have offered to somebody
    #[command(
        name = "apps:transfers:cancel",
        after_help = "Example: berth apps:transfers:cancel shop",
        display_order = 1
    )]
    Cancel(Which),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth apps:transfer ada@example.com -a shop\n\n\
                  The recipient accepts it with `berth apps:transfers:accept`; until then it is yours. What an\n\
                  administrator of the server gives away changes hands at once. Who owned the app stays a collaborator.")]
pub struct Create {
    /// The e-mail address of the new owner
    recipient: String,
}

#[derive(Debug, clap::Args)]
pub struct Which {
    /// The app
    name: Option<String>,
}

pub(super) fn execute(command: AppTransfers, context: &Context) -> anyhow::Result<()> {
    match command {
        AppTransfers::Create(args) => create(context, &args),
        AppTransfers::List => list(context),
        AppTransfers::Accept(which) => answer(context, &which, "accepted"),
        AppTransfers::Decline(which) => answer(context, &which, "declined"),
        AppTransfers::Cancel(which) => cancel(context, &which),
    }
}

fn create(context: &Context, args: &Create) -> anyhow::Result<()> {
    if !args.recipient.contains('@') {
        return Err(UsageError(format!(
            "{:?} is no e-mail address: there are no teams on this server, so an app goes to a person",
            args.recipient
        ))
        .into());
    }
    let (client, app) = context.app()?;
    let body = AppTransferCreate { app: Reference::Plain(app), recipient: Reference::Plain(args.recipient.clone()) };
    told(context, &client.post("/account/app-transfers", &body)?)
}

fn list(context: &Context) -> anyhow::Result<()> {
    let transfers: Vec<AppTransfer> = context.client()?.list("/account/app-transfers", None)?;
    if context.out.json {
        return Ok(context.out.json(&transfers)?);
    }
    if transfers.is_empty() {
        context.out.note("Nobody gives you an app, and you give none: `berth apps:transfer` does.");
        return Ok(());
    }
    let row = |transfer: &AppTransfer| {
        let since = time_text::minute(&transfer.updated_at);
        let (from, to) = (transfer.owner.email.clone(), transfer.recipient.email.clone());
        vec![transfer.app.name.clone(), from, to, transfer.state.clone(), since]
    };
    let rows: Vec<Vec<String>> = transfers.iter().map(row).collect();
    Ok(context.out.text(output::table(&["APP", "FROM", "TO", "STATE", "SINCE"], &rows))?)
}

fn answer(context: &Context, which: &Which, state: &str) -> anyhow::Result<()> {
    let body = AppTransferUpdate { state: state.to_owned() };
    told(context, &context.client()?.patch(&which.path(context)?, &body)?)
}

fn cancel(context: &Context, which: &Which) -> anyhow::Result<()> {
    let canceled: AppTransfer = context.client()?.delete(&which.path(context)?)?;
    if context.out.json {
        return Ok(context.out.json(&canceled)?);
    }
    let (app, recipient) = (&canceled.app.name, &canceled.recipient.email);
    Ok(context.out.line(format_args!("{app} is not offered to {recipient} any more."))?)
}

fn told(context: &Context, transfer: &AppTransfer) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(transfer)?);
    }
    let (app, from, to) = (&transfer.app.name, &transfer.owner.email, &transfer.recipient.email);
    let line = match transfer.state.as_str() {
        "accepted" => format!("{app} belongs to {to} now."),
        "declined" => format!("{app} stays with {from}."),
        _pending => format!("{app} is offered to {to}."),
    };
    Ok(context.out.line(line)?)
}

impl Which {
    /// Never guessed from a git remote: whoever is given an app need not have its code.
    fn path(&self, context: &Context) -> anyhow::Result<String> {
        let Some(name) = self.name.as_deref().or(context.global.app.as_deref()) else {
            return Err(UsageError("name the app: `berth apps:transfers` lists them".to_owned()).into());
        };
        Ok(path(&["account", "app-transfers", name]))
    }
}
