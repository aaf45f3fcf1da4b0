//! `GET /account`.

use axum::Json;
use wire::platform_api as heroku;

use crate::auth::Actor;
use crate::present;

/// Heroku's hourly budget. Requests are not limited yet; the answer says that the whole budget is left.
const RATE_LIMIT: u32 = 4500;

pub(crate) async fn info(actor: Actor) -> Json<heroku::Account> {
    Json(present::account(&actor.account))
}

pub(crate) async fn rate_limits() -> Json<heroku::RateLimit> {
    Json(heroku::RateLimit { remaining: RATE_LIMIT })
}
