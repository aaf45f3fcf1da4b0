//! Add-ons: made, attached, changed and taken away, each with the releases that follow, in one transaction.

use std::collections::BTreeSet;

use domain::add_on::attachment_name::{AttachmentName, Family, unnamed};
use domain::add_on::catalogue::Provision;
use domain::add_on::{ATTACHMENTS_MAX, AddOnEvent, AddOnName, AddOnState, Values};
use domain::id::{AccountId, AddOnId, AppId, AttachmentId};
use domain::name::ConfigKey;
use domain::release::ReleaseCause;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::acting::Acting;
use crate::attachment::{self, Attachment, of_add_on, of_app, vars_of};
use crate::release::{self, NewRelease, Release};
use crate::row::{Micros, collect, first, lines, parsed, time};
use crate::sealed::MasterKey;
use crate::{Store, StoreError, app};

/// Add-ons that were made for one app.
const ADD_ONS_MAX: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddOn {
    pub id: AddOnId,
    /// The app that it was made for.
    pub app: AppId,
    /// Who made it.
    pub account: AccountId,
    pub name: AddOnName,
    pub service: String,
    pub plan: String,
    pub state: AddOnState,
    /// Why it could not be made, for people.
    pub failure: Option<String>,
    pub value_names: Vec<ConfigKey>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl AddOn {
    /// `berth-custom:external`.
    pub fn full_plan(&self) -> String {
        format!("{}:{}", self.service, self.plan)
    }
}

#[derive(Debug, Clone)]
pub struct NewAddOn {
    pub app: AppId,
    pub account: AccountId,
    pub service: String,
    pub plan: String,
    /// What its name begins with if it has none.
    pub stem: String,
    pub name: Option<AddOnName>,
    pub provision: Provision,
    pub attaching: Attaching,
}

/// How an add-on is to be attached.
#[derive(Debug, Clone)]
pub struct Attaching {
    /// By the family's rule if absent.
    pub name: Option<AttachmentName>,
    pub family: Family,
    /// What is in its place may go.
    pub confirmed: bool,
    /// Decides what names are drawn.
    pub random: u64,
}

/// An attachment that was made or taken away, and the release that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub add_on: AddOn,
    pub attachment: Attachment,
    pub release: Release,
}

