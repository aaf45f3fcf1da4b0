//! Add-ons: made, shown, changed, destroyed.
//!
//! An add-on belongs to the app that it was made for; whoever may see that app, or one that it is attached to, sees it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::access::{Errand, Permission};
use domain::add_on::attachment_name::{AttachmentName, Family};
use domain::add_on::catalogue::{Plan, Provider, Provision, alternative, find_plan, provider};
use domain::add_on::{AddOnName, AddOnState, Changes, Options, Values};
use http::{HeaderMap, StatusCode};
use store::StoreError;
use store::add_on::{AddOn, Attaching, NewAddOn};
use store::app::App;
use store::release::Release;
use uuid::Uuid;
use wire::platform_api::ReleaseRef;
use wire::platform_api::add_ons as heroku;
use wire::platform_api::pipelines::Reference;

use crate::add_on_services::{about_url, free, plan, plan_ref, service, service_ref};
use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::range::page;
use crate::state::ApiState;

/// What an answer shows besides references, as the client asks for it.
#[derive(Debug, Clone, Copy, Default)]
struct Expansion {
    service: bool,
    plan: bool,
}

impl Expansion {
    fn of(headers: &HeaderMap) -> Self {
        let text = headers.get("accept-expansion").and_then(|value| value.to_str().ok()).unwrap_or("");
        let has = |wanted: &str| text.split(',').any(|one| one.trim() == wanted);
        Self { service: has("addon_service"), plan: has("plan") }
    }
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let mut seen = Vec::new();
    for add_on in state.store.add_ons()? {
        if let Some(app) = state.store.app(add_on.app)?
            && actor.may(&state, &app, Permission::View)?
        {
            seen.push(add_on);
        }
    }
    shown_page(&state, &origin, &headers, &seen)
}

pub(crate) async fn list_of_user(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    if wanted != "~" && state.store.find_account(&wanted)?.is_none_or(|account| account.id != actor.id()) {
        return Err(ApiError::not_found("user"));
    }
    list(State(state), actor, origin, headers).await
}

