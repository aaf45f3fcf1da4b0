//! Accounts and their tokens, invitations among them. A token is stored as its hash: it is shown once, when it is made.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use domain::access::{INVITATION_PREFIX, Scope};
use domain::id::{AccountId, AppId, OauthClientId, TokenId};
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::row::{Micros, collect, first, optional_time, parsed, parsed_optional, time};
use crate::{Store, StoreError, app_transfer};

/// How the text of a token begins.
pub(crate) const TOKEN_PREFIX: &str = "berth-";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub email: String,
    /// May do everything.
    pub administrator: bool,
    /// Somebody who has left.
    pub removed_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// What is known of a token after it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub account: AccountId,
    pub description: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub scopes: Vec<Scope>,
    /// The one app that it is for.
    pub app: Option<AppId>,
    /// A login by browser, rather than a token that somebody made.
    pub session: bool,
    /// The program that it was given to.
    pub client: Option<OauthClientId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub account: AccountId,
    pub description: String,
    pub expires_at: Option<Timestamp>,
    pub scopes: Vec<Scope>,
    /// The one app that it is for.
    pub app: Option<AppId>,
    /// A login by browser.
    pub session: bool,
}

impl NewToken {
    pub(crate) fn prefix(&self) -> &'static str {
        if self.scopes.contains(&Scope::Invitation) { INVITATION_PREFIX } else { TOKEN_PREFIX }
    }

    pub(crate) fn into_token(self, now: Timestamp) -> Token {
        let Self { account, description, expires_at, scopes, app, session } = self;
        let id = TokenId::random();
        Token { id, account, description, created_at: now, expires_at, scopes, app, session, client: None }
    }
}

/// A token as it is now: the beginning of the hash of its text. With another text it is another one.
///
/// One that a program renews has a new text every few hours and is the same all the time: it is known by what it is
/// renewed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPrint(u128);

