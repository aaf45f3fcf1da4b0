//! Certificates with their keys, in Heroku's words *SNI endpoints*.

use domain::id::{AppId, SniEndpointId};
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::row::{Micros, collect, parsed, time};
use crate::{Store, StoreError};

/// Certificates of one app.
const ENDPOINTS_MAX: u32 = 100;

/// A certificate without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniEndpoint {
    pub id: SniEndpointId,
    pub app: AppId,
    pub name: String,
    /// PEM, the app's own certificate first.
    pub certificate_chain: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    pub fn sni_endpoints(&self, app: AppId) -> Result<Vec<SniEndpoint>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM sni_endpoint WHERE app_id = ?1 ORDER BY created_at")?;
            collect(statement.query([app.to_string()])?, sni_endpoint)
        })
    }

    /// The certificates of all apps, for one look at everything.
    pub fn all_sni_endpoints(&self) -> Result<Vec<SniEndpoint>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM sni_endpoint ORDER BY created_at")?;
            collect(statement.query([])?, sni_endpoint)
        })
    }

    /// The private key of a certificate, PEM: for the router and nobody else.
    pub fn sni_endpoint_key(&self, id: SniEndpointId) -> Result<Secret<String>, StoreError> {
        self.read(|db| {
            let sealed: Option<Vec<u8>> = db
                .query_row("SELECT key_sealed FROM sni_endpoint WHERE id = ?1", [id.to_string()], |row| row.get(0))
                .optional()?;
            self.key.open_text(&sealed.ok_or(StoreError::NotFound("SNI endpoint"))?)
        })
    }

    pub async fn add_sni_endpoint(
        &self,
        app: AppId,
        name: String,
        certificate_chain: String,
        key: Secret<String>,
        now: Timestamp,
    ) -> Result<SniEndpoint, StoreError> {
        let sealed = self.key.seal(key.expose().as_bytes())?;
        let row =
            SniEndpoint { id: SniEndpointId::random(), app, name, certificate_chain, created_at: now, updated_at: now };
        self.write(move |db| {
            let count: u32 =
                db.query_row("SELECT count(*) FROM sni_endpoint WHERE app_id = ?1", [app.to_string()], |counted| {
                    counted.get(0)
                })?;
            if count >= ENDPOINTS_MAX {
                return Err(StoreError::Refused(format!("An app can have {ENDPOINTS_MAX} certificates at most")));
            }
            db.execute(
                "INSERT INTO sni_endpoint (id, app_id, name, certificate_chain, key_sealed, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![
                    row.id.to_string(),
                    app.to_string(),
                    row.name,
                    row.certificate_chain,
                    sealed,
                    Micros(row.created_at)
                ],
            )?;
            Ok(row)
        })
        .await
    }

    /// Replaces a certificate and its key: what they serve keeps its name.
    pub async fn update_sni_endpoint(
        &self,
        id: SniEndpointId,
        certificate_chain: String,
        key: Secret<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = self.key.seal(key.expose().as_bytes())?;
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE sni_endpoint SET certificate_chain = ?2, key_sealed = ?3, updated_at = ?4 WHERE id = ?1",
                params![id.to_string(), certificate_chain, sealed, Micros(now)],
            )?;
            if changed == 0 { Err(StoreError::NotFound("SNI endpoint")) } else { Ok(()) }
        })
        .await
    }

    pub async fn remove_sni_endpoint(&self, id: SniEndpointId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM sni_endpoint WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

pub(crate) fn sni_endpoint(row: &Row<'_>) -> Result<SniEndpoint, StoreError> {
    Ok(SniEndpoint {
        id: parsed(row, "id", SniEndpointId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        name: row.get("name")?,
        certificate_chain: row.get("certificate_chain")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
