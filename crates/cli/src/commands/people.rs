//! `access`, `people`, `audit`: who may do what, and who did.

use serde_json::json;
use wire::platform_api::berth::{AuditEntry, Invitation, Person};
use wire::platform_api::catalogue::Collaborator;

use super::second_factor::with_code;
use crate::api_client::path;
use crate::context::Context;
use crate::output;
use crate::time_text;

pub(super) fn access(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let people: Vec<Collaborator> = client.list(&path(&["apps", &app, "collaborators"]), None)?;
    if context.out.json {
        return Ok(context.out.json(&people)?);
    }
    let rows: Vec<Vec<String>> = people
        .iter()
        .map(|person| {
            let words: Vec<&str> = person.permissions.iter().map(|word| word.name.as_str()).collect();
            vec![person.user.email.clone(), person.role.clone().unwrap_or_default(), words.join(",")]
        })
        .collect();
    Ok(context.out.text(output::table(&["E-MAIL", "ROLE", "PERMISSIONS"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth access:add ada@example.com -p deploy,operate -a shop\n\n\
                  Permissions are view, deploy, operate (config, scaling, one-off dynos) and manage (people, name,\n\
                  end of the app). Left out, somebody new gets view, deploy and operate.")]
pub struct AccessAdd {
    /// Whom to let in
    email: String,
    /// What they may do, separated by commas
    #[arg(short, long, value_name = "PERMISSIONS", value_delimiter = ',')]
    permissions: Option<Vec<String>>,
}

pub(super) fn access_add(context: &Context, args: &AccessAdd) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let body = match &args.permissions {
        Some(permissions) => json!({"user": args.email, "permissions": permissions}),
        None => json!({"user": args.email}),
    };
    let added: Collaborator = client.post(&path(&["apps", &app, "collaborators"]), &body)?;
    told(context, &added, &app, "may now")
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth access:update ada@example.com -p view -a shop")]
pub struct AccessUpdate {
    /// Whose permissions change
    email: String,
    /// What they may do from now on, separated by commas
    #[arg(short, long, value_name = "PERMISSIONS", value_delimiter = ',', required = true)]
    permissions: Vec<String>,
}

pub(super) fn access_update(context: &Context, args: &AccessUpdate) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let route = path(&["berth", "apps", &app, "collaborators", &args.email]);
    let updated: Collaborator = client.patch(&route, &json!({"permissions": args.permissions}))?;
    told(context, &updated, &app, "may now")
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth access:remove ada@example.com -a shop")]
pub struct AccessRemove {
    /// Who may no longer see the app
    email: String,
}

pub(super) fn access_remove(context: &Context, args: &AccessRemove) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let removed: Collaborator = client.delete(&path(&["apps", &app, "collaborators", &args.email]))?;
    told(context, &removed, &app, "could, until now,")
}

fn told(context: &Context, person: &Collaborator, app: &str, verb: &str) -> anyhow::Result<()> {
    if context.out.json {
        return Ok(context.out.json(person)?);
    }
    let words: Vec<&str> = person.permissions.iter().map(|word| word.name.as_str()).collect();
    Ok(context.out.line(format_args!("{} {verb} {} {app}.", person.user.email, words.join(", ")))?)
}

pub(super) fn people(context: &Context) -> anyhow::Result<()> {
    let people: Vec<Person> = context.client()?.list("/berth/people", None)?;
    if context.out.json {
        return Ok(context.out.json(&people)?);
    }
    let role = |person: &Person| if person.administrator { "administrator" } else { "member" }.to_owned();
    let row = |person: &Person| vec![person.email.clone(), role(person), time_text::minute(&person.created_at)];
    let rows: Vec<Vec<String>> = people.iter().map(row).collect();
    Ok(context.out.text(output::table(&["E-MAIL", "ROLE", "SINCE"], &rows))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth people:add ada@example.com\n\n\
                  Prints an invitation, once. Whoever has it logs in with it within seven days: `berth login URL`, or\n\
                  `heroku login -i` with the invitation as password. For somebody who is there already it is a way\n\
                  back in.")]
pub struct PeopleAdd {
    /// Who it is
    email: String,
    /// Lets them do everything on this server
    #[arg(long)]
    administrator: bool,
}

pub(super) fn people_add(context: &Context, args: &PeopleAdd) -> anyhow::Result<()> {
    let body = json!({"email": args.email, "administrator": args.administrator});
    let invited: Invitation = with_code(context.client()?, |client| client.post("/berth/people", &body))?;
    if context.out.json {
        return Ok(context.out.json(&invited)?);
    }
    context.out.note(format_args!("Invitation of {}; it is shown this once:", invited.person.email));
    Ok(context.out.line(invited.invitation)?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth people:update ada@example.com --administrator true")]
pub struct PeopleUpdate {
    /// Who it is
    email: String,
    /// Whether they may do everything on this server
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    administrator: bool,
}

pub(super) fn people_update(context: &Context, args: &PeopleUpdate) -> anyhow::Result<()> {
    let route = path(&["berth", "people", &args.email]);
    let body = json!({"administrator": args.administrator});
    let person: Person = with_code(context.client()?, |client| client.patch(&route, &body))?;
    if context.out.json {
        return Ok(context.out.json(&person)?);
    }
    let role = if person.administrator { "an administrator" } else { "no administrator" };
    Ok(context.out.line(format_args!("{} is {role}.", person.email))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth people:reset-2fa ada@example.com")]
pub struct PeopleResetTwoFactor {
    /// Who has lost it
    email: String,
}

pub(super) fn people_reset_two_factor(context: &Context, args: &PeopleResetTwoFactor) -> anyhow::Result<()> {
    let route = path(&["berth", "people", &args.email, "two-factor"]);
    let person: Person = with_code(context.client()?, |client| client.delete(&route))?;
    if context.out.json {
        return Ok(context.out.json(&person)?);
    }
    Ok(context.out.line(format_args!("{} needs no code any more.", person.email))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth people:remove ada@example.com\n\n\
                  Their tokens stop working at once. Their apps stay.")]
pub struct PeopleRemove {
    /// Who leaves
    email: String,
}

pub(super) fn people_remove(context: &Context, args: &PeopleRemove) -> anyhow::Result<()> {
    let person: Person = context.client()?.delete(&path(&["berth", "people", &args.email]))?;
    if context.out.json {
        return Ok(context.out.json(&person)?);
    }
    Ok(context.out.line(format_args!("{} has left; their tokens are void.", person.email))?)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth audit\n  berth audit -a shop -n 20")]
pub struct Audit {
    /// How many entries, newest first
    #[arg(short, long, default_value_t = 50)]
    number: usize,
}

pub(super) fn audit(context: &Context, args: &Audit) -> anyhow::Result<()> {
    let route = match context.named_app() {
        Some(app) => path(&["berth", "apps", app, "audit"]),
        None => "/berth/audit".to_owned(),
    };
    let mut entries: Vec<AuditEntry> = context.client()?.get(&route)?;
    entries.truncate(args.number);
    if context.out.json {
        return Ok(context.out.json(&entries)?);
    }
    let row = |entry: &AuditEntry| {
        let what = entry.action.split(' ').next().unwrap_or_default();
        vec![
            time_text::minute(&entry.at),
            entry.email.clone(),
            format!("{what} {}", entry.target),
            entry.origin.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    Ok(context.out.text(output::table(&["WHEN", "WHO", "WHAT", "FROM"], &rows))?)
}
