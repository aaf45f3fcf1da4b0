//! Collaborators: whom the owners of apps have let in.

use domain::access::Permissions;
use domain::id::{AccountId, AppId, CollaboratorId};
use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::app::App;
use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError};

/// People of one app.
const COLLABORATORS_MAX: u32 = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collaborator {
    pub id: CollaboratorId,
    pub app: AppId,
    pub account: AccountId,
    pub permissions: Permissions,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    /// The collaborators of an app, oldest first.
    pub fn collaborators(&self, app: AppId) -> Result<Vec<Collaborator>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM collaborator WHERE app_id = ?1 ORDER BY created_at")?;
            collect(statement.query([app.to_string()])?, collaborator)
        })
    }

    /// What an account may do with an app. The owner may do everything.
    pub fn permissions(&self, account: AccountId, app: &App) -> Result<Permissions, StoreError> {
        if app.owner == account {
            return Ok(Permissions::EVERY);
        }
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM collaborator WHERE app_id = ?1 AND account_id = ?2")?;
            let found = first(statement.query([app.id.to_string(), account.to_string()])?, collaborator)?;
            Ok(found.map_or(Permissions::NONE, |collaborator| collaborator.permissions))
        })
    }

    /// Lets somebody in. Refused if they are already.
    pub async fn add_collaborator(
        &self,
        app: AppId,
        account: AccountId,
        permissions: Permissions,
        now: Timestamp,
    ) -> Result<Collaborator, StoreError> {
        let id = CollaboratorId::random();
        let row = Collaborator { id, app, account, permissions, created_at: now, updated_at: now };
        self.write(move |db| {
            let count: u32 =
                db.query_row("SELECT count(*) FROM collaborator WHERE app_id = ?1", [app.to_string()], |counted| {
                    counted.get(0)
                })?;
            if count >= COLLABORATORS_MAX {
                return Err(StoreError::Refused(format!("An app can have {COLLABORATORS_MAX} collaborators at most")));
            }
            let added = db.execute(
                "INSERT INTO collaborator (id, app_id, account_id, permissions, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT DO NOTHING",
                params![
                    row.id.to_string(),
                    row.app.to_string(),
                    row.account.to_string(),
                    row.permissions.to_string(),
                    Micros(now)
                ],
            )?;
            let already = || StoreError::Refused("User is already a collaborator on the app".to_owned());
            if added == 0 { Err(already()) } else { Ok(row) }
        })
        .await
    }

    pub async fn change_collaborator(
        &self,
        id: CollaboratorId,
        permissions: Permissions,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE collaborator SET permissions = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), permissions.to_string(), Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn remove_collaborator(&self, id: CollaboratorId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM collaborator WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

pub(crate) fn collaborator(row: &Row<'_>) -> Result<Collaborator, StoreError> {
    Ok(Collaborator {
        id: parsed(row, "id", CollaboratorId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        account: parsed(row, "account_id", AccountId::parse)?,
        permissions: parsed(row, "permissions", |text| Permissions::parse(text.split(',')))?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
