//! Promotions: the slug that one app serves, released in others, each with its own config and release phase.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::access::{Errand, Permission};
use domain::id::{AppId, PromotionId};
use domain::release::ReleaseState;
use http::StatusCode;
use store::app::App;
use store::promotion::{NewPromotion, Promotion, PromotionTarget};
use wire::platform_api as heroku;
use wire::platform_api::pipelines as shapes;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::pipelines;
use crate::present;
use crate::protection;
use crate::state::ApiState;

/// Apps that one promotion may reach.
const TARGETS_MAX: usize = 50;

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<shapes::PromotionCreate>,
) -> ApiResult<(StatusCode, Json<shapes::Promotion>)> {
    let pipeline = pipelines::find(&state, body.pipeline.as_str())?;
    let in_pipeline = |reference: &shapes::Reference, errand: Errand| -> ApiResult<App> {
        let app = state.store.find_app(reference.as_str())?.ok_or_else(|| ApiError::not_found("app"))?;
        actor.must(&state, &app, Permission::View, errand)?;
        let coupled = pipelines::coupling_of(&state, app.id)?.is_some_and(|coupling| coupling.pipeline == pipeline.id);
        let outside = || ApiError::invalid(format!("{} is not in the pipeline {}.", app.name, pipeline.name));
        if coupled { Ok(app) } else { Err(outside()) }
    };
    let source = in_pipeline(&body.source.app, Errand::Promotion)?;
    let targets = body.targets.iter().map(|target| in_pipeline(&target.app, Errand::PromotionTarget));
    let targets = targets.collect::<ApiResult<Vec<App>>>()?;
    actor.must(&state, &source, Permission::Deploy, Errand::Promotion)?;
    for target in &targets {
        actor.must(&state, target, Permission::Deploy, Errand::PromotionTarget)?;
    }
    if targets.is_empty() || targets.len() > TARGETS_MAX {
        return Err(ApiError::invalid(format!("Name from 1 to {TARGETS_MAX} apps to promote to.")));
    }
    let ids: Vec<AppId> = targets.iter().map(|target| target.id).collect();
    let distinct: BTreeSet<AppId> = ids.iter().copied().collect();
    if distinct.contains(&source.id) || distinct.len() != ids.len() {
        return Err(ApiError::invalid("An app cannot be promoted to itself, and to another one only once."));
    }
    for target in &targets {
        protection::check(&state, &actor, target)?;
    }
    let live = state.store.live_releases(source.id)?;
    let serving = live.iter().rev().find(|release| release.state == ReleaseState::Serving);
    let Some((release, slug)) = serving.and_then(|release| Some((release, release.slug?))) else {
        return Err(ApiError::invalid(format!("{} serves no code that could be promoted.", source.name)));
    };
    let commit = state.store.slug(slug)?.and_then(|slug| slug.commit);
    let commit = commit.map(|commit| format!(" {}", commit.chars().take(8).collect::<String>())).unwrap_or_default();
    let new = NewPromotion {
        pipeline: pipeline.id,
        source_app: source.id,
        source_release: release.id,
        slug,
        account: actor.id(),
        description: format!("Promote {} v{}{commit}", source.name, release.version),
    };
    let description = new.description.clone();
    let promotion = state.store.promote(new, ids, state.now()).await?;
    for target in &targets {
        state.log_api(target.id, &format!("{description} by user {}", actor.account.email));
    }
    Ok((StatusCode::CREATED, Json(shown(&state, &promotion)?)))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<shapes::Promotion>> {
    Ok(Json(shown(&state, &find(&state, &actor, &wanted)?)?))
}

pub(crate) async fn targets(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<shapes::PromotionTarget>>> {
    Ok(Json(shown_targets(&state, &find(&state, &actor, &wanted)?)?))
}

/// A promotion is seen by whoever may see the app that was promoted.
fn find(state: &ApiState, actor: &Actor, wanted: &str) -> ApiResult<Promotion> {
    let missing = || ApiError::not_found("pipeline promotion");
    let promotion = state.store.promotion(PromotionId::parse(wanted).ok_or_else(missing)?)?.ok_or_else(missing)?;
    let visible = match state.store.app(promotion.source_app)? {
        Some(app) => actor.must(state, &app, Permission::View, Errand::Promotion).is_ok(),
        None => actor.account.administrator,
    };
    if visible { Ok(promotion) } else { Err(missing()) }
}

fn shown(state: &ApiState, promotion: &Promotion) -> ApiResult<shapes::Promotion> {
    let pending = shown_targets(state, promotion)?.iter().any(|target| target.status == "pending");
    Ok(shapes::Promotion {
        created_at: present::time(promotion.created_at),
        id: promotion.id.uuid(),
        pipeline: heroku::IdOnly { id: promotion.pipeline.uuid() },
        source: shapes::PromotionSource {
            app: heroku::IdOnly { id: promotion.source_app.uuid() },
            release: heroku::IdOnly { id: promotion.source_release.uuid() },
        },
        status: if pending { "pending" } else { "completed" }.to_owned(),
        updated_at: Some(present::time(promotion.created_at)),
    })
}

fn shown_targets(state: &ApiState, promotion: &Promotion) -> ApiResult<Vec<shapes::PromotionTarget>> {
    let targets = state.store.promotion_targets(promotion.id)?;
    targets.iter().map(|target| shown_target(state, promotion, target)).collect()
}

fn shown_target(
    state: &ApiState,
    promotion: &Promotion,
    target: &PromotionTarget,
) -> ApiResult<shapes::PromotionTarget> {
    let release = state.store.release(target.release)?;
    let (status, error) = match &release {
        None => ("failed", Some("the app is gone".to_owned())),
        Some(release) => match release.state {
            ReleaseState::Serving | ReleaseState::Superseded => ("succeeded", None),
            ReleaseState::Failed => {
                let why = release.failure.as_deref().and_then(|text| text.lines().next()).unwrap_or("it failed");
                ("failed", Some(format!("v{} did not serve: {why}", release.version)))
            }
            _under_way => ("pending", None),
        },
    };
    Ok(shapes::PromotionTarget {
        app: heroku::IdOnly { id: target.app.uuid() },
        error_message: error,
        id: target.id,
        pipeline_promotion: heroku::IdOnly { id: promotion.id.uuid() },
        release: release.map(|release| heroku::IdOnly { id: release.id.uuid() }),
        status: status.to_owned(),
    })
}
