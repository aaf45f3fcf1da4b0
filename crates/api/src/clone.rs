//! A new app like another one: its config vars and add-ons as far as they are wanted, its formation, its buildpacks.
//!
//! Not its domains, which belong to one app, nor its code, which comes by a deploy or a promotion.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use domain::add_on::Options;
use domain::add_on::catalogue::{alternative, find_plan};
use domain::config::{ConfigChanges, apply};
use domain::name::{AppName, ConfigKey};
use domain::secret::Secret;
use http::StatusCode;
use store::app::{App, ClonedAddOn};
use wire::platform_api as heroku;
use wire::platform_api::environments as ours;

use crate::add_on_attachments::no_attachment;
use crate::add_ons::{attaching, new_add_on, no_add_on, operated};
use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::origin::Origin;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    origin: Origin,
    TheApp(source): TheApp,
    Body(body): Body<ours::CloneCreate>,
) -> ApiResult<(StatusCode, Json<heroku::App>)> {
    let name = AppName::parse(&body.name).map_err(|error| ApiError::invalid(error.to_string()))?;
    let key = |text: &str| ConfigKey::parse(text).map_err(|error| ApiError::invalid(error.to_string()));
    let there = state.store.config(source.id)?;
    let mut config = ConfigChanges::new();
    for wanted in &body.copy {
        let value = there.get(&key(wanted)?);
        let missing = || ApiError::invalid(format!("{} has no config var {wanted} that could be copied.", source.name));
        config.insert(key(wanted)?, Some(value.ok_or_else(missing)?.clone()));
    }
    for (wanted, value) in body.set {
        config.insert(key(&wanted)?, Some(Secret::new(value)));
    }
    let (config, _description) =
        apply(&domain::config::ConfigVars::new(), config).map_err(|error| ApiError::invalid(error.to_string()))?;
    let mut add_ons = Vec::new();
    for wanted in &body.add_ons {
        add_ons.push(wanted_add_on(&state, &actor, &source, wanted)?);
    }
    let app = state.store.clone_app(source.id, name, actor.id(), config, add_ons, state.now()).await?;
    state.log_api(app.id, &format!("Cloned from {} by user {}", source.name, actor.account.email));
    Ok((StatusCode::CREATED, Json(present::app(&state, &origin, &app)?)))
}

/// What an app's add-on is to be for its copy.
fn wanted_add_on(state: &ApiState, actor: &Actor, source: &App, wanted: &ours::CloneAddOn) -> ApiResult<ClonedAddOn> {
    let attachments = state.store.attachments_of_app(source.id)?;
    let found = attachments.into_iter().find(|one| one.name.as_str() == wanted.attachment);
    let attachment = found.ok_or_else(no_attachment)?;
    let add_on = state.store.add_on(attachment.add_on)?.ok_or_else(no_add_on)?;
    let attaching = attaching(Some(attachment.name.as_str()), false)?;
    match wanted.how {
        ours::CloneHow::Attach => {
            operated(state, actor, add_on.name.as_str())?;
            Ok(ClonedAddOn::Same(add_on.id, attaching))
        }
        ours::CloneHow::New => {
            let full = add_on.full_plan();
            let plan = find_plan(&full).ok_or_else(|| ApiError::invalid(alternative(&full)))?;
            let options: Options =
                wanted.options.iter().map(|(key, value)| (key.clone(), Secret::new(value.clone()))).collect();
            Ok(ClonedAddOn::New(new_add_on(actor, source, plan, &options, None, attaching)?))
        }
    }
}
