//! Formations and dyno sizes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::dyno_size::{self, DEFAULT_SIZE_NAME, DynoSize};
use domain::formation::Scaling;
use domain::name::ProcessType;
use store::app::App;
use store::formation::FormationChange;
use store::slug::Slug;
use uuid::Uuid;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<heroku::Formation>>> {
    Ok(Json(shown(&state, &app)?))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, kind)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Formation>> {
    let all = shown(&state, &app)?;
    let found = all.into_iter().find(|entry| entry.process_type == kind || entry.id.to_string() == kind);
    found.map(Json).ok_or_else(|| ApiError::not_found("process type"))
}

pub(crate) async fn update_many(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<heroku::FormationBatchUpdate>,
) -> ApiResult<Json<Vec<heroku::Formation>>> {
    scale(&state, &actor, &app, &body.updates).await?;
    Ok(Json(shown(&state, &app)?))
}

pub(crate) async fn update_one(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, kind)): Path<(String, String)>,
    Body(mut body): Body<heroku::FormationUpdate>,
) -> ApiResult<Json<heroku::Formation>> {
    body.process_type = Some(kind.clone());
    scale(&state, &actor, &app, &[body]).await?;
    let found = shown(&state, &app)?.into_iter().find(|entry| entry.process_type == kind);
    found.map(Json).ok_or_else(|| ApiError::not_found("process type"))
}

pub(crate) async fn sizes(State(state): State<Arc<ApiState>>) -> Json<Vec<heroku::DynoSize>> {
    Json(state.config.sizes.iter().map(shown_size).collect())
}

pub(crate) async fn sizes_of_app(state: State<Arc<ApiState>>, _app: TheApp) -> Json<Vec<heroku::DynoSize>> {
    sizes(state).await
}

pub(crate) async fn size(
    State(state): State<Arc<ApiState>>,
    Path(wanted): Path<String>,
) -> ApiResult<Json<heroku::DynoSize>> {
    let by_id = |size: &&DynoSize| present::size_id(&size.name).to_string() == wanted;
    let found = dyno_size::find(&state.config.sizes, &wanted).or_else(|| state.config.sizes.iter().find(by_id));
    found.map(|size| Json(shown_size(size))).ok_or_else(|| ApiError::not_found("dyno size"))
}

/// The rows whose process type the current code has, and its release phase.
fn shown(state: &ApiState, app: &App) -> ApiResult<Vec<heroku::Formation>> {
    let slug = present::current_slug(state, app.id)?;
    let rows = state.store.formation(app.id)?;
    let has = |kind: &ProcessType| slug.as_ref().is_some_and(|slug| slug.command(kind).is_some());
    let existing = rows.iter().filter(|row| has(&row.entry.process_type));
    let mut all: Vec<_> = existing.map(|row| present::formation(app, slug.as_ref(), row)).collect();
    all.extend(slug.as_ref().and_then(|slug| release_phase(app, slug)));
    Ok(all)
}

/// Compat: the client looks for this before it runs a release phase once more. Nobody scales it.
fn release_phase(app: &App, slug: &Slug) -> Option<heroku::Formation> {
    let process_type = ProcessType::parse("release").ok()?;
    Some(heroku::Formation {
        app: present::app_ref(app),
        command: slug.command(&process_type)?.to_owned(),
        created_at: present::time(app.created_at),
        dyno_size: heroku::IdName { id: present::size_id(DEFAULT_SIZE_NAME), name: DEFAULT_SIZE_NAME.to_owned() },
        id: present::named_id("formation", &format!("{} release", app.id)),
        quantity: 0,
        size: DEFAULT_SIZE_NAME.to_owned(),
        process_type: process_type.to_string(),
        updated_at: present::time(app.updated_at),
    })
}

