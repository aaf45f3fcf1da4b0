//! How an app's requests are handled: limits, HTTPS, pages of its own, and domains that have not moved in yet.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::outgoing_policy::may_connect;
use domain::routing::{PageUrls, RoutingSettings};
use domain::upstream::Upstream;
use store::app::App;
use wire::platform_api::routing::{DomainRoute, DomainRouteUpdate, Routing, RoutingUpdate};
use wire::routes::{EdgeSettings, RequestLimits};

use crate::auth::Actor;
use crate::domains::{custom, find, own, own_hostname};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::state::ApiState;

pub(crate) async fn show(State(state): State<Arc<ApiState>>, TheApp(app): TheApp) -> ApiResult<Json<Routing>> {
    let settings = state.store.routing(app.id)?;
    Ok(Json(in_force(&state, &app, &settings)?))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<RoutingUpdate>,
) -> ApiResult<Json<Routing>> {
    let (before, after) = state.store.change_routing(app.id, |settings| body.apply(settings), state.now()).await?;
    let changes = changes(&before, &after);
    if !changes.is_empty() {
        let changes = changes.join(" ");
        state.log_api(app.id, &format!("Set routing {changes} by user {}", actor.account.email));
    }
    Ok(Json(in_force(&state, &app, &after)?))
}

fn in_force(state: &ApiState, app: &App, settings: &RoutingSettings) -> ApiResult<Routing> {
    let urls = PageUrls::of(&state.store.config(app.id)?);
    Ok(Routing::new(EdgeSettings::new(settings, &urls), RequestLimits::from(settings)))
}

/// As people would type them.
fn changes(before: &RoutingSettings, after: &RoutingSettings) -> Vec<String> {
    let described = before.described().into_iter().zip(after.described());
    let changed =
        described.filter(|(before, after)| before != after).map(|(_, (name, value))| format!("{name}={value}"));
    let pages = [
        ("maintenance-page", &before.maintenance_page, &after.maintenance_page),
        ("error-page", &before.error_page, &after.error_page),
    ];
    let page = |page: &Option<String>| page.as_ref().map_or("none".to_owned(), |html| format!("{}B", html.len()));
    let pages = pages.into_iter().filter(|(_name, before, after)| before != after);
    changed.chain(pages.map(|(name, _before, after)| format!("{name}={}", page(after)))).collect()
}

pub(crate) async fn domains(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<DomainRoute>>> {
    let mut shown = vec![DomainRoute { domain: own(&state, &app), upstream: None }];
    for domain in state.store.domains(app.id)? {
        shown.push(route(&state, &app, &domain)?);
    }
    Ok(Json(shown))
}

pub(crate) async fn pass_on(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<DomainRouteUpdate>,
) -> ApiResult<Json<DomainRoute>> {
    if wanted == own_hostname(&state, &app) {
        return Err(ApiError::invalid(format!(
            "{wanted} always leads to the app's dynos here, so that you can look at them before its domains do."
        )));
    }
    let domain = find(&state, &app, &wanted)?;
    let upstream = body.upstream.as_deref().map(Upstream::parse).transpose();
    let upstream = upstream.map_err(|error| ApiError::invalid(error.to_string()))?;
    if let Some(upstream) = &upstream {
        refuse_inside(&state, upstream)?;
        refuse_circle(&state, upstream)?;
    }
    let domain = state.store.pass_on(domain.id, upstream, state.now()).await?;
    let to = domain.upstream.as_ref().map_or_else(|| "the app's dynos".to_owned(), ToString::to_string);
    state.log_api(app.id, &format!("Lead {} to {to} by user {}", domain.hostname, actor.account.email));
    Ok(Json(route(&state, &app, &domain)?))
}

/// The router does not connect there; a name is judged by it, because it may mean another address each time.
fn refuse_inside(state: &ApiState, upstream: &Upstream) -> ApiResult<()> {
    match upstream.address() {
        Some(address) if !may_connect(address, &state.config.outgoing_networks) => Err(ApiError::invalid(format!(
            "{address} is not on the internet; the server's operator allows private networks in settings.toml, \
             [deliveries] allowed_networks."
        ))),
        Some(_) | None => Ok(()),
    }
}

/// A request that is passed on to a name of this server comes back, and is passed on again.
fn refuse_circle(state: &ApiState, upstream: &Upstream) -> ApiResult<()> {
    let host = upstream.host();
    let is_ours = host == state.config.domain || host.ends_with(&format!(".{}", state.config.domain));
    if is_ours || state.store.all_domains()?.iter().any(|domain| domain.hostname.as_str() == host) {
        return Err(ApiError::invalid(format!(
            "{host} is served here, so its requests would come back. Name the old host by an address of its own: \
             on Heroku, the DNS target that `heroku domains` shows."
        )));
    }
    Ok(())
}

fn route(state: &ApiState, app: &App, domain: &store::custom_domain::Domain) -> ApiResult<DomainRoute> {
    let upstream = domain.upstream.as_ref().map(ToString::to_string);
    Ok(DomainRoute { domain: custom(state, app, domain)?, upstream })
}
