//! Custom domains, and the certificates for them.

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::IdName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub acm_status: Option<String>,
    pub acm_status_reason: Option<String>,
    pub app: IdName,
    /// Where a DNS record of the name should point.
    pub cname: Option<String>,
    pub created_at: String,
    pub hostname: String,
    pub id: Uuid,
    /// `heroku` for the app's name below the platform's domain, `custom`.
    pub kind: String,
    pub sni_endpoint: Option<IdName>,
    pub status: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainCreate {
    pub hostname: String,
    /// Name or id.
    #[serde(default)]
    pub sni_endpoint: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainUpdate {
    /// Name or id; null takes the certificate away.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub sni_endpoint: Option<Option<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SniEndpoint {
    pub app: IdName,
    pub certificate_chain: String,
    pub created_at: String,
    pub display_name: Option<String>,
    pub domains: Vec<Uuid>,
    pub id: Uuid,
    pub name: String,
    pub ssl_cert: SslCert,
    pub updated_at: String,
}

/// What is read from a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SslCert {
    /// It is managed.
    pub acm: bool,
    #[serde(rename = "ca_signed?")]
    pub ca_signed: bool,
    pub cert_domains: Vec<String>,
    pub expires_at: String,
    pub id: Uuid,
    pub issuer: String,
    #[serde(rename = "self_signed?")]
    pub self_signed: bool,
    pub starts_at: String,
    pub subject: String,
}

/// Without the key where it is printed for debugging.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SniEndpointCreate {
    pub certificate_chain: String,
    pub private_key: String,
}

impl std::fmt::Debug for SniEndpointCreate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SniEndpointCreate").field("certificate_chain", &self.certificate_chain).finish_non_exhaustive()
    }
}

/// Tells a field that is null from one that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
