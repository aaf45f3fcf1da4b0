//! Pipelines, and the apps in them.

use domain::id::{AccountId, AppId, PipelineCouplingId, PipelineId};
use domain::pipeline::Stage;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::acting::Acting;
use crate::app_transfer::{self, Giving};
use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    pub id: PipelineId,
    pub name: String,
    pub owner: AccountId,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// An app's place in a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineCoupling {
    pub id: PipelineCouplingId,
    pub pipeline: PipelineId,
    pub app: AppId,
    pub stage: Stage,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Store {
    pub fn pipelines(&self) -> Result<Vec<Pipeline>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM pipeline ORDER BY name")?;
            collect(statement.query([])?, pipeline)
        })
    }

    /// Finds a pipeline by name or id.
    pub fn find_pipeline(&self, name_or_id: &str) -> Result<Option<Pipeline>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM pipeline WHERE name = ?1 OR id = ?1 LIMIT 1")?;
            first(statement.query([name_or_id])?, pipeline)
        })
    }

    pub async fn create_pipeline(
        &self,
        name: String,
        owner: AccountId,
        now: Timestamp,
    ) -> Result<Pipeline, StoreError> {
        self.write(move |db| {
            refuse_taken_name(db, &name)?;
            let row = Pipeline { id: PipelineId::random(), name, owner, created_at: now, updated_at: now };
            db.execute(
                "INSERT INTO pipeline (id, name, owner_id, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
                params![row.id.to_string(), row.name, owner.to_string(), Micros(now)],
            )?;
            Ok(row)
        })
        .await
    }

    pub async fn rename_pipeline(&self, id: PipelineId, name: String, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut same = db.prepare_cached("SELECT 1 FROM pipeline WHERE name = ?1 AND id = ?2")?;
            if !same.exists(params![name, id.to_string()])? {
                refuse_taken_name(db, &name)?;
            }
            db.execute(
                "UPDATE pipeline SET name = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), name, Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    /// Gives a pipeline to somebody else at once, and the apps in it that its owner owns at once or if they accept.
    pub async fn transfer_pipeline(
        &self,
        id: PipelineId,
        to: AccountId,
        apps: Giving,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut found = db.prepare_cached("SELECT * FROM pipeline WHERE id = ?1")?;
            let pipeline = first(found.query([id.to_string()])?, pipeline)?;
            let from = pipeline.ok_or(StoreError::NotFound("pipeline"))?.owner;
            if from == to {
                return Err(StoreError::Refused("The pipeline is theirs already".to_owned()));
            }
            db.execute(
                "UPDATE pipeline SET owner_id = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), to.to_string(), Micros(now)],
            )?;
            let mut owned = db.prepare_cached(
                "SELECT app.id FROM app JOIN pipeline_coupling ON pipeline_coupling.app_id = app.id
                 WHERE pipeline_coupling.pipeline_id = ?1 AND app.owner_id = ?2 AND app.destroyed_at IS NULL",
            )?;
            let owned = collect(owned.query(params![id.to_string(), from.to_string()])?, |row| {
                parsed(row, "id", AppId::parse)
            })?;
            for app in owned {
                match apps {
                    Giving::AtOnce => app_transfer::give(db, app, to, now)?,
                    Giving::Offered => app_transfer::offer(db, app, from, to, now)?,
                };
            }
            Ok(())
        })
        .await
    }

    /// Removes a pipeline. Its apps stay.
    pub async fn destroy_pipeline(&self, id: PipelineId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM pipeline WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// The places of living apps in all pipelines, in the order of their making.
    pub fn pipeline_couplings(&self) -> Result<Vec<PipelineCoupling>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT pipeline_coupling.* FROM pipeline_coupling JOIN app ON app.id = pipeline_coupling.app_id
                 WHERE app.destroyed_at IS NULL ORDER BY pipeline_coupling.created_at",
            )?;
            collect(statement.query([])?, coupling)
        })
    }

    pub async fn couple(
        &self,
        pipeline: PipelineId,
        app: AppId,
        stage: Stage,
        now: Timestamp,
    ) -> Result<PipelineCoupling, StoreError> {
        Acting::is_about(app);
        self.write(move |db| {
            let mut taken = db.prepare_cached("SELECT 1 FROM pipeline_coupling WHERE app_id = ?1")?;
            if taken.exists([app.to_string()])? {
                return Err(StoreError::Refused(
                    "App is already in a pipeline; remove it from that one first".to_owned(),
                ));
            }
            let row = PipelineCoupling {
                id: PipelineCouplingId::random(),
                pipeline,
                app,
                stage,
                created_at: now,
                updated_at: now,
            };
            db.execute(
                "INSERT INTO pipeline_coupling (id, pipeline_id, app_id, stage, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
                params![row.id.to_string(), pipeline.to_string(), app.to_string(), stage.as_str(), Micros(now)],
            )?;
            Ok(row)
        })
        .await
    }

    pub async fn move_to_stage(
        &self,
        coupling: &PipelineCoupling,
        stage: Stage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let id = coupling.id;
        Acting::is_about(coupling.app);
        self.write(move |db| {
            db.execute(
                "UPDATE pipeline_coupling SET stage = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.to_string(), stage.as_str(), Micros(now)],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn uncouple(&self, coupling: &PipelineCoupling) -> Result<(), StoreError> {
        let id = coupling.id;
        Acting::is_about(coupling.app);
        self.write(move |db| {
            db.execute("DELETE FROM pipeline_coupling WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }
}

fn refuse_taken_name(db: &Connection, name: &str) -> Result<(), StoreError> {
    let mut taken = db.prepare_cached("SELECT 1 FROM pipeline WHERE name = ?1")?;
    if taken.exists([name])? {
        return Err(StoreError::Refused(format!("Name {name} is already taken")));
    }
    Ok(())
}

fn pipeline(row: &Row<'_>) -> Result<Pipeline, StoreError> {
    Ok(Pipeline {
        id: parsed(row, "id", PipelineId::parse)?,
        name: row.get("name")?,
        owner: parsed(row, "owner_id", AccountId::parse)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn coupling(row: &Row<'_>) -> Result<PipelineCoupling, StoreError> {
    Ok(PipelineCoupling {
        id: parsed(row, "id", PipelineCouplingId::parse)?,
        pipeline: parsed(row, "pipeline_id", PipelineId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        stage: parsed(row, "stage", Stage::parse)?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
