//! Attachments: the names under which apps have add-ons, and the config vars that follow from them.
//!
//! The values stay with the add-on and are looked up at each start of a dyno, so that no release, and no rollback, ever
//! brings back one that was changed.

use std::collections::BTreeSet;

use domain::add_on::attachment_name::AttachmentName;
use domain::add_on::{AddOnState, config_vars};
use domain::config::ConfigVars;
use domain::id::{AddOnId, AppId, AttachmentId};
use domain::name::ConfigKey;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

use crate::add_on::{self, AddOn};
use crate::row::{Micros, collect, first, parsed, time};
use crate::sealed::MasterKey;
use crate::{Store, StoreError, app};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub id: AttachmentId,
    pub add_on: AddOnId,
    pub app: AppId,
    pub name: AttachmentName,
    pub namespace: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    /// The attachments of all add-ons, oldest first.
    pub fn attachments(&self) -> Result<Vec<Attachment>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM attachment ORDER BY created_at, name")?;
            collect(statement.query([])?, attachment)
        })
    }

    pub fn attachments_of_app(&self, app: AppId) -> Result<Vec<Attachment>, StoreError> {
        self.read(|db| of_app(db, app))
    }

    pub fn attachments_of_add_on(&self, add_on: AddOnId) -> Result<Vec<Attachment>, StoreError> {
        self.read(|db| of_add_on(db, add_on))
    }

    pub fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM attachment WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, attachment)
        })
    }

    /// What a process of the app finds in its environment: the app's own config vars and its add-ons'.
    pub fn environment(&self, app: AppId) -> Result<ConfigVars, StoreError> {
        self.read(|db| environment(db, &self.key, app))
    }
}

/// The app's own config vars, with its add-ons'.
pub(crate) fn environment(db: &Connection, key: &MasterKey, app: AppId) -> Result<ConfigVars, StoreError> {
    let own = key.open_config(&app::sealed_config(db, app)?)?;
    with_add_ons(db, key, app, own)
}

/// Adds what the app's add-ons give it now.
pub(crate) fn with_add_ons(
    db: &Connection,
    key: &MasterKey,
    app: AppId,
    mut vars: ConfigVars,
) -> Result<ConfigVars, StoreError> {
    for attachment in of_app(db, app)? {
        let add_on = add_on::get(db, attachment.add_on)?;
        if add_on.state == AddOnState::Provisioned {
            vars.extend(config_vars(&attachment.name, &add_on::values(db, key, add_on.id)?));
        }
    }
    Ok(vars)
}

/// The config vars that belong to add-ons, and to which.
pub(crate) fn owned_vars(db: &Connection, app: AppId) -> Result<Vec<(ConfigKey, Attachment, AddOn)>, StoreError> {
    let mut owned = Vec::new();
    for attachment in of_app(db, app)? {
        let add_on = add_on::get(db, attachment.add_on)?;
        let vars: Vec<ConfigKey> = vars_of(&attachment.name, &add_on.value_names).into_iter().collect();
        owned.extend(vars.into_iter().map(|var| (var, attachment.clone(), add_on.clone())));
    }
    Ok(owned)
}

/// The config vars that values of these names become.
pub(crate) fn vars_of(name: &AttachmentName, value_names: &[ConfigKey]) -> BTreeSet<ConfigKey> {
    value_names.iter().filter_map(|suffix| name.config_var(suffix)).collect()
}

pub(crate) fn of_app(db: &Connection, app: AppId) -> Result<Vec<Attachment>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM attachment WHERE app_id = ?1 ORDER BY created_at, name")?;
    collect(statement.query([app.to_string()])?, attachment)
}

pub(crate) fn of_add_on(db: &Connection, add_on: AddOnId) -> Result<Vec<Attachment>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM attachment WHERE add_on_id = ?1 ORDER BY created_at, name")?;
    collect(statement.query([add_on.to_string()])?, attachment)
}

pub(crate) fn insert(db: &Transaction<'_>, row: &Attachment) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO attachment (id, add_on_id, app_id, name, namespace, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        params![
            row.id.to_string(),
            row.add_on.to_string(),
            row.app.to_string(),
            row.name.as_str(),
            row.namespace,
            Micros(row.created_at)
        ],
    )?;
    Ok(())
}

pub(crate) fn delete(db: &Transaction<'_>, id: AttachmentId) -> Result<(), StoreError> {
    db.execute("DELETE FROM attachment WHERE id = ?1", [id.to_string()])?;
    Ok(())
}

pub(crate) fn attachment(row: &Row<'_>) -> Result<Attachment, StoreError> {
    Ok(Attachment {
        id: parsed(row, "id", AttachmentId::parse)?,
        add_on: parsed(row, "add_on_id", AddOnId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        name: parsed(row, "name", |text| AttachmentName::parse(text).ok())?,
        namespace: row.get("namespace")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