impl Store {
    /// All add-ons, oldest first.
    pub fn add_ons(&self) -> Result<Vec<AddOn>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM add_on ORDER BY created_at, name")?;
            collect(statement.query([])?, add_on)
        })
    }

    pub fn add_on(&self, id: AddOnId) -> Result<Option<AddOn>, StoreError> {
        self.read(|db| find(db, id))
    }

    /// Finds an add-on by name or id.
    pub fn find_add_on(&self, name_or_id: &str) -> Result<Option<AddOn>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM add_on WHERE name = ?1 OR id = ?1 LIMIT 1")?;
            first(statement.query([name_or_id])?, add_on)
        })
    }

    pub fn add_on_values(&self, id: AddOnId) -> Result<Values, StoreError> {
        self.read(|db| values(db, &self.key, id))
    }

    /// Makes an add-on, attached to its app. One that has to be made first gives nothing until
    /// [`Store::provisioned`].
    pub async fn create_add_on(&self, new: NewAddOn, now: Timestamp) -> Result<Attached, StoreError> {
        let key = self.key.clone();
        self.write(move |db| create(db, &key, new, now)).await
    }

    /// Attaches an add-on to one more app, or once more to the same.
    pub async fn attach(
        &self,
        id: AddOnId,
        app: AppId,
        account: AccountId,
        attaching: Attaching,
        namespace: Option<String>,
        now: Timestamp,
    ) -> Result<Attached, StoreError> {
        let key = self.key.clone();
        Acting::is_about(app);
        self.write(move |db| {
            let add_on = get(db, id)?;
            attach(db, &key, add_on, app, account, &attaching, namespace, now)
        })
        .await
    }

    /// Takes an attachment away. The last one to the add-on's own app stays: the add-on would be nowhere.
    pub async fn detach(
        &self,
        attachment: &Attachment,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Attached, StoreError> {
        let (key, id) = (self.key.clone(), attachment.id);
        Acting::is_about(attachment.app);
        self.write(move |db| {
            let mut statement = db.prepare_cached("SELECT * FROM attachment WHERE id = ?1")?;
            let gone = first(statement.query([id.to_string()])?, attachment::attachment)?;
            let gone = gone.ok_or(StoreError::NotFound("add_on attachment"))?;
            let add_on = get(db, gone.add_on)?;
            let is_at_home = |other: &Attachment| other.app == add_on.app;
            let at_home = of_add_on(db, add_on.id)?.iter().filter(|other| is_at_home(other)).count();
            if is_at_home(&gone) && at_home == 1 {
                return Err(StoreError::Refused(format!(
                    "Cannot detach {}, the last attachment of {} to its own app: `heroku addons:destroy {}` removes \
                     the add-on itself.",
                    gone.name, add_on.name, add_on.name
                )));
            }
            attachment::delete(db, gone.id)?;
            let text = format!("Detach {} (@ref:{})", gone.name, add_on.name);
            let release = release_of(db, &key, gone.app, account, text, now)?;
            Ok(Attached { add_on, attachment: gone, release })
        })
        .await
    }

    pub async fn rename_add_on(&self, id: AddOnId, name: AddOnName, now: Timestamp) -> Result<AddOn, StoreError> {
        self.write(move |db| {
            let mut add_on = get(db, id)?;
            if add_on.name != name {
                refuse_taken_name(db, &name)?;
            }
            add_on.name = name;
            add_on.updated_at = now;
            db.execute(
                "UPDATE add_on SET name = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), add_on.name.as_str(), Micros(now)],
            )?;
            Ok(add_on)
        })
        .await
    }

    /// Gives an add-on other values: of two who do so at once, nobody undoes what the other one did. Every app that has it
    /// gets a release; the same values make none.
    pub async fn change_values(
        &self,
        add_on: &AddOn,
        change: impl FnOnce(&Values) -> Result<Values, StoreError> + Send + 'static,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(AddOn, Vec<Release>), StoreError> {
        let (key, id) = (self.key.clone(), add_on.id);
        Acting::is_about(add_on.app);
        self.write(move |db| {
            let add_on = get(db, id)?;
            if add_on.state != AddOnState::Provisioned {
                let state = add_on.state.as_str();
                return Err(StoreError::Refused(format!("{} cannot be changed: it is {state}.", add_on.name)));
            }
            let current = self::values(db, &key, id)?;
            let values = change(&current)?;
            if values == current {
                return Ok((add_on, Vec::new()));
            }
            let add_on = set_values(db, &key, add_on, &values, now)?;
            let releases = of_add_on(db, id)?.into_iter().map(|attachment| {
                let text = format!("Update {} (@ref:{})", attachment.name, add_on.name);
                release_of(db, &key, attachment.app, account, text, now)
            });
            let releases = releases.collect::<Result<_, _>>()?;
            Ok((add_on, releases))
        })
        .await
    }

    /// Ends the making of an add-on: with its values, which every app that has it then gets, or with the reason why
    /// there will be none. `None` if it is not being made (any more).
    pub async fn provisioned(
        &self,
        id: AddOnId,
        made: Result<Values, String>,
        now: Timestamp,
    ) -> Result<Option<AddOn>, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let Some(mut add_on) = find(db, id)? else { return Ok(None) };
            let event = if made.is_ok() { AddOnEvent::Ready } else { AddOnEvent::Failed };
            let Ok(state) = add_on.state.next(event) else { return Ok(None) };
            add_on.state = state;
            add_on.failure = made.as_ref().err().cloned();
            db.execute(
                "UPDATE add_on SET state = ?2, failure = ?3, updated_at = ?4 WHERE id = ?1",
                params![id.to_string(), state.as_str(), add_on.failure, Micros(now)],
            )?;
            let Ok(values) = made else { return Ok(Some(add_on)) };
            let add_on = set_values(db, &key, add_on, &values, now)?;
            for attachment in of_add_on(db, id)? {
                let vars = vars_of(&attachment.name, &add_on.value_names);
                let vars: Vec<&str> = vars.iter().map(ConfigKey::as_str).collect();
                let text = format!("@ref:{} completed provisioning, setting {}", add_on.name, vars.join(", "));
                release_of(db, &key, attachment.app, add_on.account, text, now)?;
            }
            Ok(Some(add_on))
        })
        .await
    }

    /// Takes an add-on from all apps that have it. One that somebody has to take down is there, without attachments,
    /// until [`Store::forget_add_on`].
    pub async fn destroy_add_on(
        &self,
        id: AddOnId,
        account: AccountId,
        force: bool,
        at_once: bool,
        now: Timestamp,
    ) -> Result<(AddOn, Vec<Release>), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let add_on = get(db, id)?;
            let attachments = of_add_on(db, id)?;
            let mut elsewhere = Vec::new();
            for other in attachments.iter().filter(|other| other.app != add_on.app) {
                elsewhere.push(format!("{} as {}", app_name(db, other.app)?, other.name));
            }
            if !force && !elsewhere.is_empty() {
                return Err(StoreError::Refused(format!(
                    "{} is attached to other apps ({}): detach it there first, or say --force",
                    add_on.name,
                    elsewhere.join(", ")
                )));
            }
            destroy(db, &key, add_on, attachments, account, at_once, now)
        })
        .await
    }

    /// Forgets an add-on that was taken down.
    pub async fn forget_add_on(&self, id: AddOnId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM add_on WHERE id = ?1 AND state = 'deprovisioning'", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

pub(crate) fn create(
    db: &Transaction<'_>,
    key: &MasterKey,
    new: NewAddOn,
    now: Timestamp,
) -> Result<Attached, StoreError> {
    app::must_live(db, new.app)?;
    let made: u32 =
        db.query_row("SELECT COUNT(*) FROM add_on WHERE app_id = ?1", [new.app.to_string()], |row| row.get(0))?;
    if made >= ADD_ONS_MAX {
        return Err(StoreError::Refused(format!("An app can have {ADD_ONS_MAX} add-ons at most.")));
    }
    let name = match new.name {
        Some(name) => {
            refuse_taken_name(db, &name)?;
            name
        }
        None => free_name(db, &new.stem, new.attaching.random)?,
    };
    let (state, order, values, value_names) = match new.provision {
        Provision::Done(values) => {
            let names = values.keys().cloned().collect();
            (AddOnState::Provisioned, Values::new(), values, names)
        }
        Provision::Later { order, values } => {
            let names = values.iter().filter_map(|name| ConfigKey::parse(name).ok()).collect();
            (AddOnState::Provisioning, order, Values::new(), names)
        }
    };
    let add_on = AddOn {
        id: AddOnId::random(),
        app: new.app,
        account: new.account,
        name,
        service: new.service,
        plan: new.plan,
        state,
        failure: None,
        value_names,
        created_at: now,
        updated_at: now,
    };
    db.execute(
        "INSERT INTO add_on (id, app_id, account_id, name, service, plan, state, order_sealed, values_sealed,
                             value_names, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11)",
        params![
            add_on.id.to_string(),
            add_on.app.to_string(),
            add_on.account.to_string(),
            add_on.name.as_str(),
            add_on.service,
            add_on.plan,
            add_on.state.as_str(),
            key.seal_config(&order)?,
            key.seal_config(&values)?,
            joined(&add_on.value_names),
            Micros(now)
        ],
    )?;
    let (app, account) = (new.app, new.account);
    attach(db, key, add_on, app, account, &new.attaching, None, now)
}

