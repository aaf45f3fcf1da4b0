//! The people of an app: its owner, and whom the owner has let in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::access::{Permission, Permissions};
use http::StatusCode;
use store::account::Account;
use store::app::App;
use store::collaborator::Collaborator as Row;
use wire::platform_api::catalogue::Permission as Word;
use wire::platform_api::catalogue::{Collaborator, CollaboratorCreate, CollaboratorUpdate, CollaboratorUser};

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Body, TheApp};
use crate::policy;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<Collaborator>>> {
    let mut shown = vec![owner(&state, &app)?];
    for row in state.store.collaborators(app.id)? {
        shown.push(collaborator(&state, &app, &row)?);
    }
    Ok(Json(shown))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, who)): Path<(String, String)>,
) -> ApiResult<Json<Collaborator>> {
    let owner = owner(&state, &app)?;
    if owner.user.email == who || owner.id.to_string() == who || owner.user.id.to_string() == who {
        return Ok(Json(owner));
    }
    let row = find(&state, &app, &who)?;
    Ok(Json(collaborator(&state, &app, &row)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Body(body): Body<CollaboratorCreate>,
) -> ApiResult<(StatusCode, Json<Collaborator>)> {
    let account = account(&state, body.user.as_str())?;
    if account.id == app.owner {
        return Err(ApiError::invalid("User is already a collaborator on the app: they own it."));
    }
    let permissions = body.permissions.as_deref().map_or(Ok(Permissions::COLLABORATOR), words)?;
    let row = state.store.add_collaborator(app.id, account.id, permissions, state.now()).await?;
    let by = &actor.account.email;
    state.log_api(app.id, &format!("Add {} as collaborator ({permissions}) by user {by}", account.email));
    Ok((StatusCode::CREATED, Json(collaborator(&state, &app, &row)?)))
}

pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, who)): Path<(String, String)>,
    Body(body): Body<CollaboratorUpdate>,
) -> ApiResult<Json<Collaborator>> {
    let row = find(&state, &app, &who)?;
    let permissions = words(&body.permissions)?;
    state.store.change_collaborator(row.id, permissions, state.now()).await?;
    let shown = collaborator(&state, &app, &find(&state, &app, &row.id.to_string())?)?;
    let by = &actor.account.email;
    state.log_api(app.id, &format!("Let {} {permissions} by user {by}", shown.user.email));
    Ok(Json(shown))
}

/// Whoever may manage the app removes others; everybody may leave.
pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    TheApp(app): TheApp,
    Path((_app, who)): Path<(String, String)>,
) -> ApiResult<Json<Collaborator>> {
    let owner = owner(&state, &app)?;
    if owner.user.email == who || owner.user.id.to_string() == who {
        return Err(ApiError::forbidden(format!("{who} owns {} and cannot leave it.", app.name)));
    }
    let row = find(&state, &app, &who)?;
    if row.account != actor.id() && !actor.may(&state, &app, Permission::Manage)? {
        return Err(policy::lacks(Permission::Manage));
    }
    let shown = collaborator(&state, &app, &row)?;
    state.store.remove_collaborator(row.id).await?;
    state.log_api(app.id, &format!("Remove {} by user {}", shown.user.email, actor.account.email));
    Ok(Json(shown))
}

fn words(words: &[String]) -> ApiResult<Permissions> {
    let known = Permission::ALL.map(Permission::as_str).join(", ");
    let parsed = Permissions::parse(words.iter().map(String::as_str));
    parsed.ok_or_else(|| ApiError::invalid(format!("Permissions must be one or more of {known}.")))
}

/// Somebody whom the server knows, by address or id.
pub(crate) fn account(state: &ApiState, who: &str) -> ApiResult<Account> {
    let found = state.store.find_account(who)?.filter(|account| account.removed_at.is_none());
    found.ok_or_else(|| {
        let mut error = ApiError::not_found("user");
        error.message = format!(
            "There is no user {who}. An administrator of this server lets people in: `berth people:add {who}`."
        );
        error
    })
}

fn find(state: &ApiState, app: &App, who: &str) -> ApiResult<Row> {
    let account = state.store.find_account(who)?.map(|account| account.id);
    let is_wanted = |row: &Row| row.id.to_string() == who || Some(row.account) == account;
    let found = state.store.collaborators(app.id)?.into_iter().find(is_wanted);
    found.ok_or_else(|| ApiError::not_found("collaborator"))
}

fn owner(state: &ApiState, app: &App) -> ApiResult<Collaborator> {
    let user = present::user(state, app.owner)?;
    Ok(Collaborator {
        app: present::app_ref(app),
        created_at: present::time(app.created_at),
        // The owner's place in the app has no row of its own: its id follows from the app's.
        id: present::named_id("owner", &app.id.to_string()),
        permissions: shown_words(Permissions::EVERY),
        role: Some("owner".to_owned()),
        updated_at: present::time(app.created_at),
        user: CollaboratorUser { email: user.email, federated: false, id: user.id },
    })
}

pub(crate) fn collaborator(state: &ApiState, app: &App, row: &Row) -> ApiResult<Collaborator> {
    let user = present::user(state, row.account)?;
    Ok(Collaborator {
        app: present::app_ref(app),
        created_at: present::time(row.created_at),
        id: row.id.uuid(),
        permissions: shown_words(row.permissions),
        role: Some("collaborator".to_owned()),
        updated_at: present::time(row.updated_at),
        user: CollaboratorUser { email: user.email, federated: false, id: user.id },
    })
}

fn shown_words(permissions: Permissions) -> Vec<Word> {
    let word = |permission: Permission| Word {
        name: permission.as_str().to_owned(),
        description: permission.description().to_owned(),
    };
    permissions.list().into_iter().map(word).collect()
}
