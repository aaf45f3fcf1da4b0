//! Attachments of add-ons to apps.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::access::{Errand, Permission};
use domain::add_on::catalogue::provider;
use domain::id::AttachmentId;
use http::{HeaderMap, StatusCode};
use store::app::App;
use store::attachment::Attachment;
use wire::platform_api::IdName;
use wire::platform_api::add_ons as heroku;

use crate::add_on_services::{about_url, plan_ref};
use crate::add_ons::{attaching, confirmed, find, log_releases, no_add_on, operated, scoped};
use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::range::page;
use crate::state::ApiState;

/// What an answer shows besides Heroku's usual fields, as the client asks for it.
#[derive(Debug, Clone, Copy, Default)]
struct Inclusion {
    plan: bool,
    config_vars: bool,
}

impl Inclusion {
    fn of(headers: &HeaderMap) -> Self {
        let text = headers.get("accept-inclusion").and_then(|value| value.to_str().ok()).unwrap_or("");
        let has = |wanted: &str| text.split(',').any(|one| one.trim() == wanted);
        Self { plan: has("addon:plan"), config_vars: has("config_vars") }
    }
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let all = state.store.attachments()?;
    shown_page(&state, &origin, &headers, &visible(&state, &actor, all)?)
}

pub(crate) async fn list_of_app(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    shown_page(&state, &origin, &headers, &state.store.attachments_of_app(app.id)?)
}

