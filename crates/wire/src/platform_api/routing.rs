//! How an app's requests are handled, under `/berth/apps/{app}/routing` and `/berth/apps/{app}/domains`.

use std::time::Duration;

use domain::routing::RoutingSettings;
use serde::{Deserialize, Deserializer, Serialize};

use super::domains::Domain;
use crate::routes::{DynoProtocol, EdgeSettings, Hsts, Page, RequestLimits};

/// What is in force, defaults included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    pub https_only: bool,
    pub hsts: Option<Hsts>,
    pub compression: bool,
    pub dyno_protocol: DynoProtocol,
    pub session_affinity: bool,
    /// `None` is no limit.
    pub request_bytes_max: Option<u64>,
    /// From the last byte of a request to the first byte of its response.
    pub timeout_ms: u64,
    /// Between any two bytes after that.
    pub idle_timeout_ms: u64,
    /// How long a request waits for a dyno that is starting.
    pub boot_wait_ms: u64,
    /// The app's own, or the address in its config var `MAINTENANCE_PAGE_URL`.
    pub maintenance_page: Option<Page>,
    /// The app's own, or the address in its config var `ERROR_PAGE_URL`.
    pub error_page: Option<Page>,
}

impl Routing {
    pub fn new(edge: EdgeSettings, limits: RequestLimits) -> Self {
        Self {
            https_only: edge.https_only,
            hsts: edge.hsts,
            compression: edge.compression,
            dyno_protocol: edge.dyno_protocol,
            session_affinity: edge.session_affinity,
            request_bytes_max: edge.request_bytes_max,
            timeout_ms: limits.first_byte_ms,
            idle_timeout_ms: limits.idle_ms,
            boot_wait_ms: limits.boot_wait_ms,
            maintenance_page: edge.maintenance_page,
            error_page: edge.error_page,
        }
    }

    /// The settings as they would be stored, without pages.
    pub fn settings(&self) -> RoutingSettings {
        RoutingSettings {
            https_only: self.https_only,
            hsts: self.hsts.map(Into::into),
            compression: self.compression,
            dyno_protocol: self.dyno_protocol.into(),
            session_affinity: self.session_affinity,
            request_bytes_max: self.request_bytes_max,
            timeout: Duration::from_millis(self.timeout_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            boot_wait: Duration::from_millis(self.boot_wait_ms),
            maintenance_page: None,
            error_page: None,
        }
    }
}

/// What is absent stays as it is; null goes back to the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingUpdate {
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub https_only: Option<Option<bool>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Option<Hsts>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub compression: Option<Option<bool>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub dyno_protocol: Option<Option<DynoProtocol>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<Option<bool>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub request_bytes_max: Option<Option<u64>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<Option<u64>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<Option<u64>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub boot_wait_ms: Option<Option<u64>>,
    /// HTML.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub maintenance_page: Option<Option<String>>,
    /// HTML.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub error_page: Option<Option<String>>,
}

impl RoutingUpdate {
    pub fn apply(self, settings: &mut RoutingSettings) {
        let default = RoutingSettings::default();
        set(&mut settings.https_only, self.https_only, default.https_only);
        set(&mut settings.compression, self.compression, default.compression);
        set(&mut settings.hsts, self.hsts.map(|hsts| hsts.map(|hsts| Some(hsts.into()))), None);
        let protocol = self.dyno_protocol.map(|protocol| protocol.map(Into::into));
        set(&mut settings.dyno_protocol, protocol, default.dyno_protocol);
        set(&mut settings.session_affinity, self.session_affinity, default.session_affinity);
        set(&mut settings.request_bytes_max, self.request_bytes_max.map(Some), None);
        let duration = |ms: Option<Option<u64>>| ms.map(|ms| ms.map(Duration::from_millis));
        set(&mut settings.timeout, duration(self.timeout_ms), default.timeout);
        set(&mut settings.idle_timeout, duration(self.idle_timeout_ms), default.idle_timeout);
        set(&mut settings.boot_wait, duration(self.boot_wait_ms), default.boot_wait);
        set(&mut settings.maintenance_page, self.maintenance_page.map(Some), None);
        set(&mut settings.error_page, self.error_page.map(Some), None);
    }
}

fn set<T>(setting: &mut T, given: Option<Option<T>>, default: T) {
    if let Some(given) = given {
        *setting = given.unwrap_or(default);
    }
}

/// Tells a field that is null from one that is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One of an app's domains, and where its requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRoute {
    #[serde(flatten)]
    pub domain: Domain,
    /// `None`: to the app's dynos.
    pub upstream: Option<String>,
}

/// `PATCH /berth/apps/{app}/domains/{domain}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainRouteUpdate {
    /// Null leads the domain to the app's dynos.
    pub upstream: Option<String>,
}

/// `GET /berth/apps/{app}/traffic`, and the answer to a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// New requests are held until then.
    pub paused_until: Option<String>,
    /// The router does so now: it holds requests, or holds none.
    pub in_force: bool,
    /// As the router said within the last seconds.
    pub in_flight: u32,
    pub waiting: u32,
}

/// `PATCH /berth/apps/{app}/traffic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficUpdate {
    /// From now on; null resumes.
    pub pause_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(json: &str, settings: &RoutingSettings) -> RoutingSettings {
        let mut settings = settings.clone();
        serde_json::from_str::<RoutingUpdate>(json).unwrap().apply(&mut settings);
        settings
    }

    #[test]
    fn an_update_changes_what_it_names_and_null_is_the_default() {
        let default = RoutingSettings::default();
        assert_eq!(applied("{}", &default), default);
        let json = r#"{"https_only": true, "timeout_ms": 60000, "request_bytes_max": 5, "error_page": "<p>",
                       "hsts": {"max_age_seconds": 9}, "dyno_protocol": "h2c"}"#;
        let changed = applied(json, &default);
        assert!(changed.https_only && !changed.compression);
        assert_eq!((changed.timeout, changed.request_bytes_max), (Duration::from_secs(60), Some(5)));
        assert_eq!(changed.hsts.map(|hsts| hsts.to_string()).as_deref(), Some("9s"));
        assert_eq!(applied("{}", &changed), changed);
        let json = r#"{"https_only": null, "timeout_ms": null, "request_bytes_max": null, "error_page": null,
                       "hsts": null, "dyno_protocol": null}"#;
        assert_eq!(applied(json, &changed), default);
        serde_json::from_str::<RoutingUpdate>(r#"{"timeout": 5}"#).unwrap_err();
    }

    #[test]
    fn an_update_says_nothing_of_what_it_does_not_change() {
        let update = RoutingUpdate { hsts: Some(None), compression: Some(Some(true)), ..RoutingUpdate::default() };
        assert_eq!(serde_json::to_string(&update).unwrap(), r#"{"hsts":null,"compression":true}"#);
    }
}
