//! How apps want their requests handled.

use std::collections::HashMap;
use std::time::Duration;

use domain::id::AppId;
use domain::routing::{DynoProtocol, Hsts, RoutingError, RoutingSettings};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::row::{Micros, collect, first, number, parsed, unsigned};
use crate::{Store, StoreError};

impl Store {
    pub fn routing(&self, app: AppId) -> Result<RoutingSettings, StoreError> {
        self.read(|db| find(db, app))
    }

    /// The settings of all apps that have any, for one look at everything.
    pub fn all_routing(&self) -> Result<HashMap<AppId, RoutingSettings>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM routing")?;
            let rows = collect(statement.query([])?, |row| Ok((parsed(row, "app_id", AppId::parse)?, settings(row)?)))?;
            Ok(rows.into_iter().collect())
        })
    }

    /// Changes settings and gives them before and after. What is out of bounds is refused, and nothing is changed.
    pub async fn change_routing(
        &self,
        app: AppId,
        change: impl FnOnce(&mut RoutingSettings) + Send + 'static,
        now: Timestamp,
    ) -> Result<(RoutingSettings, RoutingSettings), StoreError> {
        self.write(move |db| {
            let before = find(db, app)?;
            let mut after = before.clone();
            change(&mut after);
            after.check().map_err(|error: RoutingError| StoreError::Refused(error.to_string()))?;
            put(db, app, &after, now)?;
            Ok((before, after))
        })
        .await
    }
}

pub(crate) fn find(db: &Connection, app: AppId) -> Result<RoutingSettings, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM routing WHERE app_id = ?1")?;
    Ok(first(statement.query([app.to_string()])?, settings)?.unwrap_or_default())
}

fn put(db: &Connection, app: AppId, new: &RoutingSettings, now: Timestamp) -> Result<(), StoreError> {
    let default = RoutingSettings::default();
    // What is as the platform has it follows the platform.
    let ms =
        |value: Duration, default: Duration| (value != default).then_some(value.as_millis()).map(number).transpose();
    db.execute(
        "INSERT OR REPLACE INTO routing (app_id, https_only, hsts_max_age_s, hsts_subdomains, hsts_preload, compression,
             dyno_protocol, session_affinity, request_bytes_max, timeout_ms, idle_timeout_ms, boot_wait_ms, maintenance_page, error_page,
             updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        params![
            app.to_string(),
            new.https_only,
            new.hsts.map(|hsts| number(hsts.max_age.as_secs())).transpose()?,
            new.hsts.is_some_and(|hsts| hsts.include_subdomains),
            new.hsts.is_some_and(|hsts| hsts.preload),
            new.compression,
            new.dyno_protocol.as_str(),
            new.session_affinity,
            new.request_bytes_max.map(number).transpose()?,
            ms(new.timeout, default.timeout)?,
            ms(new.idle_timeout, default.idle_timeout)?,
            ms(new.boot_wait, default.boot_wait)?,
            new.maintenance_page,
            new.error_page,
            Micros(now)
        ],
    )?;
    Ok(())
}

fn settings(row: &Row<'_>) -> Result<RoutingSettings, StoreError> {
    let default = RoutingSettings::default();
    let duration =
        |column, default: Duration| unsigned(row, column).map(|ms| ms.map_or(default, Duration::from_millis));
    let hsts = unsigned(row, "hsts_max_age_s")?.map(Duration::from_secs);
    let (include_subdomains, preload) = (row.get("hsts_subdomains")?, row.get("hsts_preload")?);
    Ok(RoutingSettings {
        https_only: row.get("https_only")?,
        hsts: hsts.map(|max_age| Hsts { max_age, include_subdomains, preload }),
        compression: row.get("compression")?,
        dyno_protocol: parsed(row, "dyno_protocol", DynoProtocol::parse)?,
        session_affinity: row.get("session_affinity")?,
        request_bytes_max: unsigned(row, "request_bytes_max")?,
        timeout: duration("timeout_ms", default.timeout)?,
        idle_timeout: duration("idle_timeout_ms", default.idle_timeout)?,
        boot_wait: duration("boot_wait_ms", default.boot_wait)?,
        maintenance_page: row.get("maintenance_page")?,
        error_page: row.get("error_page")?,
    })
}