#[expect(clippy::too_many_arguments, reason = "one transaction's parts, each of which its two callers have at hand")]
pub(crate) fn attach(
    db: &Transaction<'_>,
    key: &MasterKey,
    add_on: AddOn,
    app: AppId,
    account: AccountId,
    attaching: &Attaching,
    namespace: Option<String>,
    now: Timestamp,
) -> Result<Attached, StoreError> {
    app::must_live(db, app)?;
    match add_on.state {
        AddOnState::Provisioning | AddOnState::Provisioned => {}
        AddOnState::Deprovisioning | AddOnState::Deprovisioned => {
            let state = add_on.state.as_str();
            return Err(StoreError::Refused(format!("{} cannot be attached: it is {state}.", add_on.name)));
        }
    }
    let there = of_app(db, app)?;
    let own = key.open_config(&app::sealed_config(db, app)?)?;
    let owned: BTreeSet<ConfigKey> = attachment::owned_vars(db, app)?.into_iter().map(|(var, ..)| var).collect();
    let name = match &attaching.name {
        Some(name) => name.clone(),
        None => unnamed(attaching.family, attaching.random, |name| {
            there.iter().any(|other| other.name == *name)
                || vars_of(name, &add_on.value_names).iter().any(|var| own.contains_key(var) || owned.contains(var))
        })
        .ok_or_else(|| StoreError::Refused("No name is left that would be given: choose one with --as.".to_owned()))?,
    };
    let replaced = there.iter().find(|other| other.name == name);
    if let Some(other) = replaced {
        if other.add_on == add_on.id {
            return Err(StoreError::Refused(format!("{} is attached as {name} already.", add_on.name)));
        }
        let held = get(db, other.add_on)?;
        if !attaching.confirmed {
            return Err(StoreError::Unconfirmed(format!(
                "{name} is the attachment of {} on this app. It is replaced if you confirm.",
                held.name
            )));
        }
        let at_home = of_add_on(db, held.id)?.iter().filter(|one| one.app == held.app).count();
        if held.app == app && at_home == 1 {
            return Err(StoreError::Refused(format!(
                "{name} is the last attachment of {} to its own app: attach that under another name first.",
                held.name
            )));
        }
        attachment::delete(db, other.id)?;
    } else if there.len() >= ATTACHMENTS_MAX {
        return Err(StoreError::Refused(format!("An app can have {ATTACHMENTS_MAX} attachments at most.")));
    }
    clear_the_way(db, key, app, &name, &add_on, attaching.confirmed)?;
    let row = Attachment {
        id: AttachmentId::random(),
        add_on: add_on.id,
        app,
        name,
        namespace,
        created_at: now,
        updated_at: now,
    };
    attachment::insert(db, &row)?;
    let text = format!("Attach {} (@ref:{})", row.name, add_on.name);
    let release = release_of(db, key, app, account, text, now)?;
    Ok(Attached { add_on, attachment: row, release })
}

