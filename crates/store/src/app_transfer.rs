//! Apps that their owners give to somebody else, and the owners that apps have had.
//!
//! While a transfer is pending, its sender owns the app and both people are there: whatever changes that ends it, in the
//! same transaction.

use domain::access::Permissions;
use domain::app_transfer::{Answer, TransferState};
use domain::id::{AccountId, AppId, AppTransferId, CollaboratorId};
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};

use crate::acting::Acting;
use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError};

/// How somebody gets an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giving {
    AtOnce,
    /// By accepting it.
    Offered,
}

/// An app's last transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTransfer {
    pub id: AppTransferId,
    pub app: AppId,
    pub sender: AccountId,
    pub recipient: AccountId,
    pub state: TransferState,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    /// Those that somebody sends or receives, oldest first.
    pub fn app_transfers_of(&self, account: AccountId) -> Result<Vec<AppTransfer>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM app_transfer WHERE sender_id = ?1 OR recipient_id = ?1 ORDER BY created_at",
            )?;
            collect(statement.query([account.to_string()])?, transfer)
        })
    }

    /// Finds a transfer by its id, or by the name or id of its app.
    pub fn find_app_transfer(&self, id_or_app: &str) -> Result<Option<AppTransfer>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT app_transfer.* FROM app_transfer JOIN app ON app.id = app_transfer.app_id
                 WHERE app_transfer.id = ?1 OR app.name = ?1 OR app.id = ?1",
            )?;
            first(statement.query([id_or_app])?, transfer)
        })
    }

    /// Offers an app to somebody, who gets it by accepting. An app is offered to one at a time.
    pub async fn offer_app(
        &self,
        app: AppId,
        sender: AccountId,
        recipient: AccountId,
        now: Timestamp,
    ) -> Result<AppTransfer, StoreError> {
        Acting::is_about(app);
        self.write(move |db| offer(db, app, sender, recipient, now)).await
    }

    /// Gives an app to somebody at once, also if it was on offer. Who owned it stays a collaborator.
    pub async fn give_app(&self, app: AppId, to: AccountId, now: Timestamp) -> Result<AppTransfer, StoreError> {
        Acting::is_about(app);
        self.write(move |db| give(db, app, to, now)).await
    }

    /// Writes down what the recipient says, and hands the app over if they accept. Who owned it stays a collaborator.
    pub async fn answer_app_transfer(
        &self,
        transfer: &AppTransfer,
        answer: Answer,
        now: Timestamp,
    ) -> Result<AppTransfer, StoreError> {
        let id = transfer.id;
        Acting::is_about(transfer.app);
        self.write(move |db| {
            let found = get(db, id)?;
            let state = found.state.answered(answer).map_err(|error| StoreError::Refused(error.to_string()))?;
            db.execute(
                "UPDATE app_transfer SET state = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), state.as_str(), Micros(now)],
            )?;
            if state == TransferState::Accepted {
                hand_over(db, found.app, found.sender, found.recipient, now)?;
            }
            Ok(AppTransfer { state, updated_at: now, ..found })
        })
        .await
    }

    /// Takes an offer back. What was answered stands.
    pub async fn withdraw_app_transfer(&self, transfer: &AppTransfer) -> Result<(), StoreError> {
        let id = transfer.id;
        Acting::is_about(transfer.app);
        self.write(move |db| {
            let found = get(db, id)?;
            if found.state != TransferState::Pending {
                return Err(StoreError::Refused(format!("The transfer is {} already", found.state.as_str())));
            }
            end_pending(db, found.app)
        })
        .await
    }
}

pub(crate) fn offer(
    db: &Transaction<'_>,
    app: AppId,
    sender: AccountId,
    recipient: AccountId,
    now: Timestamp,
) -> Result<AppTransfer, StoreError> {
    if owner_giving_to(db, app, recipient)? != sender {
        return Err(StoreError::Refused("The app belongs to somebody else by now".to_owned()));
    }
    let mut on_offer = db.prepare_cached(
        "SELECT app.name, account.email FROM app_transfer
         JOIN app ON app.id = app_transfer.app_id JOIN account ON account.id = app_transfer.recipient_id
         WHERE app_transfer.app_id = ?1 AND app_transfer.state = 'pending'",
    )?;
    let asked = first(on_offer.query([app.to_string()])?, |row| {
        Ok((row.get::<_, String>("name")?, row.get::<_, String>("email")?))
    })?;
    if let Some((name, asked)) = asked {
        return Err(StoreError::Refused(format!(
            "{name} is offered to {asked} already, who has not answered; `berth apps:transfers:cancel {name}` takes \
             the offer back"
        )));
    }
    replace(db, app, sender, recipient, TransferState::Pending, now)
}