impl TokenPrint {
    fn of(hash: &[u8]) -> Self {
        Self(hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for TokenPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// An account that a token still speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub account: Account,
    /// When the token ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Whom a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    pub account: Account,
    pub token: TokenId,
    pub print: TokenPrint,
    pub scopes: Vec<Scope>,
    /// The one app that it is for.
    pub app: Option<AppId>,
}

impl Store {
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM account WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, account)
        })
    }

    /// The oldest administrator: the one that the first start made, usually.
    pub fn first_account(&self) -> Result<Option<Account>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM account WHERE administrator ORDER BY created_at LIMIT 1")?;
            first(statement.query([])?, account)
        })
    }

    pub fn find_account(&self, email_or_id: &str) -> Result<Option<Account>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM account WHERE email = ?1 OR id = ?1 LIMIT 1")?;
            first(statement.query([email_or_id])?, account)
        })
    }

    /// Everybody who has not left, oldest first.
    pub fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM account WHERE removed_at IS NULL ORDER BY created_at")?;
            collect(statement.query([])?, account)
        })
    }

    /// Makes the account of an administrator.
    pub async fn create_account(&self, email: String, now: Timestamp) -> Result<Account, StoreError> {
        self.invite_account(email, true, now).await
    }

    /// Makes an account, or gives the one of this address. Somebody who had left is back then.
    pub async fn invite_account(
        &self,
        email: String,
        administrator: bool,
        now: Timestamp,
    ) -> Result<Account, StoreError> {
        self.write(move |db| {
            db.execute(
                "INSERT INTO account (id, email, administrator, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (email) DO UPDATE SET removed_at = NULL,
                     administrator = CASE WHEN removed_at IS NULL THEN administrator ELSE excluded.administrator END",
                params![AccountId::random().to_string(), email, administrator, Micros(now)],
            )?;
            let mut statement = db.prepare_cached("SELECT * FROM account WHERE email = ?1")?;
            first(statement.query([email])?, account)?.ok_or(StoreError::NotFound("user"))
        })
        .await
    }

    /// Makes somebody an administrator, or takes it from them. One is always left.
    pub async fn set_administrator(&self, id: AccountId, administrator: bool) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE account SET administrator = ?2 WHERE id = ?1 AND removed_at IS NULL",
                params![id.to_string(), administrator],
            )?;
            refuse_without_administrator(db)
        })
        .await
    }

    /// Ends an account and its tokens. Its places in apps go with it, and what it offers or is offered.
    pub async fn remove_account(&self, id: AccountId, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE account SET removed_at = ?2, administrator = 0 WHERE id = ?1",
                params![id.to_string(), Micros(now)],
            )?;
            refuse_without_administrator(db)?;
            db.execute(
                "UPDATE token SET revoked_at = ?2 WHERE account_id = ?1 AND revoked_at IS NULL",
                params![id.to_string(), Micros(now)],
            )?;
            db.execute("DELETE FROM collaborator WHERE account_id = ?1", [id.to_string()])?;
            app_transfer::end_those_of(db, id)
        })
        .await
    }

    /// Makes a token and gives its text, which exists nowhere else from then on.
    pub async fn create_token(&self, new: NewToken, now: Timestamp) -> Result<(Token, Secret<String>), StoreError> {
        let text = random_token(new.prefix())?;
        let hash = token_hash(&text);
        let token = new.into_token(now);
        let row = token.clone();
        self.write(move |db| insert_token(db, &row, &hash)).await?;
        Ok((token, text))
    }

    /// Gives the account that a token stands for, unless the token is unknown, revoked or expired.
    pub fn authenticate(&self, token: &Secret<String>, now: Timestamp) -> Result<Option<Authenticated>, StoreError> {
        let hash = token_hash(token);
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT account.*, token.id AS token_id, token.scope AS scope, token.app_id AS app_id,
                        COALESCE(token.refresh_hash, token.hash) AS known_by
                 FROM token JOIN account ON account.id = token.account_id
                 WHERE token.hash = ?1 AND token.revoked_at IS NULL AND account.removed_at IS NULL
                   AND (token.expires_at IS NULL OR token.expires_at > ?2)",
            )?;
            first(statement.query(params![hash, Micros(now)])?, |row| {
                let token = parsed(row, "token_id", TokenId::parse)?;
                let (scopes, app) = scopes(row)?;
                let print = TokenPrint::of(&row.get::<_, Vec<u8>>("known_by")?);
                Ok(Authenticated { account: account(row)?, token, print, scopes, app })
            })
        })
    }

    /// The account, unless it has ended, or the token that spoke for it has: revoked, expired, or given another text.
    /// One that its program can renew does not expire. Without a token it was root on the machine that spoke.
    pub fn holder(
        &self,
        id: AccountId,
        print: Option<&TokenPrint>,
        now: Timestamp,
    ) -> Result<Option<Holder>, StoreError> {
        let Some(account) = self.account(id)?.filter(|account| account.removed_at.is_none()) else { return Ok(None) };
        let Some(print) = print else { return Ok(Some(Holder { account, expires_at: None })) };
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT CASE WHEN refresh_hash IS NULL THEN expires_at END AS ends_at FROM token
                 WHERE account_id = ?1 AND substr(COALESCE(refresh_hash, hash), 1, 16) = ?2 AND revoked_at IS NULL
                   AND (ends_at IS NULL OR ends_at > ?3)",
            )?;
            let named = params![id.to_string(), print.0.to_be_bytes(), Micros(now)];
            let expires_at = first(statement.query(named)?, |row| Ok(optional_time(row, "ends_at")?))?;
            Ok(expires_at.map(|expires_at| Holder { account, expires_at }))
        })
    }

    pub fn tokens(&self, account: AccountId) -> Result<Vec<Token>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM token WHERE account_id = ?1 AND revoked_at IS NULL ORDER BY created_at",
            )?;
            collect(statement.query([account.to_string()])?, |row| {
                let (scopes, app) = scopes(row)?;
                Ok(Token {
                    id: parsed(row, "id", TokenId::parse)?,
                    account,
                    description: row.get("description")?,
                    created_at: time(row, "created_at")?,
                    expires_at: optional_time(row, "expires_at")?,
                    scopes,
                    app,
                    session: row.get("session")?,
                    client: parsed_optional(row, "client_id", OauthClientId::parse)?,
                })
            })
        })
    }

    pub async fn describe_token(&self, account: AccountId, id: TokenId, description: String) -> Result<(), StoreError> {
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE token SET description = ?3 WHERE id = ?1 AND account_id = ?2 AND revoked_at IS NULL",
                params![id.to_string(), account.to_string(), description],
            )?;
            if changed == 0 { Err(StoreError::NotFound("authorization")) } else { Ok(()) }
        })
        .await
    }

    /// Gives a token a new text; the old one is worthless from then on.
    pub async fn regenerate_token(&self, account: AccountId, id: TokenId) -> Result<Secret<String>, StoreError> {
        let text = random_token(TOKEN_PREFIX)?;
        let hash = token_hash(&text);
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE token SET hash = ?3 WHERE id = ?1 AND account_id = ?2 AND revoked_at IS NULL",
                params![id.to_string(), account.to_string(), hash],
            )?;
            if changed == 0 { Err(StoreError::NotFound("authorization")) } else { Ok(()) }
        })
        .await?;
        Ok(text)
    }

    /// Revokes one token; `false` if there is none of that id in the account.
    pub async fn revoke_token(&self, account: AccountId, id: TokenId, now: Timestamp) -> Result<bool, StoreError> {
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE token SET revoked_at = ?3 WHERE id = ?1 AND account_id = ?2 AND revoked_at IS NULL",
                params![id.to_string(), account.to_string(), Micros(now)],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Revokes every token of an account, for `tokens:reset`.
    pub async fn revoke_all_tokens(&self, account: AccountId, now: Timestamp) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE token SET revoked_at = ?2 WHERE account_id = ?1 AND revoked_at IS NULL",
                params![account.to_string(), Micros(now)],
            )?;
            Ok(())
        })
        .await
    }
}

