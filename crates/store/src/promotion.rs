//! Promotions: the code of one app's release, released in other apps of its pipeline with their own config.

use domain::id::{AccountId, AppId, PipelineId, PromotionId, ReleaseId, SlugId};
use domain::release::ReleaseCause;
use jiff::Timestamp;
use rusqlite::{Row, params};
use uuid::Uuid;

use crate::release::{self, NewRelease};
use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError, app, slug};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    pub id: PromotionId,
    pub pipeline: PipelineId,
    pub source_app: AppId,
    pub source_release: ReleaseId,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotionTarget {
    pub id: Uuid,
    pub app: AppId,
    /// How it goes is the state of this release.
    pub release: ReleaseId,
}

/// What is promoted, and by whom.
#[derive(Debug, Clone)]
pub struct NewPromotion {
    pub pipeline: PipelineId,
    pub source_app: AppId,
    pub source_release: ReleaseId,
    pub slug: SlugId,
    pub account: AccountId,
    /// Of the new releases: `Promote shop-staging v12 1a2b3c4d`.
    pub description: String,
}

impl Store {
    /// Releases the code in every target, all together or in none. What then becomes of a target is its own affair.
    pub async fn promote(
        &self,
        new: NewPromotion,
        targets: Vec<AppId>,
        now: Timestamp,
    ) -> Result<Promotion, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let promotion = Promotion {
                id: PromotionId::random(),
                pipeline: new.pipeline,
                source_app: new.source_app,
                source_release: new.source_release,
                created_at: now,
            };
            db.execute(
                "INSERT INTO promotion (id, pipeline_id, source_app_id, source_release_id, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    promotion.id.to_string(),
                    new.pipeline.to_string(),
                    new.source_app.to_string(),
                    new.source_release.to_string(),
                    Micros(now)
                ],
            )?;
            let original = slug::find(db, new.slug)?.ok_or(StoreError::NotFound("slug"))?;
            for target in targets {
                app::must_live(db, target)?;
                // A row of the target's own, for the same archive: the source app may be destroyed.
                let copy = slug::Slug { id: SlugId::random(), app: target, created_at: now, ..original.clone() };
                slug::insert(db, &copy)?;
                let release = NewRelease {
                    app: target,
                    cause: ReleaseCause::Promotion,
                    description: new.description.clone(),
                    slug: Some(copy.id),
                    account: new.account,
                    config: key.open_config(&app::sealed_config(db, target)?)?,
                    hold: false,
                    run_command: true,
                };
                let release = release::insert(db, &key, &release, now)?;
                db.execute(
                    "INSERT INTO promotion_target (id, promotion_id, app_id, release_id) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        Uuid::new_v4().to_string(),
                        promotion.id.to_string(),
                        target.to_string(),
                        release.id.to_string()
                    ],
                )?;
            }
            Ok(promotion)
        })
        .await
    }

    pub fn promotion(&self, id: PromotionId) -> Result<Option<Promotion>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM promotion WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, promotion)
        })
    }

    pub fn promotion_targets(&self, id: PromotionId) -> Result<Vec<PromotionTarget>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM promotion_target WHERE promotion_id = ?1 ORDER BY rowid")?;
            collect(statement.query([id.to_string()])?, target)
        })
    }
}

fn promotion(row: &Row<'_>) -> Result<Promotion, StoreError> {
    Ok(Promotion {
        id: parsed(row, "id", PromotionId::parse)?,
        pipeline: parsed(row, "pipeline_id", PipelineId::parse)?,
        source_app: parsed(row, "source_app_id", AppId::parse)?,
        source_release: parsed(row, "source_release_id", ReleaseId::parse)?,
        created_at: time(row, "created_at")?,
    })
}

fn target(row: &Row<'_>) -> Result<PromotionTarget, StoreError> {
    Ok(PromotionTarget {
        id: parsed(row, "id", |text| Uuid::try_parse(text).ok())?,
        app: parsed(row, "app_id", AppId::parse)?,
        release: parsed(row, "release_id", ReleaseId::parse)?,
    })
}