/// Sees to it that no config var has two meanings: one of the app's own goes if that was confirmed, one of another
/// attachment stays.
fn clear_the_way(
    db: &Transaction<'_>,
    key: &MasterKey,
    app: AppId,
    name: &AttachmentName,
    add_on: &AddOn,
    confirmed: bool,
) -> Result<(), StoreError> {
    let vars = vars_of(name, &add_on.value_names);
    if let Some((var, other, held)) = attachment::owned_vars(db, app)?.into_iter().find(|(var, ..)| vars.contains(var))
    {
        return Err(StoreError::Refused(format!(
            "{var} belongs to {}, which is attached as {}: choose another name with --as.",
            held.name, other.name
        )));
    }
    let mut own = key.open_config(&app::sealed_config(db, app)?)?;
    let shadowed: Vec<ConfigKey> = vars.into_iter().filter(|var| own.contains_key(var)).collect();
    let Some(var) = shadowed.first() else { return Ok(()) };
    if !confirmed {
        return Err(StoreError::Unconfirmed(format!(
            "{var} is a config var of this app already. It is replaced if you confirm; or choose another name with --as."
        )));
    }
    own.retain(|var, _value| !shadowed.contains(var));
    db.execute("UPDATE app SET config_sealed = ?2 WHERE id = ?1", params![app.to_string(), key.seal_config(&own)?])?;
    Ok(())
}

