//! Add-on services and their plans, as the one table of providers has them.

use axum::Json;
use axum::extract::Path;
use domain::add_on::catalogue::{Plan, Service, find_plan, provider, providers};
use http::HeaderMap;
use jiff::Timestamp;
use wire::platform_api::IdName;
use wire::platform_api::add_ons as heroku;

use crate::catalogue;
use crate::error::{ApiError, ApiResult};
use crate::origin::Origin;
use crate::present;
use crate::warning::warning;

pub(crate) async fn list() -> Json<Vec<heroku::AddOnService>> {
    Json(providers().map(|provider| service(provider.service())).collect())
}

pub(crate) async fn info(
    origin: Origin,
    Path(wanted): Path<String>,
) -> ApiResult<(HeaderMap, Json<heroku::AddOnService>)> {
    let found = find(&wanted)?;
    // Compat: `heroku addons:docs` asks for this alone and then names a page of Heroku's, which knows nothing of it.
    let text = format!("{} is no service of Heroku's. It is described at {}", found.name, about_url(&origin, found));
    Ok((warning(&text), Json(service(found))))
}

pub(crate) async fn plans(Path(wanted): Path<String>) -> ApiResult<Json<Vec<heroku::Plan>>> {
    let service = find(&wanted)?;
    Ok(Json(service.plans.iter().map(|one| plan(service, one)).collect()))
}

pub(crate) async fn plan_of_service(
    Path((wanted, wanted_plan)): Path<(String, String)>,
) -> ApiResult<Json<heroku::Plan>> {
    let service = find(&wanted)?;
    let is_wanted = |one: &&Plan| one.name == wanted_plan || is_plan(service, one, &wanted_plan);
    let found = service.plans.iter().find(is_wanted);
    found.map(|one| Json(plan(service, one))).ok_or_else(|| ApiError::not_found("plan"))
}

pub(crate) async fn plan_info(Path(wanted): Path<String>) -> ApiResult<Json<heroku::Plan>> {
    let by_id = || {
        providers().find_map(|provider| {
            let service = provider.service();
            service.plans.iter().find(|one| is_plan(service, one, &wanted)).map(|one| (service, one))
        })
    };
    let found = find_plan(&wanted).map(|(provider, one)| (provider.service(), one)).or_else(by_id);
    found.map(|(service, one)| Json(plan(service, one))).ok_or_else(|| ApiError::not_found("plan"))
}

pub(crate) async fn region_capabilities() -> Json<Vec<heroku::AddOnRegionCapability>> {
    Json(providers().map(|provider| capability(provider.service())).collect())
}

pub(crate) async fn region_capabilities_of(
    Path(wanted): Path<String>,
) -> ApiResult<Json<Vec<heroku::AddOnRegionCapability>>> {
    Ok(Json(vec![capability(find(&wanted)?)]))
}

pub(crate) async fn region_capabilities_in(
    Path(region): Path<String>,
) -> ApiResult<Json<Vec<heroku::AddOnRegionCapability>>> {
    let Json(_own) = catalogue::region(Path(region)).await?;
    Ok(region_capabilities().await)
}

/// What a service is, for people: where `heroku addons:open` leads, as there is no dashboard.
pub(crate) async fn about(Path(wanted): Path<String>) -> ApiResult<&'static str> {
    Ok(find(&wanted)?.about)
}

pub(crate) fn about_url(origin: &Origin, service: &Service) -> String {
    format!("{}/berth/addon-services/{}", origin.base, service.name)
}

fn find(wanted: &str) -> ApiResult<&'static Service> {
    let by_id = || providers().find(|provider| service_id(provider.service()).to_string() == wanted);
    let found = provider(wanted).or_else(by_id).map(|provider| provider.service());
    found.ok_or_else(|| ApiError::not_found("add_on service"))
}

fn is_plan(service: &Service, plan: &Plan, wanted: &str) -> bool {
    let full = service.full_name(plan);
    full == wanted || present::named_id("plan", &full).to_string() == wanted
}

fn service_id(service: &Service) -> uuid::Uuid {
    present::named_id("addon-service", service.name)
}

pub(crate) fn service_ref(name: &str) -> IdName {
    IdName { id: present::named_id("addon-service", name), name: name.to_owned() }
}

pub(crate) fn plan_ref(full_name: &str) -> IdName {
    IdName { id: present::named_id("plan", full_name), name: full_name.to_owned() }
}

pub(crate) fn service(service: &Service) -> heroku::AddOnService {
    let (id, name) = present::CEDAR;
    heroku::AddOnService {
        cli_plugin_name: None,
        created_at: present::time(Timestamp::UNIX_EPOCH),
        human_name: service.human_name.to_owned(),
        id: service_id(service),
        name: service.name.to_owned(),
        state: "ga".to_owned(),
        supported_generations: vec![IdName { id, name: name.to_owned() }],
        supports_multiple_installations: true,
        supports_sharing: true,
        updated_at: present::time(Timestamp::UNIX_EPOCH),
    }
}

pub(crate) fn plan(service: &Service, plan: &Plan) -> heroku::Plan {
    let full = plan_ref(&service.full_name(plan));
    heroku::Plan {
        addon_service: service_ref(service.name),
        compliance: None,
        created_at: present::time(Timestamp::UNIX_EPOCH),
        default: service.default_plan() == Some(plan),
        description: plan.description.to_owned(),
        human_name: plan.human_name.to_owned(),
        id: full.id,
        installable_inside_private_network: false,
        installable_outside_private_network: true,
        name: full.name,
        price: free(),
        space_default: false,
        state: "public".to_owned(),
        updated_at: present::time(Timestamp::UNIX_EPOCH),
        visible: true,
    }
}

/// Nothing is billed here.
pub(crate) fn free() -> heroku::Price {
    heroku::Price { cents: 0, contract: false, unit: "month".to_owned() }
}

fn capability(service: &Service) -> heroku::AddOnRegionCapability {
    heroku::AddOnRegionCapability {
        addon_service: self::service(service),
        id: present::named_id("addon-region-capability", service.name),
        region: catalogue::own_region(),
        supports_private_networking: false,
    }
}
