//! `pipelines:…`: stages side by side, what stands between them, and whose they are.

use anyhow::bail;
use wire::platform_api::Account;
use wire::platform_api::environments::{Comparison, LockCreate, Protection, ProtectionUpdate};
use wire::platform_api::pipelines::{Pipeline, PipelineOwner, PipelineTransfer, PipelineTransferCreate, Reference};

use crate::api_client::{ApiResult, path};
use crate::context::{Context, UsageError};
use crate::{output, prompt};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth pipelines:compare shop\n\n\
                  Values of config vars are never shown: equal ones have the same letter, and - means that the app does\n\
                  not have it. Without --all only what differs is listed.")]
pub struct Compare {
    /// The pipeline
    pipeline: String,
    /// List what is the same everywhere, too
    #[arg(long)]
    all: bool,
}

pub(super) fn compare(context: &Context, args: &Compare) -> anyhow::Result<()> {
    let client = context.client()?;
    let comparison: Comparison = client.get(&path(&["berth", "pipelines", &args.pipeline, "compare"]))?;
    if context.out.json {
        return Ok(context.out.json(&comparison)?);
    }
    let apps: Vec<&str> = comparison.apps.iter().map(|app| app.name.as_str()).collect();
    if apps.is_empty() {
        context.out.note(format_args!("No apps are in the pipeline {}.", comparison.pipeline));
        return Ok(());
    }
    let mut head = vec![""];
    head.extend(&apps);
    let mut rows = Vec::new();
    let mut row = |name: &str, cells: Vec<String>| rows.push([vec![name.to_owned()], cells].concat());
    let of_apps = |cell: &dyn Fn(&wire::platform_api::environments::ComparedApp) -> Option<String>| {
        comparison.apps.iter().map(|app| cell(app).unwrap_or_else(|| "-".to_owned())).collect::<Vec<_>>()
    };
    row("stage", of_apps(&|app| Some(app.stage.clone())));
    row("release", of_apps(&|app| app.release_version.map(|version| format!("v{version}"))));
    row("commit", of_apps(&|app| app.commit.as_ref().map(|commit| short(commit))));
    row("code", of_apps(&|app| app.slug.as_ref().map(|slug| short(slug))));
    let cells = |values: &std::collections::BTreeMap<String, String>| {
        let cell = |app: &&str| values.get(*app).cloned().unwrap_or_else(|| "-".to_owned());
        apps.iter().map(cell).collect::<Vec<_>>()
    };
    for kind in comparison.formation.iter().filter(|kind| args.all || kind.differs) {
        row(&kind.process_type, cells(&kind.values));
    }
    for add_on in comparison.add_ons.iter().filter(|add_on| args.all || add_on.differs) {
        row(&format!("add-on {}", add_on.attachment), cells(&add_on.values));
    }
    for var in comparison.config.iter().filter(|var| args.all || var.differs) {
        row(&var.key, cells(&var.values));
    }
    context.out.text(output::table(&head, &rows))?;
    let code = if comparison.same_code { "the same code" } else { "different code" };
    let vars = comparison.config.iter().filter(|var| var.differs).count();
    let kinds = comparison.formation.iter().filter(|kind| kind.differs).count();
    let add_ons = comparison.add_ons.iter().filter(|add_on| add_on.differs).count();
    context.out.note(format_args!("{code}; {vars} config vars, {kinds} process types and {add_ons} add-ons differ"));
    Ok(())
}