fn destroy(
    db: &Transaction<'_>,
    key: &MasterKey,
    mut add_on: AddOn,
    attachments: Vec<Attachment>,
    account: AccountId,
    at_once: bool,
    now: Timestamp,
) -> Result<(AddOn, Vec<Release>), StoreError> {
    let refused = |error: domain::add_on::InvalidTransition| StoreError::Refused(format!("{error}."));
    add_on.state = add_on.state.next(AddOnEvent::DestroyRequested).map_err(refused)?;
    add_on.updated_at = now;
    db.execute(
        "UPDATE add_on SET state = ?2, updated_at = ?3 WHERE id = ?1",
        params![add_on.id.to_string(), add_on.state.as_str(), Micros(now)],
    )?;
    let mut releases = Vec::new();
    for attachment in attachments {
        attachment::delete(db, attachment.id)?;
        if app::is_living(db, attachment.app)? {
            let text = format!("Detach {} (@ref:{})", attachment.name, add_on.name);
            releases.push(release_of(db, key, attachment.app, account, text, now)?);
        }
    }
    if at_once {
        db.execute("DELETE FROM add_on WHERE id = ?1", [add_on.id.to_string()])?;
        add_on.state = AddOnState::Deprovisioned;
    }
    Ok((add_on, releases))
}

/// Takes a destroyed app's attachments and add-ons away, and those from the apps that have them, too.
pub(crate) fn leave_app(
    db: &Transaction<'_>,
    key: &MasterKey,
    app: AppId,
    account: AccountId,
    now: Timestamp,
) -> Result<(), StoreError> {
    db.execute("DELETE FROM attachment WHERE app_id = ?1", [app.to_string()])?;
    let mut statement = db.prepare_cached("SELECT * FROM add_on WHERE app_id = ?1 AND state <> 'deprovisioning'")?;
    for add_on in collect(statement.query([app.to_string()])?, add_on)? {
        let provider = domain::add_on::catalogue::provider(&add_on.service);
        let at_once = provider.is_none_or(domain::add_on::catalogue::Provider::is_destroyed_at_once);
        let attachments = of_add_on(db, add_on.id)?;
        destroy(db, key, add_on, attachments, account, at_once, now)?;
    }
    Ok(())
}

/// The release that carries a change of what an app has of add-ons.
fn release_of(
    db: &Transaction<'_>,
    key: &MasterKey,
    app: AppId,
    account: AccountId,
    description: String,
    now: Timestamp,
) -> Result<Release, StoreError> {
    let new = NewRelease {
        app,
        cause: ReleaseCause::AddonChange,
        description,
        slug: release::newest_usable_slug(db, app)?,
        account,
        config: key.open_config(&app::sealed_config(db, app)?)?,
        hold: false,
        run_command: false,
    };
    release::insert(db, key, &new, now)
}

