//! Jobs on a schedule, under `/berth/apps/{app}/cron`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cron::JobText;

/// `POST /berth/apps/{app}/cron`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCreate {
    pub job: JobText,
    /// It is there, but its schedule starts nothing until it is resumed.
    #[serde(default)]
    pub paused: bool,
}

/// `PATCH /berth/apps/{app}/cron/{job}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobUpdate {
    pub paused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub id: Uuid,
    pub name: String,
    pub schedule: String,
    pub zone: String,
    pub command: String,
    pub size: String,
    pub overlap: String,
    pub catch_up: String,
    pub deadline_seconds: u32,
    pub retries: u32,
    pub retry_delay_seconds: u32,
    /// `app.json` or `hand`.
    pub origin: String,
    pub paused: bool,
    /// When it is due next; `None` while it is paused.
    pub next_run_at: Option<String>,
    pub last_run: Option<Run>,
    pub created_at: String,
    pub updated_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub job: String,
    /// Counted per job, from 1.
    pub number: u32,
    /// When it was due, or asked for.
    pub due_at: String,
    pub attempt: u32,
    /// `schedule` or `hand`.
    pub trigger: String,
    /// `waiting`, `running`, `succeeded`, `failed`, `stopped`, `skipped`, `missed`.
    pub state: String,
    /// As the app's log names it: `scheduler.4821`.
    pub dyno: Option<String>,
    pub release_version: Option<u64>,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub duration_seconds: Option<u64>,
    pub exit_status: Option<i32>,
    pub reason: Option<String>,
    /// Of a run that has started: plain text, ends when the process has ended. In answers about one run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_stream_url: Option<String>,
}
