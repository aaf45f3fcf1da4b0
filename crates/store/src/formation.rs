//! Formations. They belong to the app: deploys and rollbacks leave them alone.

use domain::autoscale::MAXIMUM_TOLD_EVERY;
use domain::dyno_size::DEFAULT_SIZE_NAME;
use domain::formation::{FormationEntry, Scaling, default_quantity};
use domain::id::AppId;
use domain::name::ProcessType;
use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use uuid::Uuid;

use crate::event::{self, NewEvent};
use crate::notification::SCALING_MAXIMUM;
use crate::row::{Micros, collect, parsed, time};
use crate::{Store, StoreError};

/// A stored row of a formation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formation {
    pub id: Uuid,
    pub app: AppId,
    pub entry: FormationEntry,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a scaling request changes of one process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormationChange {
    pub process_type: ProcessType,
    pub quantity: Option<Scaling>,
    pub size: Option<String>,
    pub concurrency: Option<u32>,
}

impl Store {
    pub fn formation(&self, app: AppId) -> Result<Vec<Formation>, StoreError> {
        self.read(|db| list(db, app))
    }

    /// The formations of all apps, for one look at everything.
    pub fn all_formations(&self) -> Result<Vec<Formation>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM formation ORDER BY app_id")?;
            collect(statement.query([])?, formation)
        })
    }

    /// Applies changes to rows that exist or whose process type is new, all together.
    pub async fn scale(
        &self,
        app: AppId,
        changes: Vec<FormationChange>,
        now: Timestamp,
    ) -> Result<Vec<Formation>, StoreError> {
        self.write(move |db| apply(db, app, &changes, now)).await
    }

    /// Scales one process type from what it was seen to have; `false` where somebody else has scaled it meanwhile. With
    /// `maximum`, that the maximum is reached becomes an event, unless it was one not long ago.
    pub async fn autoscale(
        &self,
        seen: Formation,
        quantity: u32,
        maximum: Option<String>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            let Formation { app, entry, .. } = seen;
            if !list(db, app)?.iter().any(|row| row.entry == entry) {
                return Ok(false);
            }
            let subject = entry.process_type.to_string();
            let quantity = Some(Scaling::To(quantity));
            let change = FormationChange { process_type: entry.process_type, quantity, size: None, concurrency: None };
            apply(db, app, &[change], now)?;
            let Some(text) = maximum else { return Ok(true) };
            let mut told = db.prepare_cached(
                "SELECT 1 FROM event WHERE app_id = ?1 AND kind = ?2 AND subject = ?3 AND at > ?4 LIMIT 1",
            )?;
            let since = now.checked_sub(MAXIMUM_TOLD_EVERY).unwrap_or(Timestamp::MIN);
            if !told.exists(params![app.to_string(), SCALING_MAXIMUM, subject, Micros(since)])? {
                event::insert(db, &NewEvent { app, kind: SCALING_MAXIMUM, subject, text }, now)?;
            }
            Ok(true)
        })
        .await
    }
}

impl Store {
    /// Declares how many requests a dyno of this process type may have at once, or leaves that to be learned.
    pub async fn declare_concurrency(
        &self,
        app: AppId,
        process_type: ProcessType,
        concurrency: Option<u32>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            ensure(db, app, &process_type, now)?;
            db.execute(
                "UPDATE formation SET concurrency = ?3, updated_at = ?4 WHERE app_id = ?1 AND process_type = ?2",
                params![app.to_string(), process_type.as_str(), concurrency, Micros(now)],
            )?;
            Ok(())
        })
        .await
    }
}

fn apply(
    db: &Transaction<'_>,
    app: AppId,
    changes: &[FormationChange],
    now: Timestamp,
) -> Result<Vec<Formation>, StoreError> {
    let before = list(db, app)?;
    for change in changes {
        ensure(db, app, &change.process_type, now)?;
        let quantity = change.quantity.map(|scaling| scaled(db, app, &change.process_type, scaling)).transpose()?;
        db.execute(
            "UPDATE formation SET quantity = COALESCE(?3, quantity), size = COALESCE(?4, size),
                    concurrency = COALESCE(?5, concurrency), updated_at = ?6
             WHERE app_id = ?1 AND process_type = ?2",
            params![
                app.to_string(),
                change.process_type.as_str(),
                quantity,
                change.size,
                change.concurrency,
                Micros(now)
            ],
        )?;
    }
    let after = list(db, app)?;
    if let Some(text) = difference(&before, &after) {
        let subject = "formation".to_owned();
        event::insert(db, &NewEvent { app, kind: "scaling", subject, text }, now)?;
    }
    Ok(after)
}

/// Two who scale at once by one each have scaled by two: what is there is looked up in the transaction that changes it.
fn scaled(db: &Transaction<'_>, app: AppId, process_type: &ProcessType, scaling: Scaling) -> Result<u32, StoreError> {
    let current = db.query_row(
        "SELECT quantity FROM formation WHERE app_id = ?1 AND process_type = ?2",
        params![app.to_string(), process_type.as_str()],
        |row| row.get(0),
    )?;
    scaling.applied_to(current).map_err(|error| StoreError::Refused(error.to_string()))
}

pub(crate) fn list(db: &Connection, app: AppId) -> Result<Vec<Formation>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT * FROM formation WHERE app_id = ?1 ORDER BY process_type <> 'web', process_type")?;
    collect(statement.query([app.to_string()])?, formation)
}

/// `web: 1 to 3, worker: Basic to Standard-2X`; `None` if nothing is another.
fn difference(before: &[Formation], after: &[Formation]) -> Option<String> {
    let mut parts = Vec::new();
    for Formation { entry: now, .. } in after {
        let was = before.iter().map(|row| &row.entry).find(|was| was.process_type == now.process_type);
        let quantity = was.map_or(0, |was| was.quantity);
        if quantity != now.quantity {
            parts.push(format!("{}: {quantity} to {}", now.process_type, now.quantity));
        }
        if let Some(was) = was.filter(|was| was.size != now.size) {
            parts.push(format!("{}: {} to {}", now.process_type, was.size, now.size));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Makes sure that a process type has a row, with the default quantity and size if it is new.
pub(crate) fn ensure(
    db: &Transaction<'_>,
    app: AppId,
    process_type: &ProcessType,
    now: Timestamp,
) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO formation (id, app_id, process_type, quantity, size, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) ON CONFLICT DO NOTHING",
        params![
            Uuid::new_v4().to_string(),
            app.to_string(),
            process_type.as_str(),
            default_quantity(process_type),
            DEFAULT_SIZE_NAME,
            Micros(now)
        ],
    )?;
    Ok(())
}

pub(crate) fn formation(row: &Row<'_>) -> Result<Formation, StoreError> {
    Ok(Formation {
        id: parsed(row, "id", |text| Uuid::try_parse(text).ok())?,
        app: parsed(row, "app_id", AppId::parse)?,
        entry: FormationEntry {
            process_type: parsed(row, "process_type", |text| ProcessType::parse(text).ok())?,
            quantity: row.get("quantity")?,
            size: row.get("size")?,
            concurrency: row.get("concurrency")?,
        },
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