/// Writes values down, if no app that has the add-on has another use for the config vars that they become.
fn set_values(
    db: &Transaction<'_>,
    key: &MasterKey,
    mut add_on: AddOn,
    values: &Values,
    now: Timestamp,
) -> Result<AddOn, StoreError> {
    add_on.value_names = values.keys().cloned().collect();
    add_on.updated_at = now;
    for attachment in of_add_on(db, add_on.id)? {
        let vars = vars_of(&attachment.name, &add_on.value_names);
        let owned = attachment::owned_vars(db, attachment.app)?;
        let others = owned.iter().filter(|(_var, other, _held)| other.id != attachment.id).map(|(var, ..)| var);
        let own = key.open_config(&app::sealed_config(db, attachment.app)?)?;
        if let Some(var) = others.chain(own.keys()).find(|var| vars.contains(var)) {
            let app = app_name(db, attachment.app)?;
            return Err(StoreError::Refused(format!(
                "{app} has another config var {var}: unset it, or attach {} under another name.",
                add_on.name
            )));
        }
    }
    db.execute(
        "UPDATE add_on SET values_sealed = ?2, value_names = ?3, updated_at = ?4 WHERE id = ?1",
        params![add_on.id.to_string(), key.seal_config(values)?, joined(&add_on.value_names), Micros(now)],
    )?;
    Ok(add_on)
}

/// `service:plan` of what an app has, each once.
pub(crate) fn plans_of(db: &Connection, app: AppId) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT add_on.service || ':' || add_on.plan AS plan
         FROM attachment JOIN add_on ON add_on.id = attachment.add_on_id WHERE attachment.app_id = ?1 ORDER BY plan",
    )?;
    collect(statement.query([app.to_string()])?, |row| Ok(row.get("plan")?))
}

fn app_name(db: &Connection, app: AppId) -> Result<String, StoreError> {
    let name = db.query_row("SELECT name FROM app WHERE id = ?1", [app.to_string()], |row| row.get(0)).optional()?;
    name.ok_or(StoreError::NotFound("app"))
}

fn free_name(db: &Connection, stem: &str, random: u64) -> Result<AddOnName, StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM add_on WHERE name = ?1")?;
    for step in 0..1000 {
        let name = AddOnName::drawn(stem, random.wrapping_add(step));
        if !taken.exists([name.as_str()])? {
            return Ok(name);
        }
    }
    Err(StoreError::Refused("No name is left that would be drawn: choose one with --name.".to_owned()))
}

fn refuse_taken_name(db: &Connection, name: &AddOnName) -> Result<(), StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM add_on WHERE name = ?1")?;
    if taken.exists([name.as_str()])? {
        return Err(StoreError::Refused(format!("Name {name} is already taken")));
    }
    Ok(())
}

fn joined(names: &[ConfigKey]) -> String {
    names.iter().map(ConfigKey::as_str).collect::<Vec<_>>().join("\n")
}

pub(crate) fn find(db: &Connection, id: AddOnId) -> Result<Option<AddOn>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM add_on WHERE id = ?1")?;
    first(statement.query([id.to_string()])?, add_on)
}

pub(crate) fn get(db: &Connection, id: AddOnId) -> Result<AddOn, StoreError> {
    find(db, id)?.ok_or(StoreError::NotFound("add_on"))
}

pub(crate) fn values(db: &Connection, key: &MasterKey, id: AddOnId) -> Result<Values, StoreError> {
    let sealed: Option<Vec<u8>> = db
        .query_row("SELECT values_sealed FROM add_on WHERE id = ?1", [id.to_string()], |row| row.get(0))
        .optional()?;
    key.open_config(&sealed.ok_or(StoreError::NotFound("add_on"))?)
}

pub(crate) fn add_on(row: &Row<'_>) -> Result<AddOn, StoreError> {
    let names = lines(&row.get::<_, String>("value_names")?);
    let name = |text: &String| ConfigKey::parse(text).map_err(|_bad| StoreError::Damaged("value_names"));
    Ok(AddOn {
        id: parsed(row, "id", AddOnId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        account: parsed(row, "account_id", AccountId::parse)?,
        name: parsed(row, "name", |text| AddOnName::parse(text).ok())?,
        service: row.get("service")?,
        plan: row.get("plan")?,
        state: parsed(row, "state", AddOnState::parse)?,
        failure: row.get("failure")?,
        value_names: names.iter().map(name).collect::<Result<_, _>>()?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

#[cfg(test)]
mod tests;
