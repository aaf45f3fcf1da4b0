//! Certificates that an app brings along. Keys go in and never come out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::secret::Secret;
use http::StatusCode;
use store::app::App;
use store::sni_endpoint::SniEndpoint;
use uuid::Uuid;
use wire::platform_api as heroku;
use wire::platform_api::domains::{SniEndpointCreate, SslCert};

use crate::auth::Actor;
use crate::certificate::{self, Certificate};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::present;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<heroku::domains::SniEndpoint>>> {
    let endpoints = state.store.sni_endpoints(app.id)?;
    endpoints.iter().map(|endpoint| shown(&state, &app, endpoint)).collect::<ApiResult<Vec<_>>>().map(Json)
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::domains::SniEndpoint>> {
    let endpoint = find_endpoint(&state, &app, &wanted)?;
    shown(&state, &app, &endpoint).map(Json)
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<SniEndpointCreate>,
) -> ApiResult<(StatusCode, Json<heroku::domains::SniEndpoint>)> {
    let key = Secret::new(body.private_key);
    let checked = checked(&state, &body.certificate_chain, &key)?;
    let name = generated_name(Uuid::new_v4());
    let endpoint = state.store.add_sni_endpoint(app.id, name, body.certificate_chain, key, state.now()).await?;
    state.log_api(
        app.id,
        &format!("Add a certificate for {} by user {}", checked.names.join(", "), actor.account.email),
    );
    Ok((StatusCode::CREATED, Json(shown(&state, &app, &endpoint)?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<SniEndpointCreate>,
) -> ApiResult<Json<heroku::domains::SniEndpoint>> {
    let endpoint = find_endpoint(&state, &app, &wanted)?;
    let key = Secret::new(body.private_key);
    checked(&state, &body.certificate_chain, &key)?;
    state.store.update_sni_endpoint(endpoint.id, body.certificate_chain, key, state.now()).await?;
    let endpoint = find_endpoint(&state, &app, &endpoint.id.to_string())?;
    shown(&state, &app, &endpoint).map(Json)
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::domains::SniEndpoint>> {
    let endpoint = find_endpoint(&state, &app, &wanted)?;
    let shown = shown(&state, &app, &endpoint)?;
    state.store.remove_sni_endpoint(endpoint.id).await?;
    Ok(Json(shown))
}

fn checked(state: &ApiState, chain: &str, key: &Secret<String>) -> ApiResult<Certificate> {
    certificate::check(chain, key, state.now()).map_err(|error| ApiError::invalid(format!("{error}.")))
}

/// Finds a certificate by name or id.
pub(crate) fn find_endpoint(state: &ApiState, app: &App, wanted: &str) -> ApiResult<SniEndpoint> {
    let endpoints = state.store.sni_endpoints(app.id)?;
    let found = endpoints.into_iter().find(|endpoint| endpoint.name == wanted || endpoint.id.to_string() == wanted);
    found.ok_or_else(|| ApiError::not_found("SNI endpoint"))
}

fn shown(state: &ApiState, app: &App, endpoint: &SniEndpoint) -> ApiResult<heroku::domains::SniEndpoint> {
    // What is stored was checked; damage since then is the server's fault.
    let certificate = certificate::read(&endpoint.certificate_chain)
        .map_err(|error| ApiError::internal("a stored certificate cannot be read", &error))?;
    let domains = state.store.domains(app.id)?;
    Ok(heroku::domains::SniEndpoint {
        app: present::app_ref(app),
        certificate_chain: endpoint.certificate_chain.clone(),
        created_at: present::time(endpoint.created_at),
        display_name: None,
        domains: domains
            .iter()
            .filter(|domain| domain.sni_endpoint == Some(endpoint.id))
            .map(|domain| domain.id.uuid())
            .collect(),
        id: endpoint.id.uuid(),
        name: endpoint.name.clone(),
        ssl_cert: SslCert {
            ca_signed: !certificate.self_signed,
            cert_domains: certificate.names,
            expires_at: present::time(certificate.expires_at),
            id: present::named_id("ssl-cert", &endpoint.id.to_string()),
            issuer: certificate.issuer,
            self_signed: certificate.self_signed,
            starts_at: present::time(certificate.starts_at),
            subject: certificate.subject,
        },
        updated_at: present::time(endpoint.updated_at),
    })
}

/// A name to speak of it by, in Heroku's shape: `beacon-48213`.
fn generated_name(random: Uuid) -> String {
    const WORDS: [&str; 8] = ["anchor", "beacon", "delta", "harbor", "island", "lagoon", "mooring", "reef"];
    let (number, one, _two, _rest) = random.as_fields();
    format!("{}-{}", WORDS[usize::from(one % 8)], number % 90_000 + 10_000)
}
