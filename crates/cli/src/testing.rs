//! Resources for tests.

use uuid::Uuid;
use wire::platform_api::{IdName, Release, UserRef};

pub(crate) fn release(version: u64, status: &str) -> Release {
    Release {
        addon_plan_names: Vec::new(),
        app: IdName { id: Uuid::nil(), name: "shop".to_owned() },
        artifacts: Vec::new(),
        created_at: "2026-11-23T04:30:00Z".to_owned(),
        current: false,
        description: format!("Deploy {version}"),
        eligible_for_rollback: false,
        id: Uuid::from_u128(u128::from(version)),
        output_stream_url: None,
        slug: None,
        status: status.to_owned(),
        updated_at: "2026-11-23T04:30:00Z".to_owned(),
        user: UserRef { id: Uuid::nil(), email: "admin@localhost".to_owned() },
        version,
    }
}