async fn scale(state: &ApiState, actor: &Actor, app: &App, updates: &[heroku::FormationUpdate]) -> ApiResult<()> {
    let slug = present::current_slug(state, app.id)?;
    let rows = state.store.formation(app.id)?;
    let mut changes = Vec::new();
    for update in updates {
        let name = update.process_type.as_deref().unwrap_or("");
        let found = rows.iter().find(|row| row.entry.process_type.as_str() == name || row.id.to_string() == name);
        let kind = match found {
            Some(row) => row.entry.process_type.clone(),
            None => ProcessType::parse(name).map_err(|error| ApiError::invalid(error.to_string()))?,
        };
        if slug.as_ref().is_none_or(|slug| slug.command(&kind).is_none()) {
            return Err(no_such_type(&kind, slug.as_ref()));
        }
        if kind.is_release() && update.quantity.is_none() {
            // Compat: the client gives every type of the formation its size at once. This one's is the default.
            continue;
        }
        if kind.is_release() {
            return Err(ApiError::invalid("The release process type runs once per release and cannot be scaled."));
        }
        let quantity = update.quantity.as_ref().map(|quantity| match quantity {
            heroku::Quantity::Number(number) => Ok(Scaling::To(*number)),
            heroku::Quantity::Text(text) => Scaling::parse(text),
        });
        let quantity = quantity.transpose().map_err(|error| ApiError::invalid(error.to_string()))?;
        let size = size_of(state, update)?;
        changes.push(FormationChange { process_type: kind, quantity, size, concurrency: None });
    }
    let asked: Vec<(ProcessType, bool, Option<String>)> = changes
        .iter()
        .map(|change| (change.process_type.clone(), change.quantity.is_some(), change.size.clone()))
        .collect();
    let scaled = state.store.scale(app.id, changes, state.now()).await?;
    let quantity_of = |kind: &ProcessType| {
        let found = scaled.iter().find(|row| row.entry.process_type == *kind);
        found.map_or(0, |row| row.entry.quantity)
    };
    let words: Vec<String> = asked
        .iter()
        .map(|(kind, is_scaled, size)| {
            let quantity = is_scaled.then(|| format!("@{}", quantity_of(kind))).unwrap_or_default();
            let size = size.as_ref().map(|size| format!(":{size}")).unwrap_or_default();
            format!("{kind}{quantity}{size}")
        })
        .collect();
    state.log_api(app.id, &format!("Scaled to {} by user {}", words.join(" "), actor.account.email));
    Ok(())
}

fn no_such_type(kind: &ProcessType, slug: Option<&store::slug::Slug>) -> ApiError {
    match slug {
        None => ApiError::invalid("The app has no code yet: deploy first, then scale its process types."),
        Some(slug) => {
            let names: Vec<&str> = slug.process_types.iter().map(|(name, _command)| name.as_str()).collect();
            ApiError::invalid(format!(
                "Couldn't find that process type ({kind}). The current release has: {}.",
                names.join(", ")
            ))
        }
    }
}

fn size_of(state: &ApiState, update: &heroku::FormationUpdate) -> ApiResult<Option<String>> {
    let by_id = |id: Uuid| state.config.sizes.iter().find(|size| present::size_id(&size.name) == id);
    let by_name = |name: &str| dyno_size::find(&state.config.sizes, name);
    let (wanted, found) = match (&update.size, &update.dyno_size) {
        (Some(name), _) | (None, Some(heroku::SizeRef::Name(name))) => (name.clone(), by_name(name)),
        (None, Some(heroku::SizeRef::Object { name: Some(name), .. })) => (name.clone(), by_name(name)),
        (None, Some(heroku::SizeRef::Object { name: None, id: Some(id) })) => (id.to_string(), by_id(*id)),
        (None, Some(heroku::SizeRef::Object { name: None, id: None }) | None) => return Ok(None),
    };
    found.map(|size| Some(size.name.clone())).ok_or_else(|| unknown_size(state, &wanted))
}

pub(crate) fn unknown_size(state: &ApiState, wanted: &str) -> ApiError {
    let names: Vec<&str> = state.config.sizes.iter().map(|size| size.name.as_str()).collect();
    ApiError::invalid(format!("No such dyno size: {wanted}. Sizes are: {}.", names.join(", ")))
}

#[expect(clippy::cast_precision_loss, reason = "gigabytes with two decimals, for people")]
fn shown_size(size: &DynoSize) -> heroku::DynoSize {
    heroku::DynoSize {
        architecture: std::env::consts::ARCH.to_owned(),
        compute: u32::from(size.cpu_weight).div_ceil(100),
        cost: None,
        dedicated: size.dedicated,
        generation: present::cedar(),
        id: present::size_id(&size.name),
        memory: size.memory.0 as f64 / (1024.0 * 1024.0 * 1024.0),
        name: size.name.clone(),
        precise_dyno_units: f64::from(size.cpu_weight) / 100.0,
        private_space_only: false,
    }
}
