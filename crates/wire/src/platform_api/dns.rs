//! Zones of the DNS that the server may change: `/berth/dns-zones`.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsZone {
    pub zone: String,
    /// `cloudflare` or `route53`.
    pub provider: String,
    pub endpoint: Option<String>,
    /// Which of somebody's keys it is; not a secret.
    pub access_key_id: Option<String>,
}

/// `PUT /berth/dns-zones/{zone}`. Not printed for debugging: it holds secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsZoneUpdate {
    pub provider: String,
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Cloudflare's.
    #[serde(default)]
    pub token: Option<String>,
    /// Amazon's.
    #[serde(default)]
    pub access_key_id: Option<String>,
    #[serde(default)]
    pub secret_access_key: Option<String>,
}

impl std::fmt::Debug for DnsZoneUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsZoneUpdate").field("provider", &self.provider).finish_non_exhaustive()
    }
}
