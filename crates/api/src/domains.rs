//! Custom domains of apps.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::hostname::Hostname;
use http::{HeaderMap, StatusCode};
use store::app::App;
use store::custom_domain::Domain;
use wire::platform_api as heroku;
use wire::platform_api::domains::{DomainCreate, DomainUpdate};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::managed_certificates;
use crate::present;
use crate::range::page;
use crate::sni_endpoints::{find_endpoint, warn_of_uncovered};
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let mut shown = vec![own(&state, &app)];
    for domain in state.store.domains(app.id)? {
        shown.push(custom(&state, &app, &domain)?);
    }
    page(&headers, "id", shown, |domain| domain.id, Ok)
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::domains::Domain>> {
    let own = own(&state, &app);
    if own.hostname == wanted || own.id.to_string() == wanted {
        return Ok(Json(own));
    }
    let domain = find(&state, &app, &wanted)?;
    Ok(Json(custom(&state, &app, &domain)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<DomainCreate>,
) -> ApiResult<(StatusCode, HeaderMap, Json<heroku::domains::Domain>)> {
    let hostname = Hostname::parse(&body.hostname).map_err(|error| ApiError::invalid(error.to_string()))?;
    if hostname.is_within(&state.config.domain) {
        return Err(ApiError::invalid(format!(
            "{hostname} lies below the platform's own domain, where every app has its name already: {}.",
            own_hostname(&state, &app)
        )));
    }
    if app.acm && body.sni_endpoint.is_some() {
        return Err(managed_certificates::refused(&app));
    }
    let endpoint = body.sni_endpoint.as_deref().map(|name| find_endpoint(&state, &app, name)).transpose()?;
    let chosen = endpoint.as_ref().map(|endpoint| endpoint.id);
    let domain = state.store.add_domain(app.id, hostname, chosen, state.now()).await?;
    state.log_api(app.id, &format!("Add {} domain by user {}", domain.hostname, actor.account.email));
    let headers = warn_of_uncovered(&state, endpoint.as_ref(), domain.hostname.as_str());
    Ok((StatusCode::CREATED, headers, Json(custom(&state, &app, &domain)?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<DomainUpdate>,
) -> ApiResult<(HeaderMap, Json<heroku::domains::Domain>)> {
    let mut headers = HeaderMap::new();
    let mut domain = find(&state, &app, &wanted)?;
    if let Some(chosen) = body.sni_endpoint {
        if app.acm && chosen.is_some() {
            return Err(managed_certificates::refused(&app));
        }
        let endpoint = chosen.map(|name| find_endpoint(&state, &app, &name)).transpose()?;
        let id = endpoint.as_ref().map(|endpoint| endpoint.id);
        domain = state.store.choose_certificate(domain.id, id, state.now()).await?;
        headers = warn_of_uncovered(&state, endpoint.as_ref(), domain.hostname.as_str());
    }
    Ok((headers, Json(custom(&state, &app, &domain)?)))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::domains::Domain>> {
    if wanted == own_hostname(&state, &app) {
        return Err(ApiError::invalid(
            "An app keeps its name below the platform's domain. `heroku rename` changes it.",
        ));
    }
    let domain = find(&state, &app, &wanted)?;
    let shown = custom(&state, &app, &domain)?;
    state.store.remove_domain(domain.id).await?;
    state.log_api(app.id, &format!("Remove {} domain by user {}", domain.hostname, actor.account.email));
    Ok(Json(shown))
}

/// Finds a custom domain by name or id.
pub(crate) fn find(state: &ApiState, app: &App, wanted: &str) -> ApiResult<Domain> {
    let name = wanted.to_ascii_lowercase();
    let domains = state.store.domains(app.id)?;
    let found = domains.into_iter().find(|domain| domain.hostname.as_str() == name || domain.id.to_string() == name);
    found.ok_or_else(|| ApiError::not_found("domain"))
}

/// The app's name below the platform's domain, to which the records of custom domains point.
pub(crate) fn own_hostname(state: &ApiState, app: &App) -> String {
    format!("{}.{}", app.name, state.config.domain)
}

pub(crate) fn own(state: &ApiState, app: &App) -> heroku::domains::Domain {
    heroku::domains::Domain {
        acm_status: None,
        acm_status_reason: None,
        app: present::app_ref(app),
        cname: None,
        created_at: present::time(app.created_at),
        hostname: own_hostname(state, app),
        id: present::named_id("domain", &app.id.to_string()),
        kind: "heroku".to_owned(),
        sni_endpoint: None,
        status: "succeeded".to_owned(),
        updated_at: present::time(app.created_at),
    }
}

pub(crate) fn custom(state: &ApiState, app: &App, domain: &Domain) -> ApiResult<heroku::domains::Domain> {
    let endpoint = certificate_of(state, app, domain)?;
    let waits = || "pending".to_owned();
    Ok(heroku::domains::Domain {
        acm_status: app.acm.then(|| domain.acm_status.clone().unwrap_or_else(waits)),
        acm_status_reason: domain.acm_status_reason.clone().filter(|_reason| app.acm),
        app: present::app_ref(app),
        cname: Some(own_hostname(state, app)),
        created_at: present::time(domain.created_at),
        hostname: domain.hostname.to_string(),
        id: domain.id.uuid(),
        kind: "custom".to_owned(),
        sni_endpoint: endpoint,
        // The router has it as soon as it is stored.
        status: "succeeded".to_owned(),
        updated_at: present::time(domain.updated_at),
    })
}

/// The certificate that the domain's visitors are shown.
fn certificate_of(state: &ApiState, app: &App, domain: &Domain) -> ApiResult<Option<heroku::IdName>> {
    if app.acm {
        let managed = state.store.managed_certificates_of(app.id)?;
        let now = state.now();
        if managed.iter().any(|one| one.hostname == domain.hostname && one.valid_until > now) {
            return Ok(Some(managed_certificates::reference(app)));
        }
    }
    let Some(chosen) = domain.sni_endpoint else { return Ok(None) };
    let endpoint = state.store.sni_endpoints(app.id)?.into_iter().find(|endpoint| endpoint.id == chosen);
    Ok(endpoint.map(|endpoint| heroku::IdName { id: endpoint.id.uuid(), name: endpoint.name }))
}
