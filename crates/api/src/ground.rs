//! What sessions rest on that go on for long: attached one-offs, visits to dynos, log tails.
//!
//! A request is judged when it comes ([`auth`](crate::auth)). A session goes on for hours after that, and must not
//! outlive what it was let in for: the token that spoke, its account, the account's permission with the app. Where a
//! program renews its token meanwhile, that is the authorization behind it. This is the one place that looks, when a
//! session begins and as long as it lasts.

use std::fmt;
use std::future::pending;
use std::time::Duration;

use domain::access::Permission;
use domain::id::{AccountId, AppId};
use jiff::Timestamp;
use store::account::{self, Account, TokenPrint};
use tokio::time::sleep;
use uuid::Uuid;

use crate::auth::Actor;
use crate::error::{ApiError, ApiResult};
use crate::state::ApiState;

/// What somebody is told whose session ends before they end it.
pub(crate) const LOST: &str =
    "This session is over: the token that it was opened with has ended, or you may no longer do this with the app.";

/// How soon after a change somebody looks again, at least and at most. Whoever writes a lot is not looked after each time,
/// and hundreds of sessions do not all look at once.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const LOOK_SPREAD_MS: u64 = 1000;

/// Who was let in, and by which token. Without one it was root on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    account: AccountId,
    token: Option<TokenPrint>,
}

impl Holder {
    pub(crate) const fn of(actor: &Actor) -> Self {
        Self { account: actor.account.id, token: actor.print }
    }

    pub(crate) const fn account(self) -> AccountId {
        self.account
    }

    /// Reads what `Display` writes: it stands in URLs that we have signed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (account, token) = text.split_once('~')?;
        let token = match token {
            ROOT => None,
            print => Some(TokenPrint::parse(print)?),
        };
        Some(Self { account: AccountId::parse(account)?, token })
    }

    /// The account, if it and the token are still good.
    pub(crate) fn check(self, state: &ApiState) -> ApiResult<Account> {
        self.look(state).map(|found| found.account)
    }

    fn look(self, state: &ApiState) -> ApiResult<account::Holder> {
        state.store.holder(self.account, self.token.as_ref(), state.now())?.ok_or_else(ApiError::unauthorized)
    }
}

const ROOT: &str = "root";

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.token {
            Some(print) => write!(f, "{}~{print}", self.account),
            None => write!(f, "{}~{ROOT}", self.account),
        }
    }
}

/// A holder, and what they need with an app for a session to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ground {
    pub(crate) holder: Holder,
    pub(crate) app: AppId,
    pub(crate) permission: Permission,
}

impl Ground {
    pub(crate) const fn of(actor: &Actor, app: AppId, permission: Permission) -> Self {
        Self { holder: Holder::of(actor), app, permission }
    }

    /// Refuses who may no longer.
    pub(crate) fn check(&self, state: &ApiState) -> ApiResult<()> {
        self.look(state).map(|_until| ())
    }

    /// Until when it stands by itself.
    fn look(&self, state: &ApiState) -> ApiResult<Option<Timestamp>> {
        let account::Holder { account, expires_at } = self.holder.look(state)?;
        let app = state.store.app(self.app)?.filter(|app| app.destroyed_at.is_none());
        let app = app.ok_or_else(|| ApiError::not_found("app"))?;
        let may = account.administrator || state.store.permissions(account.id, &app)?.contains(self.permission);
        if may { Ok(expires_at) } else { Err(ApiError::unauthorized()) }
    }

    /// Over when it stands no more.
    pub(crate) async fn lost(&self, state: &ApiState) {
        let spread_ms = u64::from(Uuid::new_v4().as_fields().1) % LOOK_SPREAD_MS;
        let mut changes = state.store.changes();
        loop {
            changes.mark_unchanged();
            let until = match self.look(state) {
                Ok(until) => until,
                // Nobody knows. Who was let in stays until somebody does.
                Err(error) if error.status.is_server_error() => None,
                Err(_lost) => return,
            };
            let expired = async {
                match until {
                    Some(until) => {
                        let left = Duration::try_from(until.duration_since(state.now()));
                        sleep(left.unwrap_or_default()).await;
                    }
                    None => pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = expired => continue,
            }
            sleep(LOOK_PAUSE + Duration::from_millis(spread_ms)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_read_back_from_a_url() {
        let account = AccountId::random();
        for token in [None, TokenPrint::parse("0a1b2c3d")] {
            let holder = Holder { account, token };
            assert_eq!(Holder::parse(&holder.to_string()), Some(holder));
        }
        for wrong in ["", "~", "root", &format!("{account}"), &format!("{account}~"), "x~root"] {
            assert_eq!(Holder::parse(wrong), None, "{wrong}");
        }
    }
}
