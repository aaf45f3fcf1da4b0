//! Certificates that are managed for an app.
//!
//! Each domain has one of its own, so that one that cannot be verified holds up no other. Heroku shows one SNI endpoint
//! per app for all of them, and its client asks which one is meant where there are several: so they are shown as one.

use store::app::App;
use wire::platform_api as heroku;

use crate::error::{ApiError, ApiResult};
use crate::present;
use crate::sni_endpoints::ssl_cert;
use crate::state::ApiState;

/// What brought certificates are never named.
const NAME: &str = "managed";

/// All of an app as one: the hosts of all, and the dates of the one that ends first. `None` while there are none.
pub(crate) fn shown(state: &ApiState, app: &App) -> ApiResult<Option<heroku::domains::SniEndpoint>> {
    if !app.acm {
        return Ok(None);
    }
    let certificates = state.store.managed_certificates_of(app.id)?;
    let Some(first) = certificates.iter().min_by_key(|certificate| certificate.valid_until) else { return Ok(None) };
    let mut facts = certificate::read(&first.certificate_chain)
        .map_err(|error| ApiError::internal("a managed certificate cannot be read", &error))?;
    facts.hosts = certificates.iter().map(|certificate| certificate.hostname.to_string()).collect();
    let domains = state.store.domains(app.id)?.into_iter();
    let served = domains.filter(|domain| facts.hosts.contains(&domain.hostname.to_string()));
    let endpoint = reference(app);
    Ok(Some(heroku::domains::SniEndpoint {
        app: present::app_ref(app),
        certificate_chain: first.certificate_chain.clone(),
        created_at: present::time(first.issued_at),
        display_name: None,
        domains: served.map(|domain| domain.id.uuid()).collect(),
        id: endpoint.id,
        name: endpoint.name,
        ssl_cert: ssl_cert(endpoint.id, facts, true),
        updated_at: present::time(first.issued_at),
    }))
}

pub(crate) fn reference(app: &App) -> heroku::IdName {
    heroku::IdName { id: present::named_id("managed-certificates", &app.id.to_string()), name: NAME.to_owned() }
}

/// Whether this name or id is that of the managed ones.
pub(crate) fn is_meant(app: &App, wanted: &str) -> bool {
    wanted == NAME || wanted == reference(app).id.to_string()
}

/// For whoever wants to do by hand what is done for them.
pub(crate) fn refused(app: &App) -> ApiError {
    ApiError::invalid(format!(
        "The certificates of {} are managed: they are ordered, chosen and renewed by themselves. `heroku \
         certs:auto:disable -a {}` ends that.",
        app.name, app.name
    ))
}
