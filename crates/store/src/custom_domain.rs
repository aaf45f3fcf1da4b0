//! Custom domains of apps.

use domain::hostname::Hostname;
use domain::id::{AppId, DomainId, SniEndpointId};
use domain::upstream::Upstream;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::row::{Micros, collect, first, parsed, parsed_optional, time};
use crate::{Store, StoreError};

/// Domains of one app (Heroku's).
const DOMAINS_MAX: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub id: DomainId,
    pub app: AppId,
    pub hostname: Hostname,
    /// The certificate that was chosen for it.
    pub sni_endpoint: Option<SniEndpointId>,
    pub acm_status: Option<String>,
    pub acm_status_reason: Option<String>,
    /// Where its requests go while the app has not moved in yet.
    pub upstream: Option<Upstream>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    /// The domains of an app, in the order of their names.
    pub fn domains(&self, app: AppId) -> Result<Vec<Domain>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM domain WHERE app_id = ?1 ORDER BY hostname")?;
            collect(statement.query([app.to_string()])?, domain)
        })
    }

    /// The domains of all apps, for one look at everything.
    pub fn all_domains(&self) -> Result<Vec<Domain>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM domain ORDER BY hostname")?;
            collect(statement.query([])?, domain)
        })
    }

    /// Adds a domain, which no other app may have.
    pub async fn add_domain(
        &self,
        app: AppId,
        hostname: Hostname,
        sni_endpoint: Option<SniEndpointId>,
        now: Timestamp,
    ) -> Result<Domain, StoreError> {
        self.write(move |db| {
            let owner: Option<String> = db
                .query_row("SELECT app_id FROM domain WHERE hostname = ?1", [hostname.as_str()], |row| row.get(0))
                .optional()?;
            match owner {
                Some(owner) if owner == app.to_string() => {
                    return Err(StoreError::Refused(format!("{hostname} is already a domain of this app")));
                }
                Some(_) => return Err(StoreError::Refused(format!("{hostname} is already a domain of another app"))),
                None => {}
            }
            let count: u32 =
                db.query_row("SELECT count(*) FROM domain WHERE app_id = ?1", [app.to_string()], |row| row.get(0))?;
            if count >= DOMAINS_MAX {
                return Err(StoreError::Refused(format!("An app can have {DOMAINS_MAX} domains at most")));
            }
            let row = Domain {
                id: DomainId::random(),
                app,
                hostname,
                sni_endpoint,
                acm_status: None,
                acm_status_reason: None,
                upstream: None,
                created_at: now,
                updated_at: now,
            };
            db.execute(
                "INSERT INTO domain (id, app_id, hostname, sni_endpoint_id, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                params![
                    row.id.to_string(),
                    app.to_string(),
                    row.hostname.as_str(),
                    row.sni_endpoint.map(|id| id.to_string()),
                    Micros(now)
                ],
            )?;
            Ok(row)
        })
        .await
    }

    /// Chooses the certificate of a domain.
    pub async fn choose_certificate(
        &self,
        id: DomainId,
        sni_endpoint: Option<SniEndpointId>,
        now: Timestamp,
    ) -> Result<Domain, StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE domain SET sni_endpoint_id = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), sni_endpoint.map(|id| id.to_string()), Micros(now)],
            )?;
            find(db, id)?.ok_or(StoreError::NotFound("domain"))
        })
        .await
    }

    /// Passes the requests for a domain on to where its app is now, or no longer.
    pub async fn pass_on(
        &self,
        id: DomainId,
        upstream: Option<Upstream>,
        now: Timestamp,
    ) -> Result<Domain, StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE domain SET upstream = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), upstream.map(|upstream| upstream.to_string()), Micros(now)],
            )?;
            find(db, id)?.ok_or(StoreError::NotFound("domain"))
        })
        .await
    }

    pub async fn remove_domain(&self, id: DomainId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM domain WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Records how the issue of a domain's certificate goes, for people.
    pub async fn acm_progress(
        &self,
        id: DomainId,
        status: Option<String>,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE domain SET acm_status = ?2, acm_status_reason = ?3, updated_at = ?4 WHERE id = ?1",
                params![id.to_string(), status, reason, Micros(now)],
            )?;
            Ok(())
        })
        .await
    }
}

fn find(db: &Connection, id: DomainId) -> Result<Option<Domain>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM domain WHERE id = ?1")?;
    first(statement.query([id.to_string()])?, domain)
}

pub(crate) fn domain(row: &Row<'_>) -> Result<Domain, StoreError> {
    Ok(Domain {
        id: parsed(row, "id", DomainId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        hostname: parsed(row, "hostname", |text| Hostname::parse(text).ok())?,
        sni_endpoint: parsed_optional(row, "sni_endpoint_id", SniEndpointId::parse)?,
        acm_status: row.get("acm_status")?,
        acm_status_reason: row.get("acm_status_reason")?,
        upstream: parsed_optional(row, "upstream", |text| Upstream::parse(text).ok())?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
