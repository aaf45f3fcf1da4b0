//! Certificates that an app brings along. Keys go in and never come out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use certificate::{Checked, Facts, Issuance, Warning};
use domain::id::SniEndpointId;
use http::{HeaderMap, StatusCode};
use store::app::App;
use store::sni_endpoint::SniEndpoint;
use uuid::Uuid;
use wire::platform_api as heroku;
use wire::platform_api::domains::{SniEndpointCreate, SslCert};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::managed_certificates;
use crate::present;
use crate::state::ApiState;
use crate::warning::warning;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<heroku::domains::SniEndpoint>>> {
    let endpoints = state.store.sni_endpoints(app.id)?;
    let brought = endpoints.iter().map(|endpoint| shown(&state, &app, endpoint));
    let mut all = brought.collect::<ApiResult<Vec<_>>>()?;
    all.extend(managed_certificates::shown(&state, &app)?);
    Ok(Json(all))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::domains::SniEndpoint>> {
    if managed_certificates::is_meant(&app, &wanted) {
        let managed = managed_certificates::shown(&state, &app)?;
        return managed.map(Json).ok_or_else(|| ApiError::not_found("SNI endpoint"));
    }
    let endpoint = find_endpoint(&state, &app, &wanted)?;
    shown(&state, &app, &endpoint).map(Json)
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<SniEndpointCreate>,
) -> ApiResult<(StatusCode, HeaderMap, Json<heroku::domains::SniEndpoint>)> {
    let checked = checked(&state, &body)?;
    let name = generated_name(Uuid::new_v4());
    let endpoint = state.store.add_sni_endpoint(app.id, name, checked.chain, checked.key, state.now()).await?;
    let hosts = checked.facts.hosts.join(", ");
    state.log_api(app.id, &format!("Add certificate {} for {hosts} by user {}", endpoint.name, actor.account.email));
    let headers = warn(&state, &endpoint, &checked.warnings);
    Ok((StatusCode::CREATED, headers, Json(shown(&state, &app, &endpoint)?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
    Body(body): Body<SniEndpointCreate>,
) -> ApiResult<(HeaderMap, Json<heroku::domains::SniEndpoint>)> {
    let endpoint = find_endpoint(&state, &app, &wanted)?;
    let mut checked = checked(&state, &body)?;
    let hosts = hosts_of(&state, &app, endpoint.id)?;
    checked.warnings.extend(checked.warnings_for(hosts.iter().map(String::as_str)));
    state.store.update_sni_endpoint(endpoint.id, checked.chain, checked.key, state.now()).await?;
    let endpoint = find_endpoint(&state, &app, &endpoint.id.to_string())?;
    state.log_api(app.id, &format!("Update certificate {} by user {}", endpoint.name, actor.account.email));
    let headers = warn(&state, &endpoint, &checked.warnings);
    Ok((headers, Json(shown(&state, &app, &endpoint)?)))
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, wanted)): Path<(String, String)>,
) -> ApiResult<Json<heroku::domains::SniEndpoint>> {
    let endpoint = find_endpoint(&state, &app, &wanted)?;
    let shown = shown(&state, &app, &endpoint)?;
    let hosts = hosts_of(&state, &app, endpoint.id)?;
    state.store.remove_sni_endpoint(endpoint.id).await?;
    state.log_api(app.id, &format!("Remove certificate {} by user {}", endpoint.name, actor.account.email));
    if !hosts.is_empty() {
        let lost =
            format!("{} {} no certificate any more", hosts.join(", "), if hosts.len() == 1 { "has" } else { "have" });
        let remedy = "choose another with `heroku domains:update HOST --cert NAME`";
        state.log_api(app.id, &format!("{lost}: {remedy}"));
    }
    Ok(Json(shown))
}

/// What can be put in force. All that is wrong is told at once.
fn checked(state: &ApiState, body: &SniEndpointCreate) -> ApiResult<Checked> {
    certificate::check(&body.certificate_chain, &body.private_key, state.now()).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        ApiError::invalid(format!("This certificate cannot be used: {}.", faults.join("; ")))
    })
}

/// Says what is not as it should be: to whoever asks now, and in the app's log for everybody else.
fn warn(state: &ApiState, endpoint: &SniEndpoint, warnings: &[Warning]) -> HeaderMap {
    let texts: Vec<String> =
        warnings.iter().map(|warning| format!("Certificate {}: {warning}", endpoint.name)).collect();
    texts.iter().for_each(|text| state.log_api(endpoint.app, text));
    warning(&texts.join(". "))
}

/// The domains that a certificate was chosen for.
fn hosts_of(state: &ApiState, app: &App, endpoint: SniEndpointId) -> ApiResult<Vec<String>> {
    let domains = state.store.domains(app.id)?;
    let chosen = domains.iter().filter(|domain| domain.sni_endpoint == Some(endpoint));
    Ok(chosen.map(|domain| domain.hostname.to_string()).collect())
}

/// Warns if a certificate was chosen for a domain that it does not name.
pub(crate) fn warn_of_uncovered(state: &ApiState, endpoint: Option<&SniEndpoint>, host: &str) -> HeaderMap {
    let Some(endpoint) = endpoint else { return HeaderMap::new() };
    // What cannot be read shows when it is presented.
    let covered = certificate::read(&endpoint.certificate_chain).map_or(true, |facts| facts.covers(host));
    let warning = (!covered).then(|| Warning::HostNotCovered { host: host.to_owned() });
    warn(state, endpoint, warning.as_slice())
}

/// Finds a certificate by name or id.
///
/// # Errors
/// If there is none, or if it is managed: nobody chooses, changes or removes those.
pub(crate) fn find_endpoint(state: &ApiState, app: &App, wanted: &str) -> ApiResult<SniEndpoint> {
    if managed_certificates::is_meant(app, wanted) {
        return Err(managed_certificates::refused(app));
    }
    let endpoints = state.store.sni_endpoints(app.id)?;
    let found = endpoints.into_iter().find(|endpoint| endpoint.name == wanted || endpoint.id.to_string() == wanted);
    found.ok_or_else(|| ApiError::not_found("SNI endpoint"))
}

pub(crate) fn shown(state: &ApiState, app: &App, endpoint: &SniEndpoint) -> ApiResult<heroku::domains::SniEndpoint> {
    // What is stored was checked; damage since then is the server's fault.
    let facts = certificate::read(&endpoint.certificate_chain)
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
        ssl_cert: ssl_cert(endpoint.id.uuid(), facts, false),
        updated_at: present::time(endpoint.updated_at),
    })
}

pub(crate) fn ssl_cert(endpoint: Uuid, facts: Facts, managed: bool) -> SslCert {
    SslCert {
        acm: managed,
        ca_signed: facts.issuance != Issuance::SelfSigned,
        cert_domains: facts.hosts,
        expires_at: present::time(facts.not_after),
        id: present::named_id("ssl-cert", &endpoint.to_string()),
        issuer: facts.issuer_name,
        self_signed: facts.issuance == Issuance::SelfSigned,
        starts_at: present::time(facts.not_before),
        subject: facts.subject_name,
    }
}

/// A name to speak of it by, in Heroku's shape: `beacon-48213`.
fn generated_name(random: Uuid) -> String {
    const WORDS: [&str; 8] = ["anchor", "beacon", "delta", "harbor", "island", "lagoon", "mooring", "reef"];
    let (number, one, _two, _rest) = random.as_fields();
    format!("{}-{}", WORDS[usize::from(one % 8)], number % 90_000 + 10_000)
}
