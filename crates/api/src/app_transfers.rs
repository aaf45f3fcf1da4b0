//! Apps that are handed over to somebody else, who is asked first.
//!
//! An administrator of the server gives apps away at once, their own and other people's: somebody has to, where the
//! owner has left, and whoever runs the server answers for it. Everybody else offers their own.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domain::access::{Errand, Permission};
use domain::app_transfer::{Answer, TransferState};
use domain::id::AccountId;
use http::{HeaderMap, StatusCode};
use store::account::Account;
use store::app::App;
use store::app_transfer::{AppTransfer, Giving};
use wire::platform_api::app_transfers as heroku;

use crate::auth::Actor;
use crate::collaborators;
use crate::error::{ApiError, ApiResult};
use crate::extract::Body;
use crate::present;
use crate::range::page;
use crate::state::ApiState;
use crate::warning::warning;

pub(crate) async fn list(State(state): State<Arc<ApiState>>, actor: Actor, headers: HeaderMap) -> ApiResult<Response> {
    let transfers = state.store.app_transfers_of(actor.id())?;
    page(&headers, "id", &transfers, |transfer| transfer.id.uuid(), |transfer| shown(&state, transfer))
}

pub(crate) async fn info(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<heroku::AppTransfer>> {
    Ok(Json(shown(&state, &find(&state, &actor, &wanted)?)?))
}

pub(crate) async fn create(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Body(body): Body<heroku::AppTransferCreate>,
) -> ApiResult<(StatusCode, HeaderMap, Json<heroku::AppTransfer>)> {
    let app = state.store.find_app(body.app.as_str())?.ok_or_else(|| ApiError::not_found("app"))?;
    actor.must(&state, &app, Permission::Manage, Errand::Other)?;
    if app.owner != actor.id() && !actor.account.administrator {
        return Err(ApiError::forbidden(format!("{} belongs to somebody else, who can give it away.", app.name)));
    }
    let to = collaborators::account(&state, body.recipient.as_str())?;
    let giving = giving_of(&actor);
    let transfer = match giving {
        Giving::AtOnce => state.store.give_app(app.id, to.id, state.now()).await?,
        Giving::Offered => state.store.offer_app(app.id, actor.id(), to.id, state.now()).await?,
    };
    let headers = announce(&state, &actor, giving, &[app], &to);
    Ok((StatusCode::CREATED, headers, Json(shown(&state, &transfer)?)))
}

/// How somebody may give apps away.
pub(crate) fn giving_of(actor: &Actor) -> Giving {
    if actor.account.administrator { Giving::AtOnce } else { Giving::Offered }
}

/// Says in the logs of apps to whom they were given, and to whoever gave them what has to be done next.
pub(crate) fn announce(state: &ApiState, actor: &Actor, giving: Giving, apps: &[App], to: &Account) -> HeaderMap {
    let what = match giving {
        Giving::AtOnce => "Transfer",
        Giving::Offered => "Offer",
    };
    for app in apps {
        state.log_api(app.id, &format!("{what} to {} by user {}", to.email, actor.account.email));
    }
    // Compat: Heroku's client says that an e-mail was sent.
    let no_mail = format!("No e-mail is sent: tell {} to accept", to.email);
    match (giving, apps) {
        (Giving::AtOnce, _) | (Giving::Offered, []) => HeaderMap::new(),
        (Giving::Offered, [app]) => warning(&format!(
            "{no_mail} with `berth apps:transfers:accept {name}`. Until then {name} stays yours, and \
             `berth apps:transfers:cancel {name}` takes the offer back.",
            name = app.name
        )),
        (Giving::Offered, apps) => warning(&format!(
            "{no_mail} each of the {} apps with `berth apps:transfers:accept`. Until then they stay yours: \
             `berth apps:transfers` lists them.",
            apps.len()
        )),
    }
}

/// What the recipient says: nobody says it for them.
pub(crate) async fn update(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
    Body(body): Body<heroku::AppTransferUpdate>,
) -> ApiResult<Json<heroku::AppTransfer>> {
    let transfer = find(&state, &actor, &wanted)?;
    if transfer.recipient != actor.id() {
        return Err(ApiError::forbidden("Only the recipient of a transfer can accept or decline it."));
    }
    let answer = Answer::parse(&body.state).ok_or_else(|| ApiError::invalid("State must be accepted or declined."))?;
    let answered = state.store.answer_app_transfer(&transfer, answer, state.now()).await?;
    let by = &actor.account.email;
    let told = match answer {
        Answer::Accept => format!("Transfer to {by} by user {by}"),
        Answer::Decline => format!("Offer to {by} declined by user {by}"),
    };
    state.log_api(transfer.app, &told);
    Ok(Json(shown(&state, &answered)?))
}

/// Takes an offer back. Its recipient declines it instead.
pub(crate) async fn remove(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<heroku::AppTransfer>> {
    let transfer = find(&state, &actor, &wanted)?;
    if transfer.sender != actor.id() && !actor.account.administrator {
        return Err(ApiError::forbidden(
            "Only the sender of a transfer can take it back: `berth apps:transfers:decline` declines it.",
        ));
    }
    let withdrawn = shown(&state, &transfer)?;
    state.store.withdraw_app_transfer(&transfer).await?;
    let by = &actor.account.email;
    state.log_api(transfer.app, &format!("Offer to {} taken back by user {by}", withdrawn.recipient.email));
    Ok(Json(withdrawn))
}

/// What somebody is told who has offers to answer and may not know.
pub(crate) fn notice(state: &ApiState, to: AccountId) -> ApiResult<HeaderMap> {
    let mut offers = state.store.app_transfers_of(to)?;
    offers.retain(|offer| offer.recipient == to && offer.state == TransferState::Pending);
    Ok(match offers.as_slice() {
        [] => HeaderMap::new(),
        [offer] => {
            let offer = shown(state, offer)?;
            warning(&format!(
                "{} offers you the app {name}: `berth apps:transfers:accept {name}` takes it, \
                 `berth apps:transfers:decline {name}` does not.",
                offer.owner.email,
                name = offer.app.name
            ))
        }
        offers => warning(&format!("{} apps are offered to you: `berth apps:transfers` lists them.", offers.len())),
    })
}

/// Finds a transfer that is the actor's business. Others do not exist.
fn find(state: &ApiState, actor: &Actor, wanted: &str) -> ApiResult<AppTransfer> {
    let found = state.store.find_app_transfer(wanted)?;
    let is_theirs = |transfer: &AppTransfer| {
        actor.account.administrator || [transfer.sender, transfer.recipient].contains(&actor.id())
    };
    let reason = "`berth apps:transfers` lists yours.";
    found.filter(is_theirs).ok_or_else(|| ApiError::not_found_because("app transfer", reason))
}

fn shown(state: &ApiState, transfer: &AppTransfer) -> ApiResult<heroku::AppTransfer> {
    let app: App = state.store.app(transfer.app)?.ok_or_else(|| ApiError::not_found("app"))?;
    Ok(heroku::AppTransfer {
        app: present::app_ref(&app),
        created_at: present::time(transfer.created_at),
        id: transfer.id.uuid(),
        owner: present::user(state, transfer.sender)?,
        recipient: present::user(state, transfer.recipient)?,
        state: transfer.state.as_str().to_owned(),
        updated_at: present::time(transfer.updated_at),
    })
}