/// Those that were made for the app, and those that are attached to it.
pub(crate) async fn list_of_app(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    shown_page(&state, &origin, &headers, &of_app(&state, &app)?)
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<heroku::AddOn>> {
    let add_on = find(&state, &actor, &wanted)?;
    Ok(Json(shown(&state, &origin, Expansion::of(&headers), &add_on)?))
}

pub(crate) async fn info_of_app(
    State(state): State<Arc<ApiState>>,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Json<heroku::AddOn>> {
    let add_on = find_of_app(&state, &app, &wanted)?;
    Ok(Json(shown(&state, &origin, Expansion::of(&headers), &add_on)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    headers: HeaderMap,
    Body(body): Body<heroku::AddOnCreate>,
) -> ApiResult<(StatusCode, Json<heroku::AddOn>)> {
    let confirmed = confirmed(&app, body.confirm.as_deref())?;
    let name = body.name.as_deref().map(AddOnName::parse).transpose();
    let name = name.map_err(|error| ApiError::invalid(error.to_string()))?;
    let wanted = body.plan.as_str();
    let (provider, plan) = find_plan(wanted).ok_or_else(|| ApiError::invalid(alternative(wanted)))?;
    let options = body.config.unwrap_or_default();
    let options: Options = options.into_iter().map(|(key, value)| (key, value.into_secret())).collect();
    let name_of_attachment = body.attachment.and_then(|attachment| attachment.name);
    let attaching = attaching(name_of_attachment.as_deref(), confirmed)?;
    let new = new_add_on(&actor, &app, (provider, plan), &options, name, attaching)?;
    let made = state.store.create_add_on(new, state.now()).await?;
    log_releases(&state, &actor, std::slice::from_ref(&made.release));
    Ok((StatusCode::CREATED, Json(shown(&state, &origin, Expansion::of(&headers), &made.add_on)?)))
}

/// What the provider makes of a wish for a new add-on.
pub(crate) fn new_add_on(
    actor: &Actor,
    app: &App,
    (provider, plan): (&dyn Provider, &Plan),
    options: &Options,
    name: Option<AddOnName>,
    attaching: Attaching,
) -> ApiResult<NewAddOn> {
    let provision = provider.provision(plan, options).map_err(|error| ApiError::invalid(error.to_string()))?;
    let family = match &provision {
        Provision::Done(values) => provider.family(values),
        Provision::Later { .. } => provider.family(&Values::new()),
    };
    Ok(NewAddOn {
        app: app.id,
        account: actor.id(),
        service: provider.service().name.to_owned(),
        plan: plan.name.to_owned(),
        stem: provider.service().stem.to_owned(),
        name,
        provision,
        attaching: Attaching { family, ..attaching },
    })
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    headers: HeaderMap,
    Body(body): Body<heroku::AddOnUpdate>,
) -> ApiResult<Json<heroku::AddOn>> {
    let mut add_on = own(&state, &app, &wanted)?;
    if let Some(wanted) = body.plan.as_ref().map(Reference::as_str).filter(|wanted| !wanted.is_empty()) {
        let full = if wanted.contains(':') { wanted.to_owned() } else { format!("{}:{wanted}", add_on.service) };
        let (_provider, plan) = find_plan(&full).ok_or_else(|| ApiError::invalid(alternative(&full)))?;
        if plan.name == add_on.plan {
            return Err(ApiError::invalid(format!("{} is on the plan {full} already.", add_on.name)));
        }
        return Err(ApiError::invalid(format!("{} cannot be moved from {} to {full}.", add_on.name, add_on.plan)));
    }
    if let Some(name) = body.name {
        let name = AddOnName::parse(&name).map_err(|error| ApiError::invalid(error.to_string()))?;
        add_on = state.store.rename_add_on(add_on.id, name, state.now()).await?;
    }
    let by = &actor.account.email;
    state.log_api(app.id, &format!("Update add-on {} by user {by}", add_on.name));
    Ok(Json(shown(&state, &origin, Expansion::of(&headers), &add_on)?))
}

pub(crate) async fn destroy(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    headers: HeaderMap,
    Body(body): Body<heroku::AddOnDestroy>,
) -> ApiResult<Json<heroku::AddOn>> {
    let add_on = own(&state, &app, &wanted)?;
    let at_once = provider(&add_on.service).is_none_or(Provider::is_destroyed_at_once);
    let mut answer = shown(&state, &origin, Expansion::of(&headers), &add_on)?;
    let (gone, releases) = state.store.destroy_add_on(add_on.id, actor.id(), body.force, at_once, state.now()).await?;
    log_releases(&state, &actor, &releases);
    answer.state = gone.state.as_str().to_owned();
    Ok(Json(answer))
}

/// The values, for whoever may operate the app that the add-on belongs to.
pub(crate) async fn config(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<heroku::AddOnConfig>>> {
    let add_on = operated(&state, &actor, &wanted)?;
    Ok(Json(shown_values(state.store.add_on_values(add_on.id)?)))
}

/// The values of one of its credentials: there is only the usual one.
pub(crate) async fn config_of_credential(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path((wanted, _credential)): Path<(String, String)>,
) -> ApiResult<Json<Vec<heroku::AddOnConfig>>> {
    operated(&state, &actor, &wanted)?;
    Ok(Json(Vec::new()))
}

pub(crate) async fn update_config(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
    Body(body): Body<heroku::AddOnConfigUpdate>,
) -> ApiResult<Json<Vec<heroku::AddOnConfig>>> {
    let (add_on, _releases) = change_values(&state, &actor, &wanted, body).await?;
    Ok(Json(shown_values(state.store.add_on_values(add_on.id)?)))
}

/// The same, answered without the values, and with the releases that carry them.
pub(crate) async fn change_config(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    Path(wanted): Path<String>,
    Body(body): Body<heroku::AddOnConfigUpdate>,
) -> ApiResult<Json<heroku::AddOnChanged>> {
    let (add_on, releases) = change_values(&state, &actor, &wanted, body).await?;
    let mut changed = Vec::new();
    for release in releases {
        let app = state.store.app(release.app)?.ok_or_else(|| ApiError::not_found("app"))?;
        let release = ReleaseRef { id: release.id.uuid(), version: release.version };
        changed.push(heroku::ChangedApp { app: present::app_ref(&app), release });
    }
    let addon = shown(&state, &origin, Expansion::default(), &add_on)?;
    Ok(Json(heroku::AddOnChanged { addon, releases: changed }))
}

async fn change_values(
    state: &ApiState,
    actor: &Actor,
    wanted: &str,
    body: heroku::AddOnConfigUpdate,
) -> ApiResult<(AddOn, Vec<Release>)> {
    let add_on = operated(state, actor, wanted)?;
    let changes = body.config.into_iter().map(|one| (one.name, one.value.map(domain::secret::Secret::new)));
    let changes: Changes = changes.collect();
    if changes.is_empty() {
        return Err(ApiError::invalid("Say which values change: `berth addons:update NAME --url …`."));
    }
    let provider = provider(&add_on.service).ok_or_else(|| ApiError::not_found("add_on service"))?;
    let change = move |current: &Values| {
        provider.update(current, &changes).map_err(|error| StoreError::Refused(error.to_string()))
    };
    let (add_on, releases) = state.store.change_values(&add_on, change, actor.id(), state.now()).await?;
    log_releases(state, actor, &releases);
    Ok((add_on, releases))
}

/// Lists that belong to an add-on, in which there is never anything.
pub(crate) async fn nothing_of_add_on(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<serde_json::Value>>> {
    find(&state, &actor, &wanted)?;
    Ok(Json(Vec::new()))
}

/// What somebody may mean by a word: an add-on's name or id, an attachment, a config var, a service.
pub(crate) async fn resolve(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    headers: HeaderMap,
    Body(body): Body<heroku::AddOnWanted>,
) -> ApiResult<Json<Vec<heroku::AddOn>>> {
    let (app, word) = scoped(&state, &actor, body.app.as_ref(), body.addon.as_str())?;
    let mut found: Vec<AddOn> = find(&state, &actor, &word).ok().into_iter().collect();
    if found.is_empty() {
        let attachments = crate::add_on_attachments::named(&state, &actor, app.as_ref(), &word)?;
        for attachment in attachments {
            found.extend(state.store.add_on(attachment.add_on)?);
        }
    }
    if let (true, Some(app)) = (found.is_empty(), &app) {
        found.extend(of_app(&state, app)?.into_iter().filter(|one| one.service == word || one.full_plan() == word));
    }
    if let Some(service) = &body.addon_service {
        found.retain(|one| one.service == service.as_str());
    }
    found.dedup_by_key(|one| one.id);
    if found.is_empty() {
        return Err(no_add_on());
    }
    let expansion = Expansion::of(&headers);
    Ok(Json(found.iter().map(|one| shown(&state, &origin, expansion, one)).collect::<ApiResult<_>>()?))
}

/// The app that a word is about, and the word: `shop::DATABASE` names both.
pub(crate) fn scoped(
    state: &ApiState,
    actor: &Actor,
    app: Option<&Reference>,
    word: &str,
) -> ApiResult<(Option<App>, String)> {
    let (app, word) = match word.split_once("::") {
        Some((app, word)) => (app, word),
        None => (app.map_or("", Reference::as_str), word),
    };
    if app.is_empty() {
        return Ok((None, word.to_owned()));
    }
    let found = state.store.find_app(app)?.ok_or_else(|| ApiError::not_found("app"))?;
    actor.must(state, &found, Permission::View, Errand::Other)?;
    Ok((Some(found), word.to_owned()))
}

pub(crate) fn attaching(name: Option<&str>, confirmed: bool) -> ApiResult<Attaching> {
    let name = name.map(AttachmentName::parse).transpose();
    let name = name.map_err(|error| ApiError::invalid(error.to_string()))?;
    let (random, _rest) = Uuid::new_v4().as_u64_pair();
    Ok(Attaching { name, family: Family::CUSTOM, confirmed, random })
}

/// Whether somebody has typed the app's name where that confirms something.
pub(crate) fn confirmed(app: &App, confirm: Option<&str>) -> ApiResult<bool> {
    match confirm {
        None => Ok(false),
        Some(name) if name == app.name.as_str() => Ok(true),
        Some(_) => Err(ApiError::invalid(format!("To confirm, give the name of the app: {}.", app.name))),
    }
}

pub(crate) fn no_add_on() -> ApiError {
    ApiError::not_found("add_on")
}

/// An add-on that the actor may see.
pub(crate) fn find(state: &ApiState, actor: &Actor, wanted: &str) -> ApiResult<AddOn> {
    let add_on = state.store.find_add_on(wanted)?.ok_or_else(no_add_on)?;
    let attachments = state.store.attachments_of_add_on(add_on.id)?;
    for app in std::iter::once(add_on.app).chain(attachments.iter().map(|attachment| attachment.app)) {
        if let Some(app) = state.store.app(app)?
            && actor.may(state, &app, Permission::View)?
        {
            return Ok(add_on);
        }
    }
    Err(no_add_on())
}

/// An add-on of an app that the actor may operate.
pub(crate) fn operated(state: &ApiState, actor: &Actor, wanted: &str) -> ApiResult<AddOn> {
    let add_on = find(state, actor, wanted)?;
    let app = state.store.app(add_on.app)?.ok_or_else(no_add_on)?;
    if !actor.may(state, &app, Permission::View)? {
        return Err(ApiError::forbidden(format!("{} belongs to an app that you may not see.", add_on.name)));
    }
    actor.must(state, &app, Permission::Operate, Errand::Other)?;
    Ok(add_on)
}

fn of_app(state: &ApiState, app: &App) -> ApiResult<Vec<AddOn>> {
    let attached = state.store.attachments_of_app(app.id)?;
    let is_here =
        |add_on: &AddOn| add_on.app == app.id || attached.iter().any(|attachment| attachment.add_on == add_on.id);
    Ok(state.store.add_ons()?.into_iter().filter(is_here).collect())
}

/// By name, id, or the name of an attachment.
fn find_of_app(state: &ApiState, app: &App, wanted: &str) -> ApiResult<AddOn> {
    let attached = state.store.attachments_of_app(app.id)?;
    let by_attachment = attached.iter().find(|attachment| attachment.name.as_str() == wanted);
    let found = of_app(state, app)?.into_iter().find(|add_on| {
        add_on.name.as_str() == wanted
            || add_on.id.to_string() == wanted
            || by_attachment.is_some_and(|attachment| attachment.add_on == add_on.id)
    });
    found.ok_or_else(no_add_on)
}

/// An add-on that was made for the app: what it is, its own app decides.
fn own(state: &ApiState, app: &App, wanted: &str) -> ApiResult<AddOn> {
    let add_on = find_of_app(state, app, wanted)?;
    if add_on.app != app.id {
        let owner = state.store.app(add_on.app)?.map_or_else(String::new, |app| format!(" {}", app.name));
        return Err(ApiError::invalid(format!("{} belongs to another app{owner}: name that one.", add_on.name)));
    }
    Ok(add_on)
}

pub(crate) fn log_releases(state: &ApiState, actor: &Actor, releases: &[Release]) {
    for release in releases {
        crate::releases::log_created(state, actor, release);
    }
}

fn shown_values(values: Values) -> Vec<heroku::AddOnConfig> {
    let value = |(name, value): (domain::name::ConfigKey, domain::secret::Secret<String>)| heroku::AddOnConfig {
        name: name.to_string(),
        value: Some(value.into_exposed()),
    };
    values.into_iter().map(value).collect()
}

fn shown_page(state: &ApiState, origin: &Origin, headers: &HeaderMap, add_ons: &[AddOn]) -> ApiResult<Response> {
    let expansion = Expansion::of(headers);
    page(headers, "id", add_ons, |one| one.id.uuid(), |one| shown(state, origin, expansion, one))
}

/// As an event tells it, for which nobody asked.
pub(crate) fn told(state: &ApiState, origin: &Origin, add_on: &AddOn) -> ApiResult<heroku::AddOn> {
    shown(state, origin, Expansion::default(), add_on)
}

fn shown(state: &ApiState, origin: &Origin, expansion: Expansion, add_on: &AddOn) -> ApiResult<heroku::AddOn> {
    let app = state.store.app(add_on.app)?.ok_or_else(|| ApiError::not_found("app"))?;
    let full_plan = add_on.full_plan();
    let known = find_plan(&full_plan).map(|(provider, plan)| (provider.service(), plan));
    let mut vars = Vec::new();
    if add_on.state == AddOnState::Provisioned {
        let attached = state.store.attachments_of_add_on(add_on.id)?;
        for attachment in attached.iter().filter(|attachment| attachment.app == add_on.app) {
            let own = add_on.value_names.iter().filter_map(|name| attachment.name.config_var(name));
            vars.extend(own.map(|var| var.to_string()));
        }
    }
    let whole_service = known.filter(|_known| expansion.service);
    let whole_plan = known.filter(|_known| expansion.plan);
    Ok(heroku::AddOn {
        actions: Vec::new(),
        addon_service: match whole_service {
            Some((found, _plan)) => heroku::Expandable::Whole(Box::new(service(found))),
            None => heroku::Expandable::Reference(service_ref(&add_on.service)),
        },
        billed_price: Some(free()),
        billing_entity: heroku::BillingEntity { id: app.id.uuid(), name: app.name.to_string(), kind: "app".to_owned() },
        app: present::app_ref(&app),
        config_vars: vars,
        created_at: present::time(add_on.created_at),
        id: add_on.id.uuid(),
        name: add_on.name.to_string(),
        plan: match whole_plan {
            Some((service, found)) => heroku::Expandable::Whole(Box::new(plan(service, found))),
            None => heroku::Expandable::Reference(plan_ref(&full_plan)),
        },
        provider_id: add_on.id.to_string(),
        provision_message: add_on.failure.clone().unwrap_or_default(),
        state: add_on.state.as_str().to_owned(),
        updated_at: present::time(add_on.updated_at),
        web_url: known.map(|(service, _plan)| about_url(origin, service)),
    })
}
