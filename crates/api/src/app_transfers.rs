//! Apps that are handed over to somebody else.
//!
//! Heroku asks the recipient first, whom the app will cost money. Nothing is billed here, so a transfer takes place at
//! once, like a pipeline's: there is never one that waits for an answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use domain::access::{Errand, Permission};
use http::StatusCode;
use uuid::Uuid;
use wire::platform_api::app_transfers::{AppTransfer, AppTransferCreate};

use crate::auth::Actor;
use crate::collaborators;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<AppTransferCreate>,
) -> ApiResult<(StatusCode, Json<AppTransfer>)> {
    let app = state.store.find_app(body.app.as_str())?.ok_or_else(|| ApiError::not_found("app"))?;
    actor.must(&state, &app, Permission::Manage, Errand::Other)?;
    if app.owner != actor.id() && !actor.account.administrator {
        return Err(ApiError::forbidden(format!("{} belongs to somebody else, who can give it away.", app.name)));
    }
    let to = collaborators::account(&state, body.recipient.as_str())?;
    let (owner, now) = (present::user(&state, app.owner)?, state.now());
    state.store.transfer_app(app.id, to.id, now).await?;
    state.log_api(app.id, &format!("Transfer to {} by user {}", to.email, actor.account.email));
    let transfer = AppTransfer {
        app: present::app_ref(&app),
        created_at: present::time(now),
        id: Uuid::new_v4(),
        owner,
        recipient: present::user(&state, to.id)?,
        state: "accepted".to_owned(),
        updated_at: present::time(now),
    };
    Ok((StatusCode::CREATED, Json(transfer)))
}
