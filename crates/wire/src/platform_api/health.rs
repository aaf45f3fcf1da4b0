//! Health checks, under `/berth/apps/{app}/health`.

use std::time::Duration;

use domain::health::{self, HealthCheckError, StatusRanges};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `None`: dynos are not checked while they serve.
    pub check: Option<HealthCheck>,
    /// The web dynos that are up.
    pub dynos: Vec<DynoHealth>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub path: String,
    /// As `200-299,401`.
    pub status: String,
    pub interval_ms: u64,
    pub timeout_ms: u64,
    pub failures: u32,
    pub successes: u32,
    pub replace_after_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynoHealth {
    pub name: String,
    /// `unchecked`, `healthy`, `unhealthy`.
    pub health: String,
    pub unhealthy_since: Option<String>,
    /// What was wrong when it became unhealthy.
    pub failure: Option<String>,
}

/// `PATCH /berth/apps/{app}/health`. What is absent stays as it is, or is the default where there was no check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_after_ms: Option<u64>,
}

impl HealthUpdate {
    /// # Errors
    /// The statuses cannot be read.
    pub fn apply(self, check: &mut health::HealthCheck) -> Result<(), HealthCheckError> {
        if let Some(status) = &self.status {
            check.status = StatusRanges::parse(status)?;
        }
        let duration = |ms: Option<u64>| ms.map(Duration::from_millis);
        set(&mut check.path, self.path);
        set(&mut check.interval, duration(self.interval_ms));
        set(&mut check.timeout, duration(self.timeout_ms));
        set(&mut check.failures, self.failures);
        set(&mut check.successes, self.successes);
        set(&mut check.replace_after, duration(self.replace_after_ms));
        Ok(())
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

impl From<&health::HealthCheck> for HealthCheck {
    fn from(check: &health::HealthCheck) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            path: check.path.clone(),
            status: check.status.to_string(),
            interval_ms: ms(check.interval),
            timeout_ms: ms(check.timeout),
            failures: check.failures,
            successes: check.successes,
            replace_after_ms: ms(check.replace_after),
        }
    }
}

impl TryFrom<HealthCheck> for health::HealthCheck {
    type Error = HealthCheckError;

    fn try_from(check: HealthCheck) -> Result<Self, HealthCheckError> {
        let HealthCheck { path, status, interval_ms, timeout_ms, failures, successes, replace_after_ms } = check;
        Ok(Self {
            path,
            status: StatusRanges::parse(&status)?,
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_millis(timeout_ms),
            failures,
            successes,
            replace_after: Duration::from_millis(replace_after_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_survives_the_way_to_a_client_and_back() {
        let mut check = health::HealthCheck::default();
        let update = HealthUpdate { status: Some("200,401".to_owned()), failures: Some(7), ..HealthUpdate::default() };
        update.apply(&mut check).unwrap();
        assert_eq!((check.failures, check.status.contains(401), check.status.contains(300)), (7, true, false));
        assert_eq!(health::HealthCheck::try_from(HealthCheck::from(&check)), Ok(check));
    }
}
