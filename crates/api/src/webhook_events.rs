//! Turns what the store wrote down of changes into events, with the data that the API itself would show.

use std::sync::Arc;
use std::time::Duration;

use domain::dyno::DynoKind;
use domain::webhook::Entity;
use serde_json::{Map, Value, json};
use store::app::App;
use store::change::{Action, Change, Snapshot};
use store::webhook::NewEvent;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, warn};
use wire::platform_api::webhooks::Payload;

use crate::error::ApiError;
use crate::origin::Origin;
use crate::state::ApiState;
use crate::{add_on_attachments, add_ons, collaborators, domains, present, sni_endpoints};

/// Changes that are told at once.
const CHANGES_MAX: u32 = 100;

/// How long to wait when the store fails.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs until `stop` is true. What is not told by then is told by the next server.
pub async fn record_events(state: Arc<ApiState>, mut stop: watch::Receiver<bool>) {
    let mut changes = state.store.changes();
    loop {
        changes.borrow_and_update();
        let pause = match tell(&state).await {
            Ok(true) => continue,
            Ok(false) => None,
            Err(error) => {
                error!(error = error.message, "cannot tell webhooks of what happened");
                Some(PAUSE)
            }
        };
        tokio::select! {
            _changed = changes.changed(), if pause.is_none() => {}
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            _stopped = stop.wait_for(|&stop| stop) => return,
        }
    }
}

/// Tells the oldest changes. True if there may be more.
async fn tell(state: &ApiState) -> Result<bool, ApiError> {
    let changes = state.store.changes_to_tell(CHANGES_MAX)?;
    let Some(last) = changes.last().map(|change| change.sequence) else {
        state.store.forget_webhooks_of_gone_apps().await?;
        return Ok(false);
    };
    let mut events = Vec::new();
    for change in changes {
        // One that cannot be told must not hold up all that follow; why was logged where it failed.
        match event(state, change) {
            Ok(told) => events.extend(told),
            Err(error) => warn!(error = error.message, "a change is not told to webhooks"),
        }
    }
    state.store.add_events(events, last, state.now()).await?;
    Ok(true)
}

/// The event that a change is, if anybody would see a difference.
fn event(state: &ApiState, change: Change) -> Result<Option<NewEvent>, ApiError> {
    let Some(snapshot) = change.after.as_ref().or(change.before.as_ref()) else { return Ok(None) };
    let app = match snapshot {
        Snapshot::App(app) => app.clone(),
        _of_an_app => match state.store.app(change.app)? {
            Some(app) => app,
            None => return Ok(None),
        },
    };
    let Some(include) = entity(snapshot) else { return Ok(None) };
    if let Snapshot::Attachment(attachment) = snapshot
        && state.store.add_on(attachment.add_on)?.is_none()
    {
        // It went with its add-on, whose end is told.
        return Ok(None);
    }
    let gone = matches!(snapshot, Snapshot::App(app) if app.destroyed_at.is_some());
    let action = if gone { Action::Destroy } else { change.action };
    let data = shown(state, &app, snapshot)?;
    let mut previous_data = Value::Object(Map::new());
    if action == Action::Update
        && let Some(before) = &change.before
    {
        previous_data = difference(shown(state, &app, before)?, &data);
        if previous_data == json!({}) {
            return Ok(None);
        }
    }
    let payload = Payload {
        action: action.as_str().to_owned(),
        actor: present::user(state, change.account.unwrap_or(app.owner))?,
        data,
        previous_data,
        resource: include.resource().to_owned(),
        version: "application/vnd.heroku+json; version=3".to_owned(),
    };
    let payload =
        serde_json::to_string(&payload).map_err(|error| ApiError::internal("an event cannot be written", &error))?;
    Ok(Some(NewEvent { app: change.app, include, payload, at: change.at }))
}

fn entity(snapshot: &Snapshot) -> Option<Entity> {
    match snapshot {
        Snapshot::AddOn(_) => Some(Entity::Addon),
        Snapshot::App(_) => Some(Entity::App),
        Snapshot::Attachment(_) => Some(Entity::AddonAttachment),
        Snapshot::Build(_) => Some(Entity::Build),
        Snapshot::Collaborator(_) => Some(Entity::Collaborator),
        Snapshot::Release(_) => Some(Entity::Release),
        Snapshot::Formation(_) => Some(Entity::Formation),
        // Builds run in dynos here; on Heroku nobody sees them.
        Snapshot::Dyno(dyno) => (dyno.kind != DynoKind::Build).then_some(Entity::Dyno),
        Snapshot::Domain(_) => Some(Entity::Domain),
        Snapshot::SniEndpoint(_) => Some(Entity::SniEndpoint),
    }
}

fn shown(state: &ApiState, app: &App, snapshot: &Snapshot) -> Result<Value, ApiError> {
    let origin = origin(state)?;
    let value = match snapshot {
        Snapshot::AddOn(add_on) => serde_json::to_value(add_ons::told(state, &origin, add_on)?),
        Snapshot::App(app) => serde_json::to_value(present::app(state, &origin, app)?),
        Snapshot::Attachment(row) => serde_json::to_value(add_on_attachments::told(state, &origin, row)?),
        Snapshot::Build(build) => serde_json::to_value(present::build(state, &origin, build)?),
        Snapshot::Collaborator(row) => serde_json::to_value(collaborators::collaborator(state, app, row)?),
        Snapshot::Release(release) => serde_json::to_value(present::release(state, &origin, app, release)?),
        Snapshot::Formation(formation) => {
            let slug = present::current_slug(state, app.id)?;
            serde_json::to_value(present::formation(app, slug.as_ref(), formation))
        }
        Snapshot::Dyno(dyno) => {
            let release = dyno.release.map(|id| state.store.release(id)).transpose()?.flatten();
            serde_json::to_value(present::dyno(app, dyno, release.as_slice()))
        }
        Snapshot::Domain(domain) => serde_json::to_value(domains::custom(state, app, domain)?),
        Snapshot::SniEndpoint(endpoint) => serde_json::to_value(sni_endpoints::shown(state, app, endpoint)?),
    };
    value.map_err(|error| ApiError::internal("an event's data cannot be written", &error))
}

/// Nobody asked, so the URLs in an event begin as the API's own do.
fn origin(state: &ApiState) -> Result<Origin, ApiError> {
    let base = state.store.setting("api_url")?.unwrap_or_else(|| "http://localhost".to_owned());
    let authority = base.split_once("://").map_or(base.as_str(), |(_scheme, authority)| authority).to_owned();
    Ok(Origin { base, authority, holder: None })
}

/// The values of `before` that are others in `after`. Times and signed URLs differ always and say nothing.
fn difference(before: Value, after: &Value) -> Value {
    let Value::Object(before) = before else { return json!({}) };
    let says_something = |name: &str| !matches!(name, "updated_at" | "output_stream_url");
    let changed = before.into_iter().filter(|(name, value)| says_something(name) && after.get(name) != Some(value));
    Value::Object(changed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previous_data_holds_what_is_different_now() {
        let before = json!({"status": "pending", "id": 1, "updated_at": "a"});
        let after = json!({"status": "succeeded", "id": 1, "updated_at": "b"});
        assert_eq!(difference(before.clone(), &after), json!({"status": "pending"}));
        assert_eq!(difference(before.clone(), &before), json!({}));
    }
}
