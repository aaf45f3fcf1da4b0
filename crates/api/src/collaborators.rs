//! The people of an app. One account owns everything so far; others cannot be let in yet, and are told so.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use store::app::App;
use wire::platform_api::catalogue::{Collaborator, CollaboratorUser, Permission};

use crate::error::{ApiError, ApiResult};
use crate::extract::TheApp;
use crate::present;
use crate::state::ApiState;

/// What an owner may do, in Heroku's words.
const OWNER_PERMISSIONS: [(&str, &str); 4] = [
    ("view", "Can view an app"),
    ("deploy", "Can deploy an app"),
    ("operate", "Can operate an app"),
    ("manage", "Can manage an app"),
];

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
) -> ApiResult<Json<Vec<Collaborator>>> {
    Ok(Json(vec![owner(&state, &app)?]))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, who)): Path<(String, String)>,
) -> ApiResult<Json<Collaborator>> {
    let owner = owner(&state, &app)?;
    let found = owner.user.email == who || owner.id.to_string() == who || owner.user.id.to_string() == who;
    if found { Ok(Json(owner)) } else { Err(ApiError::not_found("collaborator")) }
}

pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    TheApp(app): TheApp,
    Path((_app, who)): Path<(String, String)>,
) -> ApiResult<Json<Collaborator>> {
    let owner = owner(&state, &app)?;
    if owner.user.email == who {
        return Err(ApiError::forbidden(format!("{who} owns {} and cannot leave it.", app.name)));
    }
    Err(ApiError::not_found("collaborator"))
}

fn owner(state: &ApiState, app: &App) -> ApiResult<Collaborator> {
    let user = present::user(state, app.owner)?;
    let permission =
        |(name, description): (&str, &str)| Permission { name: name.to_owned(), description: description.to_owned() };
    Ok(Collaborator {
        app: present::app_ref(app),
        created_at: present::time(app.created_at),
        // The owner's place in the app has no row of its own: its id follows from the app's.
        id: present::named_id("owner", &app.id.to_string()),
        permissions: OWNER_PERMISSIONS.map(permission).to_vec(),
        role: Some("owner".to_owned()),
        updated_at: present::time(app.created_at),
        user: CollaboratorUser { email: user.email, federated: false, id: user.id },
    })
}
