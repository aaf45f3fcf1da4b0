//! Who holds the DNS of which zone, and the credentials to change it.

use domain::dns::{DnsCredentials, DnsZone};
use domain::hostname::Hostname;
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::row::{Micros, collect, parsed};
use crate::{Store, StoreError};

/// A row before its credentials are opened.
struct Sealed {
    name: Hostname,
    kind: String,
    endpoint: Option<String>,
    credentials: Vec<u8>,
}

impl Store {
    pub fn dns_zones(&self) -> Result<Vec<DnsZone>, StoreError> {
        let rows = self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM dns_provider ORDER BY zone")?;
            collect(statement.query([])?, sealed)
        })?;
        rows.into_iter().map(|row| self.opened(row)).collect()
    }

    /// Keeps who holds a zone, in the place of whoever held it.
    pub async fn keep_dns_zone(&self, zone: DnsZone, now: Timestamp) -> Result<(), StoreError> {
        let kind = zone.credentials.kind();
        let text = match &zone.credentials {
            DnsCredentials::Cloudflare { token } => token.expose().clone(),
            DnsCredentials::Route53 { access_key_id, secret_access_key } => {
                format!("{access_key_id}\n{}", secret_access_key.expose())
            }
        };
        let sealed = self.key.seal(text.as_bytes())?;
        self.write(move |db| {
            db.execute(
                "INSERT INTO dns_provider (zone, kind, endpoint, credentials_sealed, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (zone) DO UPDATE SET
                   kind = excluded.kind, endpoint = excluded.endpoint,
                   credentials_sealed = excluded.credentials_sealed, created_at = excluded.created_at",
                params![zone.name.as_str(), kind, zone.endpoint, sealed, Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    /// Whether there was one.
    pub async fn forget_dns_zone(&self, name: Hostname) -> Result<bool, StoreError> {
        self.write(move |db| Ok(db.execute("DELETE FROM dns_provider WHERE zone = ?1", [name.as_str()])? > 0)).await
    }

    fn opened(&self, row: Sealed) -> Result<DnsZone, StoreError> {
        let text = self.key.open_text(&row.credentials)?;
        let damaged = || StoreError::Damaged("kind");
        let credentials = match row.kind.as_str() {
            "cloudflare" => DnsCredentials::Cloudflare { token: text },
            "route53" => {
                let (id, secret) = text.expose().split_once('\n').ok_or_else(damaged)?;
                let secret_access_key = Secret::new(secret.to_owned());
                DnsCredentials::Route53 { access_key_id: id.to_owned(), secret_access_key }
            }
            _other => return Err(damaged()),
        };
        Ok(DnsZone { name: row.name, endpoint: row.endpoint, credentials })
    }
}

fn sealed(row: &Row<'_>) -> Result<Sealed, StoreError> {
    Ok(Sealed {
        name: parsed(row, "zone", |text| Hostname::parse(text).ok())?,
        kind: row.get("kind")?,
        endpoint: row.get("endpoint")?,
        credentials: row.get("credentials_sealed")?,
    })
}
