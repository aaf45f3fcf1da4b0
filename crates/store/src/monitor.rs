//! Autoscaling of process types: what was asked for.

use domain::autoscale::Bounds;
use domain::id::{AppId, MonitorId};
use domain::name::ProcessType;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::row::{Micros, collect, first, number, parsed, time, unsigned};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    pub id: MonitorId,
    pub app: AppId,
    pub process_type: ProcessType,
    pub active: bool,
    pub bounds: Bounds,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    pub fn monitors(&self, app: AppId) -> Result<Vec<Monitor>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM monitor WHERE app_id = ?1 ORDER BY process_type")?;
            collect(statement.query([app.to_string()])?, monitor)
        })
    }

    /// Those in force, of all living apps.
    pub fn active_monitors(&self) -> Result<Vec<Monitor>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT monitor.* FROM monitor JOIN app ON app.id = monitor.app_id
                 WHERE active AND app.destroyed_at IS NULL AND NOT app.maintenance",
            )?;
            collect(statement.query([])?, monitor)
        })
    }

    /// Writes the monitor of a process type, in the place of an earlier one. `change` makes it of that one: of two who do
    /// so at once, nobody undoes what the other one did.
    pub async fn change_monitor(
        &self,
        app: AppId,
        process_type: ProcessType,
        change: impl FnOnce(Option<&Monitor>) -> Result<(bool, Bounds), StoreError> + Send + 'static,
        now: Timestamp,
    ) -> Result<Monitor, StoreError> {
        self.write(move |db| {
            let before = find(db, app, &process_type)?;
            let (active, bounds) = change(before.as_ref())?;
            db.execute(
                "INSERT INTO monitor
                     (id, app_id, process_type, active, min_quantity, max_quantity, p95_ms, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
                 ON CONFLICT (app_id, process_type) DO UPDATE SET active = excluded.active,
                     min_quantity = excluded.min_quantity, max_quantity = excluded.max_quantity,
                     p95_ms = excluded.p95_ms, updated_at = excluded.updated_at",
                params![
                    MonitorId::random().to_string(),
                    app.to_string(),
                    process_type.as_str(),
                    active,
                    bounds.min,
                    bounds.max,
                    number(bounds.p95_ms)?,
                    Micros(now)
                ],
            )?;
            find(db, app, &process_type)?.ok_or(StoreError::NotFound("monitor"))
        })
        .await
    }
}

fn find(db: &Connection, app: AppId, process_type: &ProcessType) -> Result<Option<Monitor>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM monitor WHERE app_id = ?1 AND process_type = ?2")?;
    first(statement.query(params![app.to_string(), process_type.as_str()])?, monitor)
}

fn monitor(row: &Row<'_>) -> Result<Monitor, StoreError> {
    Ok(Monitor {
        id: parsed(row, "id", MonitorId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        process_type: parsed(row, "process_type", |text| ProcessType::parse(text).ok())?,
        active: row.get("active")?,
        bounds: Bounds {
            min: row.get("min_quantity")?,
            max: row.get("max_quantity")?,
            p95_ms: unsigned(row, "p95_ms")?.unwrap_or_default(),
        },
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
