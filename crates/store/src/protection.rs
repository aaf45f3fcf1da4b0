//! How stages of pipelines are protected.

use domain::id::PipelineId;
use domain::pipeline::Stage;
use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::row::{Micros, collect, first, lines, optional_time, parsed};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageProtection {
    pub pipeline: PipelineId,
    pub stage: Stage,
    /// E-mail addresses; empty for everybody.
    pub deployers: Vec<String>,
    /// As they were written; empty for any time.
    pub windows: Vec<String>,
    pub zone: String,
    pub lock: Option<StageLock>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageLock {
    pub reason: String,
    pub by: String,
    pub at: Option<Timestamp>,
}

impl Store {
    pub fn stage_protections(&self, pipeline: PipelineId) -> Result<Vec<StageProtection>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM stage_protection WHERE pipeline_id = ?1")?;
            collect(statement.query([pipeline.to_string()])?, protection)
        })
    }

    pub fn stage_protection(&self, pipeline: PipelineId, stage: Stage) -> Result<Option<StageProtection>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM stage_protection WHERE pipeline_id = ?1 AND stage = ?2")?;
            first(statement.query(params![pipeline.to_string(), stage.as_str()])?, protection)
        })
    }

    /// Says who may deploy and when; a lock stays as it is.
    pub async fn protect_stage(
        &self,
        pipeline: PipelineId,
        stage: Stage,
        deployers: Vec<String>,
        windows: Vec<String>,
        zone: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO stage_protection (pipeline_id, stage, deployers, windows, zone) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (pipeline_id, stage) DO UPDATE
                 SET deployers = excluded.deployers, windows = excluded.windows, zone = excluded.zone",
                params![pipeline.to_string(), stage.as_str(), deployers.join("\n"), windows.join("\n"), zone],
            )?;
            Ok(())
        })
        .await
    }

    /// Locks a stage with a reason, or takes the lock off.
    pub async fn lock_stage(
        &self,
        pipeline: PipelineId,
        stage: Stage,
        lock: Option<StageLock>,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO stage_protection (pipeline_id, stage, lock_reason, locked_by, locked_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (pipeline_id, stage) DO UPDATE
                 SET lock_reason = excluded.lock_reason, locked_by = excluded.locked_by, locked_at = excluded.locked_at",
                params![
                    pipeline.to_string(),
                    stage.as_str(),
                    lock.as_ref().map(|lock| &lock.reason),
                    lock.as_ref().map(|lock| &lock.by),
                    lock.as_ref().and_then(|lock| lock.at).map(Micros)
                ],
            )?;
            Ok(())
        })
        .await
    }
}

fn protection(row: &Row<'_>) -> Result<StageProtection, StoreError> {
    let reason: Option<String> = row.get("lock_reason")?;
    let by: Option<String> = row.get("locked_by")?;
    let at = optional_time(row, "locked_at")?;
    Ok(StageProtection {
        pipeline: parsed(row, "pipeline_id", PipelineId::parse)?,
        stage: parsed(row, "stage", Stage::parse)?,
        deployers: lines(&row.get::<_, String>("deployers")?),
        windows: lines(&row.get::<_, String>("windows")?),
        zone: row.get("zone")?,
        lock: reason.zip(by).map(|(reason, by)| StageLock { reason, by, at }),
    })
}
