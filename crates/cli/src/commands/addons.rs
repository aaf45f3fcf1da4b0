//! `addons`: services that apps use, each made once and attached to apps under names.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Value, json};
use wire::platform_api::add_ons::{AddOn, AddOnAttachment, AddOnChanged, AddOnService, Expandable, Plan};

use super::{config, releases};
use crate::api_client::{ApiClient, path};
use crate::context::{Context, UsageError};
use crate::output;
use crate::{follow, prompt};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth addons -a shop\n  berth addons --all --json")]
pub struct List {
    /// Those of every app
    #[arg(long)]
    all: bool,
}

pub(super) fn list(context: &Context, args: &List) -> anyhow::Result<()> {
    let (client, app) = if args.all {
        (context.client()?, None)
    } else {
        let (client, app) = context.app()?;
        (client, Some(app))
    };
    let route = app.as_ref().map_or_else(|| "/addons".to_owned(), |app| path(&["apps", app, "addons"]));
    let add_ons: Vec<AddOn> = client.list(&route, None)?;
    if context.out.json {
        return Ok(context.out.json(&add_ons)?);
    }
    if add_ons.is_empty() {
        context.out.note("There are no add-ons: `berth addons:services` shows what there is.");
        return Ok(());
    }
    let attachments: Vec<AddOnAttachment> = client.list("/addon-attachments", None)?;
    let rows: Vec<Vec<String>> = add_ons
        .iter()
        .map(|add_on| {
            let names = attachments.iter().filter(|one| one.addon.id == add_on.id).map(|one| {
                let here = app.as_ref() == Some(&one.app.name);
                if here { one.name.clone() } else { format!("{}::{}", one.app.name, one.name) }
            });
            vec![
                add_on.name.clone(),
                plan_name(add_on).to_owned(),
                add_on.app.name.clone(),
                add_on.state.clone(),
                names.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    Ok(context.out.text(output::table(&["ADD-ON", "PLAN", "APP", "STATE", "ATTACHED AS"], &rows))?)
}

fn plan_name(add_on: &AddOn) -> &str {
    match &add_on.plan {
        Expandable::Whole(plan) => &plan.name,
        Expandable::Reference(plan) => &plan.name,
    }
}

pub(super) fn services(context: &Context) -> anyhow::Result<()> {
    let services: Vec<AddOnService> = context.client()?.list("/addon-services", None)?;
    if context.out.json {
        return Ok(context.out.json(&services)?);
    }
    let rows: Vec<Vec<String>> =
        services.iter().map(|service| vec![service.name.clone(), service.human_name.clone()]).collect();
    Ok(context.out.text(output::table(&["SERVICE", "WHAT IT IS"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth addons:plans berth-custom")]
pub struct Plans {
    /// The service
    service: String,
}

pub(super) fn plans(context: &Context, args: &Plans) -> anyhow::Result<()> {
    let plans: Vec<Plan> = context.client()?.list(&path(&["addon-services", &args.service, "plans"]), None)?;
    if context.out.json {
        return Ok(context.out.json(&plans)?);
    }
    let rows: Vec<Vec<String>> = plans.iter().map(|plan| vec![plan.name.clone(), plan.description.clone()]).collect();
    Ok(context.out.text(output::table(&["PLAN", "WHAT IT IS"], &rows))?)
}

/// What an add-on of the service `berth-custom` consists of.
#[derive(Debug, clap::Args)]
struct Values {
    #[arg(
        long,
        allow_hyphen_values = true,
        help = "The address, which becomes NAME_URL; `-` reads it from the standard input"
    )]
    url: Option<String>,
    #[arg(
        long = "value",
        value_name = "KEY=VALUE",
        help = "Another value, which becomes NAME_KEY; may be given several times"
    )]
    values: Vec<String>,
}

impl Values {
    fn read(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut read = BTreeMap::new();
        for text in &self.values {
            let (key, value) = config::assignment(text)?;
            read.insert(key, value.unwrap_or_default());
        }
        if let Some(url) = &self.url {
            let url = if url == "-" { prompt::secret("URL: ")?.into_exposed() } else { url.clone() };
            read.insert("url".to_owned(), url.trim().to_owned());
        }
        Ok(read)
    }
}

/// A change of an app's add-ons is a release of it.
#[derive(Debug, clap::Args)]
struct Effect {
    /// Do not wait until dynos serve with the change
    #[arg(long)]
    no_wait: bool,
}

impl Effect {
    fn wait(&self, context: &Context, client: &ApiClient, app: &str) -> anyhow::Result<()> {
        match config::latest_version(client, app)?.filter(|_version| !self.no_wait) {
            Some(version) => releases::until_serving(context, client, app, version),
            None => Ok(()),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth addons:create berth-custom --as DATABASE --url -  < database-url\n  \
                  berth addons:create berth-custom --as STORAGE --value BUCKET=photos --value KEY=abc\n\n\
                  berth-custom is a service that runs elsewhere: its address for one app or several. Without --as a\n\
                  postgres:// URL becomes DATABASE_URL, a redis:// URL REDIS_URL.")]
pub struct Create {
    /// The service, or service:plan
    plan: String,
    /// What the app calls it: the beginning of its config vars
    #[arg(long = "as", value_name = "NAME")]
    attachment: Option<String>,
    /// The add-on's own name; one is made up if you give none
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    values: Values,
    /// The app's name: replace config vars or attachments that are in the way
    #[arg(short, long, value_name = "APP")]
    confirm: Option<String>,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn create(context: &Context, args: &Create) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let body = json!({
        "plan": args.plan,
        "attachment": {"name": args.attachment},
        "name": args.name,
        "config": args.values.read()?,
        "confirm": args.confirm,
    });
    let made: AddOn = client.post(&path(&["apps", &app, "addons"]), &body)?;
    let vars = made.config_vars.join(", ");
    match made.state.as_str() {
        "provisioning" => context.out.note(format_args!("{} is being made: `berth addons:wait {0}`.", made.name)),
        _there => context.out.note(format_args!("Made {}, which sets {vars}.", made.name)),
    }
    args.effect.wait(context, &client, &app)?;
    if context.out.json {
        context.out.json(&made)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub struct Which {
    /// The add-on's name
    name: String,
}

pub(super) fn info(context: &Context, args: &Which) -> anyhow::Result<()> {
    let client = context.client()?;
    let route = path(&["addons", &args.name]);
    let add_on: AddOn = client.get(&route)?;
    if context.out.json {
        return Ok(context.out.json(&add_on)?);
    }
    let attachments: Vec<AddOnAttachment> = client.list(&format!("{route}/addon-attachments"), None)?;
    let names: Vec<String> = attachments.iter().map(|one| format!("{}::{}", one.app.name, one.name)).collect();
    Ok(context.out.text(output::pairs([
        ("Add-on", add_on.name.clone()),
        ("Plan", plan_name(&add_on).to_owned()),
        ("App", add_on.app.name.clone()),
        ("State", add_on.state.clone()),
        ("Attached as", names.join(", ")),
        ("Config vars", add_on.config_vars.join(", ")),
        ("Made at", add_on.created_at.clone()),
    ]))?)
}

/// Waits until an add-on is made, or gone.
pub(super) fn wait(context: &Context, args: &Which) -> anyhow::Result<()> {
    let client = context.client()?;
    let route = path(&["addons", &args.name]);
    let mut last: AddOn = client.get(&route)?;
    let moving = |state: &str| matches!(state, "provisioning" | "deprovisioning");
    let before = last.state.clone();
    if moving(&before) {
        let ended = follow::until_some(|| match client.get::<AddOn>(&route) {
            Ok(add_on) => Ok((!moving(&add_on.state)).then_some(Some(add_on))),
            Err(error) if error.is_not_found() && before == "deprovisioning" => Ok(Some(None)),
            Err(error) => Err(error),
        })?;
        match ended {
            Some(add_on) => last = add_on,
            None => last.state = "deprovisioned".to_owned(),
        }
    }
    if before != "deprovisioning" && last.state == "deprovisioned" {
        bail!("{} could not be made: {}", last.name, last.provision_message);
    }
    if context.out.json {
        return Ok(context.out.json(&last)?);
    }
    Ok(context.out.line(format_args!("{} is {}.", last.name, last.state))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth addons:attach custom-round-12345 -a shop-worker --as DATABASE")]
pub struct Attach {
    /// The add-on's name
    name: String,
    /// What the app calls it: the beginning of its config vars
    #[arg(long = "as", value_name = "NAME")]
    attachment: Option<String>,
    /// The app's name: replace config vars or attachments that are in the way
    #[arg(short, long, value_name = "APP")]
    confirm: Option<String>,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn attach(context: &Context, args: &Attach) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let body = json!({"addon": args.name, "app": app, "name": args.attachment, "confirm": args.confirm});
    let made: AddOnAttachment = client.post("/addon-attachments", &body)?;
    context.out.note(format_args!("Attached {} to {app} as {}.", made.addon.name, made.name));
    args.effect.wait(context, &client, &app)?;
    if context.out.json {
        context.out.json(&made)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth addons:detach DATABASE -a shop-worker")]
pub struct Detach {
    /// What the app calls it
    attachment: String,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn detach(context: &Context, args: &Detach) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let found: AddOnAttachment = client.get(&path(&["apps", &app, "addon-attachments", &args.attachment]))?;
    let gone: AddOnAttachment = client.delete(&path(&["addon-attachments", &found.id.to_string()]))?;
    context.out.note(format_args!("Detached {} from {app}.", gone.name));
    args.effect.wait(context, &client, &app)?;
    if context.out.json {
        context.out.json(&gone)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth addons:rename custom-round-12345 shop-database")]
pub struct Rename {
    /// The add-on's name
    name: String,
    /// Its new name
    new: String,
}

pub(super) fn rename(context: &Context, args: &Rename) -> anyhow::Result<()> {
    let client = context.client()?;
    let add_on: AddOn = client.get(&path(&["addons", &args.name]))?;
    let route = path(&["apps", &add_on.app.name, "addons", &add_on.id.to_string()]);
    let renamed: AddOn = client.patch(&route, &json!({"name": args.new}))?;
    if context.out.json {
        return Ok(context.out.json(&renamed)?);
    }
    Ok(context.out.line(format_args!("{} is called {} now.", args.name, renamed.name))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth addons:update shop-database --url -  < database-url\n  \
                  berth addons:update shop-storage --value KEY=def --remove REGION\n\n\
                  Every app that the add-on is attached to gets a release with the new values.")]
pub struct Update {
    /// The add-on's name
    name: String,
    #[command(flatten)]
    values: Values,
    /// Take a value away; may be given several times
    #[arg(long, value_name = "KEY")]
    remove: Vec<String>,
    #[command(flatten)]
    effect: Effect,
}

pub(super) fn update(context: &Context, args: &Update) -> anyhow::Result<()> {
    let client = context.client()?;
    let set = args.values.read()?.into_iter().map(|(name, value)| json!({"name": name, "value": value}));
    let removed = args.remove.iter().map(|name| json!({"name": name, "value": null}));
    let changes: Vec<Value> = set.chain(removed).collect();
    if changes.is_empty() {
        return Err(UsageError("say what changes: --url, --value KEY=VALUE or --remove KEY".to_owned()).into());
    }
    let route = path(&["berth", "addons", &args.name, "config"]);
    let changed: AddOnChanged = client.patch(&route, &json!({"config": changes}))?;
    if changed.releases.is_empty() {
        context.out.note(format_args!("{}: as it was, nothing changed.", args.name));
    }
    for one in &changed.releases {
        let (app, version) = (&one.app.name, one.release.version);
        context.out.note(format_args!("{app}: v{version}, dynos restart with it."));
        if !args.effect.no_wait {
            releases::until_serving(context, &client, app, version)?;
        }
    }
    if context.out.json {
        context.out.json(&changed)?;
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth addons:destroy custom-round-12345 --confirm shop")]
pub struct Destroy {
    /// The add-on's name
    name: String,
    /// The name of the app that it belongs to, instead of being asked
    #[arg(short, long, value_name = "APP")]
    confirm: Option<String>,
    /// Even if other apps have it
    #[arg(short, long)]
    force: bool,
}

pub(super) fn destroy(context: &Context, args: &Destroy) -> anyhow::Result<()> {
    let client = context.client()?;
    let add_on: AddOn = client.get(&path(&["addons", &args.name]))?;
    let app = &add_on.app.name;
    let confirmed = match &args.confirm {
        Some(confirm) => confirm.clone(),
        None if context.is_interactive() => {
            context.out.warn(format_args!("This destroys {} of {app}.", add_on.name));
            prompt::line(&format!(" !    Type {app} to go on: "))?
        }
        None => return Err(UsageError(format!("to destroy {}, add --confirm {app}", add_on.name)).into()),
    };
    if confirmed != *app {
        bail!("{confirmed:?} is not {app:?}; nothing was destroyed");
    }
    let route = path(&["apps", app, "addons", &add_on.id.to_string()]);
    let gone: AddOn = client.delete_with(&route, &json!({"force": args.force}))?;
    if context.out.json {
        return Ok(context.out.json(&gone)?);
    }
    Ok(context.out.line(format_args!("{} is {}.", gone.name, gone.state))?)
}