pub(crate) fn insert_token(db: &Connection, token: &Token, hash: &[u8]) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO token (id, account_id, hash, description, created_at, expires_at, scope, app_id, session, client_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            token.id.to_string(),
            token.account.to_string(),
            hash,
            token.description,
            Micros(token.created_at),
            token.expires_at.map(Micros),
            token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(","),
            token.app.map(|app| app.to_string()),
            token.session,
            token.client.map(|client| client.to_string())
        ],
    )?;
    Ok(())
}

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        id: parsed(row, "id", AccountId::parse)?,
        email: row.get("email")?,
        administrator: row.get("administrator")?,
        removed_at: optional_time(row, "removed_at")?,
        created_at: time(row, "created_at")?,
    })
}

/// A scope that does not fit is damage, never everything.
fn scopes(row: &Row<'_>) -> Result<(Vec<Scope>, Option<AppId>), StoreError> {
    let scopes: Vec<Scope> = parsed(row, "scope", |text| text.split(',').map(Scope::parse).collect())?;
    let app = parsed_optional(row, "app_id", AppId::parse)?;
    let fits = scopes.iter().all(|scope| scope.is_for_one_app() == app.is_some());
    if fits { Ok((scopes, app)) } else { Err(StoreError::Damaged("scope")) }
}

fn refuse_without_administrator(db: &Connection) -> Result<(), StoreError> {
    let any: bool =
        db.query_row("SELECT EXISTS (SELECT 1 FROM account WHERE administrator AND removed_at IS NULL)", [], |row| {
            row.get(0)
        })?;
    let last = || StoreError::Refused("They are the only administrator: make somebody else one first".to_owned());
    if any { Ok(()) } else { Err(last()) }
}

pub(crate) fn token_hash(token: &Secret<String>) -> Vec<u8> {
    digest(&SHA256, token.expose().as_bytes()).as_ref().to_vec()
}

/// 256 random bits, marked so that secret scanners and people recognise them.
pub(crate) fn random_token(prefix: &str) -> Result<Secret<String>, StoreError> {
    Ok(Secret::new(format!("{prefix}{}", random_hex()?)))
}

/// 256 random bits.
pub fn random_hex() -> Result<String, StoreError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_no_entropy| StoreError::Damaged("random source"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