/// All of an add-on's, for whoever may see its own app; those that they may see for others.
pub(crate) async fn list_of_add_on(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let add_on = find(&state, &actor, &wanted)?;
    let all = state.store.attachments_of_add_on(add_on.id)?;
    shown_page(&state, &origin, &headers, &visible(&state, &actor, all)?)
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<heroku::AddOnAttachment>> {
    let attachment = find_attachment(&state, &actor, &wanted)?;
    Ok(Json(shown(&state, &origin, Inclusion::of(&headers), &attachment)?))
}

pub(crate) async fn info_of_app(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Json<heroku::AddOnAttachment>> {
    let attachments = state.store.attachments_of_app(app.id)?;
    let found = attachments.into_iter().find(|one| is_called(one, &wanted) || one.id.to_string() == wanted);
    let attachment = found.ok_or_else(no_attachment)?;
    Ok(Json(shown(&state, &origin, Inclusion::of(&headers), &attachment)?))
}

/// Gives an app the values of an add-on: somebody who may operate the add-on's own app may know them.
pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
    Body(body): Body<heroku::AttachmentCreate>,
) -> ApiResult<(StatusCode, Json<heroku::AddOnAttachment>)> {
    let (app, _word) = scoped(&state, &actor, Some(&body.app), "")?;
    let app = app.ok_or_else(|| ApiError::invalid("Name the app that the add-on is to be attached to."))?;
    actor.must(&state, &app, Permission::Operate, Errand::Other)?;
    let add_on = operated(&state, &actor, body.addon.as_str())?;
    if let Some(namespace) = &body.namespace {
        return Err(ApiError::invalid(format!("{} has no {namespace}: leave it out.", add_on.name)));
    }
    let provider = provider(&add_on.service).ok_or_else(|| ApiError::not_found("add_on service"))?;
    let mut attaching = attaching(body.name.as_deref(), confirmed(&app, body.confirm.as_deref())?)?;
    attaching.family = provider.family(&state.store.add_on_values(add_on.id)?);
    let made = state.store.attach(add_on.id, app.id, actor.id(), attaching, None, state.now()).await?;
    log_releases(&state, &actor, std::slice::from_ref(&made.release));
    let shown = shown(&state, &origin, Inclusion::of(&headers), &made.attachment)?;
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Whoever may operate the app that has it, or the app that the add-on belongs to, may take it away.
pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<heroku::AddOnAttachment>> {
    let attachment = find_attachment(&state, &actor, &wanted)?;
    let add_on = state.store.add_on(attachment.add_on)?.ok_or_else(no_add_on)?;
    let own = state.store.app(add_on.app)?;
    let is_owner = own.map(|app| actor.may(&state, &app, Permission::Operate)).transpose()?.unwrap_or(false);
    if !is_owner {
        let app = state.store.app(attachment.app)?.ok_or_else(no_attachment)?;
        actor.must(&state, &app, Permission::Operate, Errand::Other)?;
    }
    let answer = shown(&state, &origin, Inclusion::of(&headers), &attachment)?;
    let gone = state.store.detach(&attachment, actor.id(), state.now()).await?;
    log_releases(&state, &actor, std::slice::from_ref(&gone.release));
    Ok(Json(answer))
}

/// What somebody may mean by a word: an attachment's id or name, a config var of it, an add-on.
pub(crate) async fn resolve(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
    Body(body): Body<heroku::AttachmentWanted>,
) -> ApiResult<Json<Vec<heroku::AddOnAttachment>>> {
    let (app, word) = scoped(&state, &actor, body.app.as_ref(), body.addon_attachment.as_str())?;
    let mut found: Vec<Attachment> = find_attachment(&state, &actor, &word).ok().into_iter().collect();
    if found.is_empty() {
        found = named(&state, &actor, app.as_ref(), &word)?;
    }
    if found.is_empty()
        && let Ok(add_on) = find(&state, &actor, &word)
    {
        let of = app.as_ref().map_or(add_on.app, |app| app.id);
        found = state.store.attachments_of_add_on(add_on.id)?;
        found.retain(|one| one.app == of);
    }
    if let Some(service) = &body.addon_service {
        let mut kept = Vec::new();
        for one in found {
            if state.store.add_on(one.add_on)?.is_some_and(|add_on| add_on.service == service.as_str()) {
                kept.push(one);
            }
        }
        found = kept;
    }
    if found.is_empty() {
        return Err(no_attachment());
    }
    let inclusion = Inclusion::of(&headers);
    Ok(Json(found.iter().map(|one| shown(&state, &origin, inclusion, one)).collect::<ApiResult<_>>()?))
}

/// The attachments of a name, `DATABASE` or `DATABASE_URL`, to an app or to any that the actor may see.
pub(crate) fn named(state: &ApiState, actor: &Actor, app: Option<&App>, word: &str) -> ApiResult<Vec<Attachment>> {
    let mut found = match app {
        Some(app) => state.store.attachments_of_app(app.id)?,
        None => visible(state, actor, state.store.attachments()?)?,
    };
    if found.iter().any(|one| is_called(one, word)) {
        found.retain(|one| is_called(one, word));
        return Ok(found);
    }
    let mut by_var = Vec::new();
    for one in found {
        if config_vars(state, &one)?.iter().any(|var| var == word) {
            by_var.push(one);
        }
    }
    Ok(by_var)
}

fn is_called(attachment: &Attachment, word: &str) -> bool {
    attachment.name.as_str().eq_ignore_ascii_case(word)
}

pub(crate) fn no_attachment() -> ApiError {
    ApiError::not_found("add_on attachment")
}

fn find_attachment(state: &ApiState, actor: &Actor, wanted: &str) -> ApiResult<Attachment> {
    let id = AttachmentId::parse(wanted).ok_or_else(no_attachment)?;
    let found = state.store.attachment(id)?;
    visible(state, actor, found.into_iter().collect())?.pop().ok_or_else(no_attachment)
}

/// Those to apps that the actor may see, or of add-ons that belong to one.
fn visible(state: &ApiState, actor: &Actor, all: Vec<Attachment>) -> ApiResult<Vec<Attachment>> {
    let apps = actor.visible_apps(state)?;
    let sees = |id| apps.iter().any(|app| app.id == id);
    let mut seen = Vec::new();
    for attachment in all {
        let own = state.store.add_on(attachment.add_on)?.map(|add_on| add_on.app);
        if sees(attachment.app) || own.is_some_and(sees) {
            seen.push(attachment);
        }
    }
    Ok(seen)
}

pub(crate) fn config_vars(state: &ApiState, attachment: &Attachment) -> ApiResult<Vec<String>> {
    let add_on = state.store.add_on(attachment.add_on)?.ok_or_else(no_add_on)?;
    let vars = add_on.value_names.iter().filter_map(|name| attachment.name.config_var(name));
    Ok(vars.map(|var| var.to_string()).collect())
}

fn shown_page(
    state: &ApiState,
    origin: &Origin,
    headers: &HeaderMap,
    attachments: &[Attachment],
) -> ApiResult<Response> {
    let inclusion = Inclusion::of(headers);
    page(headers, "id", attachments, |one| one.id.uuid(), |one| shown(state, origin, inclusion, one))
}

/// As an event tells it, for which nobody asked.
pub(crate) fn told(state: &ApiState, origin: &Origin, attachment: &Attachment) -> ApiResult<heroku::AddOnAttachment> {
    shown(state, origin, Inclusion::default(), attachment)
}

fn shown(
    state: &ApiState,
    origin: &Origin,
    inclusion: Inclusion,
    attachment: &Attachment,
) -> ApiResult<heroku::AddOnAttachment> {
    let add_on = state.store.add_on(attachment.add_on)?.ok_or_else(no_add_on)?;
    let app_ref = |id| -> ApiResult<IdName> {
        Ok(present::app_ref(&state.store.app(id)?.ok_or_else(|| ApiError::not_found("app"))?))
    };
    Ok(heroku::AddOnAttachment {
        app: app_ref(attachment.app)?,
        config_vars: inclusion.config_vars.then(|| config_vars(state, attachment)).transpose()?,
        created_at: present::time(attachment.created_at),
        id: attachment.id.uuid(),
        log_input_url: None,
        name: attachment.name.to_string(),
        namespace: attachment.namespace.clone(),
        updated_at: present::time(attachment.updated_at),
        web_url: provider(&add_on.service).map(|provider| about_url(origin, provider.service())),
        addon: heroku::AttachedAddOn {
            app: app_ref(add_on.app)?,
            id: add_on.id.uuid(),
            name: add_on.name.to_string(),
            plan: inclusion.plan.then(|| plan_ref(&add_on.full_plan())),
        },
    })
}
