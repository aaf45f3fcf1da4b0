//! How apps' web dynos are checked, and what was found.

use std::collections::HashMap;
use std::time::Duration;

use domain::health::{HealthCheck, StatusRanges};
use domain::id::{AppId, DynoId};
use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::row::{Micros, collect, first, number, parsed, unsigned};
use crate::{Store, StoreError};

/// What a check has found, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthFinding {
    /// Whatever was found before counts no more.
    Nothing,
    Passed,
    BecameHealthy,
    BecameUnhealthy {
        failure: String,
    },
}

impl Store {
    pub fn health_check(&self, app: AppId) -> Result<Option<HealthCheck>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM health_check WHERE app_id = ?1")?;
            first(statement.query([app.to_string()])?, health_check)
        })
    }

    /// The checks of all apps that have one, for one look at everything.
    pub fn all_health_checks(&self) -> Result<HashMap<AppId, HealthCheck>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM health_check")?;
            let rows =
                collect(statement.query([])?, |row| Ok((parsed(row, "app_id", AppId::parse)?, health_check(row)?)))?;
            Ok(rows.into_iter().collect())
        })
    }

    /// Checks an app's web dynos so from now on, or no longer. What is out of bounds is refused.
    pub async fn set_health_check(
        &self,
        app: AppId,
        check: Option<HealthCheck>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let Some(check) = check else {
                db.execute("DELETE FROM health_check WHERE app_id = ?1", [app.to_string()])?;
                return Ok(());
            };
            check.check().map_err(|error| StoreError::Refused(error.to_string()))?;
            db.execute(
                "INSERT OR REPLACE INTO health_check
                     (app_id, path, status, interval_ms, timeout_ms, failures, successes, replace_after_ms, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    app.to_string(),
                    check.path,
                    check.status.to_string(),
                    number(check.interval.as_millis())?,
                    number(check.timeout.as_millis())?,
                    check.failures,
                    check.successes,
                    number(check.replace_after.as_millis())?,
                    Micros(now)
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Keeps what a check of a dyno has found.
    pub async fn health_found(&self, dyno: DynoId, finding: HealthFinding, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            let id = dyno.to_string();
            match finding {
                HealthFinding::Nothing => db.execute(
                    "UPDATE dyno SET health_passed = 0, unhealthy_since = NULL, health_failure = NULL WHERE id = ?1",
                    [id],
                )?,
                HealthFinding::Passed => db.execute("UPDATE dyno SET health_passed = 1 WHERE id = ?1", [id])?,
                HealthFinding::BecameHealthy => db.execute(
                    "UPDATE dyno SET health_passed = 1, unhealthy_since = NULL, health_failure = NULL WHERE id = ?1",
                    [id],
                )?,
                HealthFinding::BecameUnhealthy { failure } => db.execute(
                    "UPDATE dyno SET unhealthy_since = ?2, health_failure = ?3 WHERE id = ?1",
                    params![id, Micros(now), failure],
                )?,
            };
            Ok(())
        })
        .await
    }
}

fn health_check(row: &Row<'_>) -> Result<HealthCheck, StoreError> {
    let duration = |column| unsigned(row, column).map(|ms| Duration::from_millis(ms.unwrap_or(0)));
    Ok(HealthCheck {
        path: row.get("path")?,
        status: parsed(row, "status", |text| StatusRanges::parse(text).ok())?,
        interval: duration("interval_ms")?,
        timeout: duration("timeout_ms")?,
        failures: row.get("failures")?,
        successes: row.get("successes")?,
        replace_after: duration("replace_after_ms")?,
    })
}
