//! Certificates that an authority issued for apps' domains, by host name.

use domain::hostname::Hostname;
use domain::id::{AppId, ManagedCertificateId};
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use crate::row::{Micros, collect, parsed, time};
use crate::{Store, StoreError};

/// A managed certificate without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedCertificate {
    pub id: ManagedCertificateId,
    pub hostname: Hostname,
    /// Of the authority that issued it.
    pub directory: String,
    /// PEM, the host's own certificate first.
    pub certificate_chain: String,
    pub valid_from: Timestamp,
    pub valid_until: Timestamp,
    pub issued_at: Timestamp,
}

/// What an authority issued.
#[derive(Debug)]
pub struct IssuedCertificate {
    pub hostname: Hostname,
    pub directory: String,
    pub certificate_chain: String,
    /// PEM.
    pub key: Secret<String>,
    pub valid_from: Timestamp,
    pub valid_until: Timestamp,
}

impl Store {
    pub fn managed_certificates(&self) -> Result<Vec<ManagedCertificate>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM managed_certificate ORDER BY hostname")?;
            collect(statement.query([])?, managed_certificate)
        })
    }

    /// Those for the domains of one app.
    pub fn managed_certificates_of(&self, app: AppId) -> Result<Vec<ManagedCertificate>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT managed_certificate.* FROM managed_certificate JOIN domain USING (hostname)
                 WHERE domain.app_id = ?1 ORDER BY hostname",
            )?;
            collect(statement.query([app.to_string()])?, managed_certificate)
        })
    }

    /// The private key, PEM: for the router and nobody else.
    pub fn managed_certificate_key(&self, id: ManagedCertificateId) -> Result<Secret<String>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT key_sealed FROM managed_certificate WHERE id = ?1")?;
            let sealed: Option<Vec<u8>> = statement.query_row([id.to_string()], |row| row.get(0)).optional()?;
            self.key.open_text(&sealed.ok_or(StoreError::NotFound("certificate"))?)
        })
    }

    /// Keeps a certificate in the place of the one before it.
    pub async fn keep_managed_certificate(&self, issued: IssuedCertificate, now: Timestamp) -> Result<(), StoreError> {
        let sealed = self.key.seal(issued.key.expose().as_bytes())?;
        self.write(move |db| {
            db.execute(
                "INSERT INTO managed_certificate
                   (id, hostname, directory, certificate_chain, key_sealed, valid_from, valid_until, issued_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (hostname) DO UPDATE SET
                   directory = excluded.directory, certificate_chain = excluded.certificate_chain,
                   key_sealed = excluded.key_sealed, valid_from = excluded.valid_from,
                   valid_until = excluded.valid_until, issued_at = excluded.issued_at",
                params![
                    ManagedCertificateId::random().to_string(),
                    issued.hostname.as_str(),
                    issued.directory,
                    issued.certificate_chain,
                    sealed,
                    Micros(issued.valid_from),
                    Micros(issued.valid_until),
                    Micros(now)
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets certificates that have expired and that no domain has.
    pub async fn forget_expired_certificates(&self, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "DELETE FROM managed_certificate
                 WHERE valid_until < ?1 AND hostname NOT IN (SELECT hostname FROM domain)",
                [Micros(now)],
            )?;
            Ok(())
        })
        .await
    }
}

fn managed_certificate(row: &Row<'_>) -> Result<ManagedCertificate, StoreError> {
    Ok(ManagedCertificate {
        id: parsed(row, "id", ManagedCertificateId::parse)?,
        hostname: parsed(row, "hostname", |text| Hostname::parse(text).ok())?,
        directory: row.get("directory")?,
        certificate_chain: row.get("certificate_chain")?,
        valid_from: time(row, "valid_from")?,
        valid_until: time(row, "valid_until")?,
        issued_at: time(row, "issued_at")?,
    })
}