pub(crate) fn give(db: &Transaction<'_>, app: AppId, to: AccountId, now: Timestamp) -> Result<AppTransfer, StoreError> {
    let from = owner_giving_to(db, app, to)?;
    hand_over(db, app, from, to, now)?;
    replace(db, app, from, to, TransferState::Accepted, now)
}

/// The owner of a living app, who is not the one that gets it, and whoever gets it is there.
fn owner_giving_to(db: &Connection, app: AppId, to: AccountId) -> Result<AccountId, StoreError> {
    let mut found = db.prepare_cached("SELECT owner_id FROM app WHERE id = ?1 AND destroyed_at IS NULL")?;
    let owner = first(found.query([app.to_string()])?, |row| parsed(row, "owner_id", AccountId::parse))?;
    let owner = owner.ok_or(StoreError::NotFound("app"))?;
    if owner == to {
        return Err(StoreError::Refused("The app is theirs already".to_owned()));
    }
    let mut there = db.prepare_cached("SELECT 1 FROM account WHERE id = ?1 AND removed_at IS NULL")?;
    if there.exists([to.to_string()])? { Ok(owner) } else { Err(StoreError::NotFound("user")) }
}

/// Makes somebody the owner of an app. Who owned it is a collaborator from then on; what they offered is not theirs any
/// more.
fn hand_over(
    db: &Transaction<'_>,
    app: AppId,
    from: AccountId,
    to: AccountId,
    now: Timestamp,
) -> Result<(), StoreError> {
    end_pending(db, app)?;
    db.execute(
        "UPDATE app SET owner_id = ?2, updated_at = ?3 WHERE id = ?1",
        params![app.to_string(), to.to_string(), Micros(now)],
    )?;
    // The owner has no row.
    db.execute(
        "DELETE FROM collaborator WHERE app_id = ?1 AND account_id = ?2",
        params![app.to_string(), to.to_string()],
    )?;
    db.execute(
        "INSERT INTO collaborator (id, app_id, account_id, permissions, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        params![
            CollaboratorId::random().to_string(),
            app.to_string(),
            from.to_string(),
            Permissions::COLLABORATOR.to_string(),
            Micros(now)
        ],
    )?;
    Ok(())
}

/// The app is no longer on offer.
fn end_pending(db: &Connection, app: AppId) -> Result<(), StoreError> {
    db.execute("DELETE FROM app_transfer WHERE app_id = ?1 AND state = 'pending'", [app.to_string()])?;
    Ok(())
}

/// Somebody has left: nothing is offered by them nor to them, and nobody hears of what was.
pub(crate) fn end_those_of(db: &Connection, account: AccountId) -> Result<(), StoreError> {
    db.execute("DELETE FROM app_transfer WHERE sender_id = ?1 OR recipient_id = ?1", [account.to_string()])?;
    Ok(())
}

fn replace(
    db: &Connection,
    app: AppId,
    sender: AccountId,
    recipient: AccountId,
    state: TransferState,
    now: Timestamp,
) -> Result<AppTransfer, StoreError> {
    let row =
        AppTransfer { id: AppTransferId::random(), app, sender, recipient, state, created_at: now, updated_at: now };
    db.execute("DELETE FROM app_transfer WHERE app_id = ?1", [app.to_string()])?;
    db.execute(
        "INSERT INTO app_transfer (id, app_id, sender_id, recipient_id, state, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        params![
            row.id.to_string(),
            app.to_string(),
            sender.to_string(),
            recipient.to_string(),
            state.as_str(),
            Micros(now)
        ],
    )?;
    Ok(row)
}

fn get(db: &Connection, id: AppTransferId) -> Result<AppTransfer, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM app_transfer WHERE id = ?1")?;
    first(statement.query([id.to_string()])?, transfer)?.ok_or(StoreError::NotFound("app transfer"))
}

fn transfer(row: &Row<'_>) -> Result<AppTransfer, StoreError> {
    Ok(AppTransfer {
        id: parsed(row, "id", AppTransferId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        sender: parsed(row, "sender_id", AccountId::parse)?,
        recipient: parsed(row, "recipient_id", AccountId::parse)?,
        state: parsed(row, "state", TransferState::parse)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