/// As many characters of a digest as people compare.
fn short(text: &str) -> String {
    text.chars().take(8).collect()
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth pipelines:transfer ada@example.com -p shop --confirm shop\n\n\
                  The apps in it that are yours are offered with it: their new owner accepts each with\n\
                  `berth apps:transfers:accept`. An administrator of the server gives them away at once.")]
pub struct Transfer {
    /// The e-mail address of the new owner
    owner: String,
    /// The pipeline
    #[arg(short, long, value_name = "NAME")]
    pipeline: String,
    /// The pipeline's name again, instead of being asked
    #[arg(short, long, value_name = "NAME")]
    confirm: Option<String>,
}

pub(super) fn transfer(context: &Context, args: &Transfer) -> anyhow::Result<()> {
    if !args.owner.contains('@') {
        return Err(UsageError(format!(
            "{:?} is no e-mail address: there are no teams on this server, so a pipeline goes to a person",
            args.owner
        ))
        .into());
    }
    let client = context.client()?;
    let pipeline: Pipeline = client.get(&path(&["pipelines", &args.pipeline]))?;
    let account: ApiResult<Account> = client.get(&path(&["users", &args.owner]));
    let account = match account {
        Err(error) if error.is_not_found() => {
            bail!(
                "there is no user {0} on this server; an administrator lets people in: `berth people:add {0}`",
                args.owner
            )
        }
        found => found?,
    };
    let name = &pipeline.name;
    let confirmed = match &args.confirm {
        Some(confirm) => confirm.clone(),
        None if context.is_interactive() => {
            context.out.warn(format_args!("This gives {name} to {}, and offers them your apps in it.", account.email));
            prompt::line(&format!(" !    Type {name} to go on: "))?
        }
        None => return Err(UsageError(format!("to transfer {name}, add --confirm {name}")).into()),
    };
    if confirmed != *name {
        bail!("{confirmed:?} is not {name:?}; nothing was transferred");
    }
    let body = PipelineTransferCreate {
        pipeline: Reference::Plain(pipeline.id.to_string()),
        new_owner: PipelineOwner { id: account.id, kind: "user".to_owned() },
    };
    let transfer: PipelineTransfer = client.post("/pipeline-transfers", &body)?;
    if context.out.json {
        return Ok(context.out.json(&transfer)?);
    }
    Ok(context.out.line(format_args!("{name} belongs to {} now.", account.email))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth pipelines:protect shop\n  \
                  berth pipelines:protect shop --by ada@example.com --by bob@example.com\n  \
                  berth pipelines:protect shop --window 'MON-FRI 09:00-17:00' --zone Europe/Zurich\n  \
                  berth pipelines:protect shop --open\n\n\
                  Without options it shows what is set. Options replace what was set before, but for a lock.")]
pub struct Protect {
    /// The pipeline
    pipeline: String,
    /// The stage
    #[arg(long, default_value = "production")]
    stage: String,
    /// Only this account may deploy; may be given several times
    #[arg(long = "by", value_name = "EMAIL")]
    deployers: Vec<String>,
    /// Deploy only at these times; may be given several times
    #[arg(long = "window", value_name = "DAYS HOURS")]
    windows: Vec<String>,
    /// The time zone of the windows [default: UTC]
    #[arg(long)]
    zone: Option<String>,
    /// Let everybody deploy at any time again
    #[arg(long, conflicts_with_all = ["deployers", "windows", "zone"])]
    open: bool,
}

pub(super) fn protect(context: &Context, args: &Protect) -> anyhow::Result<()> {
    let client = context.client()?;
    let all = path(&["berth", "pipelines", &args.pipeline, "protections"]);
    if !args.open && args.deployers.is_empty() && args.windows.is_empty() {
        return show(context, &args.pipeline, &client.list(&all, None)?);
    }
    let body =
        ProtectionUpdate { deployers: args.deployers.clone(), windows: args.windows.clone(), zone: args.zone.clone() };
    let set: Protection = client.put(&format!("{all}{}", path(&[&args.stage])), &body)?;
    show(context, &args.pipeline, &[set])
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth pipelines:lock shop 'migration of the orders until Friday'\n\n\
                  Nothing can be deployed, promoted or rolled back to the stage, by anybody, until it is unlocked.")]
pub struct Lock {
    /// The pipeline
    pipeline: String,
    /// Why; everybody who is refused reads it
    reason: String,
    /// The stage
    #[arg(long, default_value = "production")]
    stage: String,
}

pub(super) fn lock(context: &Context, args: &Lock) -> anyhow::Result<()> {
    let client = context.client()?;
    let url = path(&["berth", "pipelines", &args.pipeline, "protections", &args.stage, "lock"]);
    let set: Protection = client.put(&url, &LockCreate { reason: args.reason.clone() })?;
    show(context, &args.pipeline, &[set])
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth pipelines:unlock shop")]
pub struct Unlock {
    /// The pipeline
    pipeline: String,
    /// The stage
    #[arg(long, default_value = "production")]
    stage: String,
}

pub(super) fn unlock(context: &Context, args: &Unlock) -> anyhow::Result<()> {
    let client = context.client()?;
    let url = path(&["berth", "pipelines", &args.pipeline, "protections", &args.stage, "lock"]);
    let set: Protection = client.delete(&url)?;
    show(context, &args.pipeline, &[set])
}

fn show(context: &Context, pipeline: &str, protections: &[Protection]) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(&protections)?);
    }
    let nothing = |protection: &Protection| {
        protection.deployers.is_empty() && protection.windows.is_empty() && protection.lock.is_none()
    };
    if protections.iter().all(nothing) {
        return Ok(context.out.line(format_args!("Everybody may deploy to {pipeline} at any time."))?);
    }
    let or = |list: &[String], without: &str| {
        if list.is_empty() { without.to_owned() } else { list.join(", ") }
    };
    let rows = protections.iter().filter(|protection| !nothing(protection)).map(|protection| {
        let when = or(&protection.windows, "any time");
        let zone = if protection.windows.is_empty() { String::new() } else { format!(" {}", protection.zone) };
        let lock = protection.lock.as_ref().map(|lock| format!("locked by {}: {}", lock.by, lock.reason));
        vec![
            protection.stage.clone(),
            or(&protection.deployers, "everybody"),
            format!("{when}{zone}"),
            lock.unwrap_or_default(),
        ]
    });
    Ok(context.out.text(output::table(&["STAGE", "WHO", "WHEN", "LOCK"], &rows.collect::<Vec<_>>()))?)
}
