//! Programs of others, and the tokens that accounts gave them.

use domain::id::{AccountId, OauthClientId, TokenId};
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{Row, params};

use crate::account::{NewToken, Token, insert_token, random_hex, random_token, token_hash};
use crate::row::{Micros, collect, first, parsed, time};
use crate::{Store, StoreError};

/// Programs of one account.
const CLIENTS_MAX: u32 = 100;

/// How the text of what renews a token begins.
const REFRESH_PREFIX: &str = "berth-refresh-";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthClient {
    pub id: OauthClientId,
    pub account: AccountId,
    pub name: String,
    pub redirect_uri: String,
    pub secret: Secret<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What an update changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OauthClientChange {
    pub name: Option<String>,
    pub redirect_uri: Option<String>,
    pub new_secret: bool,
}

/// What a program gets: a token, and what it renews it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    pub token: Token,
    pub text: Secret<String>,
    pub refresh: Secret<String>,
}

impl Store {
    pub fn oauth_clients(&self, account: AccountId) -> Result<Vec<OauthClient>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM oauth_client WHERE account_id = ?1 ORDER BY created_at")?;
            collect(statement.query([account.to_string()])?, |row| self.oauth_client_of(row))
        })
    }

    /// Whoever's it is.
    pub fn oauth_client(&self, id: OauthClientId) -> Result<Option<OauthClient>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM oauth_client WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, |row| self.oauth_client_of(row))
        })
    }

    pub async fn create_oauth_client(
        &self,
        account: AccountId,
        name: String,
        redirect_uri: String,
        now: Timestamp,
    ) -> Result<OauthClient, StoreError> {
        let secret = Secret::new(random_hex()?);
        let sealed = self.key.seal(secret.expose().as_bytes())?;
        let id = OauthClientId::random();
        let made = OauthClient { id, account, name, redirect_uri, secret, created_at: now, updated_at: now };
        let row = made.clone();
        self.write(move |db| {
            let of_account = [row.account.to_string()];
            let count: u32 =
                db.query_row("SELECT count(*) FROM oauth_client WHERE account_id = ?1", of_account, |row| row.get(0))?;
            if count >= CLIENTS_MAX {
                return Err(StoreError::Refused(format!("An account can have {CLIENTS_MAX} OAuth clients at most")));
            }
            db.execute(
                "INSERT INTO oauth_client (id, account_id, name, redirect_uri, secret_sealed, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![
                    row.id.to_string(),
                    row.account.to_string(),
                    row.name,
                    row.redirect_uri,
                    sealed,
                    Micros(row.created_at)
                ],
            )?;
            Ok(())
        })
        .await?;
        Ok(made)
    }

    pub async fn update_oauth_client(
        &self,
        id: OauthClientId,
        change: OauthClientChange,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = if change.new_secret { Some(self.key.seal(random_hex()?.as_bytes())?) } else { None };
        self.write(move |db| {
            let changed = db.execute(
                "UPDATE oauth_client SET name = COALESCE(?2, name), redirect_uri = COALESCE(?3, redirect_uri),
                     secret_sealed = COALESCE(?4, secret_sealed), updated_at = ?5
                 WHERE id = ?1",
                params![id.to_string(), change.name, change.redirect_uri, sealed, Micros(now)],
            )?;
            if changed == 0 { Err(StoreError::NotFound("client")) } else { Ok(()) }
        })
        .await
    }

    /// Ends a program. The tokens that it was given end with it.
    pub async fn remove_oauth_client(&self, id: OauthClientId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM oauth_client WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Gives a program a token.
    pub async fn grant_token(
        &self,
        client: OauthClientId,
        id: TokenId,
        new: NewToken,
        now: Timestamp,
    ) -> Result<Granted, StoreError> {
        let (text, refresh) = (random_token(new.prefix())?, random_token(REFRESH_PREFIX)?);
        let (hash, refresh_hash) = (token_hash(&text), token_hash(&refresh));
        let token = Token { id, client: Some(client), ..new.into_token(now) };
        let row = token.clone();
        self.write(move |db| {
            insert_token(db, &row, &hash)?;
            db.execute("UPDATE token SET refresh_hash = ?2 WHERE id = ?1", params![row.id.to_string(), refresh_hash])?;
            Ok(())
        })
        .await?;
        Ok(Granted { token, text, refresh })
    }

    /// The program whose token this renews.
    pub fn renewable_by(&self, refresh: &Secret<String>) -> Result<Option<OauthClientId>, StoreError> {
        let hash = token_hash(refresh);
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT client_id FROM token WHERE refresh_hash = ?1")?;
            first(statement.query([hash])?, |row| parsed(row, "client_id", OauthClientId::parse))
        })
    }

    /// Gives the token that `refresh` belongs to a new text, good until then. `None` if it is not the program's, was
    /// revoked, or is of an account that has left.
    pub async fn renew_token(
        &self,
        client: OauthClientId,
        refresh: &Secret<String>,
        until: Timestamp,
    ) -> Result<Option<(TokenId, AccountId, Secret<String>)>, StoreError> {
        let text = random_token(crate::account::TOKEN_PREFIX)?;
        let (hash, refresh_hash) = (token_hash(&text), token_hash(refresh));
        let renewed = self
            .write(move |db| {
                let mut statement = db.prepare_cached(
                    "UPDATE token SET hash = ?3, expires_at = ?4
                     WHERE refresh_hash = ?1 AND client_id = ?2 AND revoked_at IS NULL
                       AND account_id IN (SELECT id FROM account WHERE removed_at IS NULL)
                     RETURNING id, account_id",
                )?;
                first(statement.query(params![refresh_hash, client.to_string(), hash, Micros(until)])?, |row| {
                    Ok((parsed(row, "id", TokenId::parse)?, parsed(row, "account_id", AccountId::parse)?))
                })
            })
            .await?;
        Ok(renewed.map(|(token, account)| (token, account, text)))
    }

    fn oauth_client_of(&self, row: &Row<'_>) -> Result<OauthClient, StoreError> {
        Ok(OauthClient {
            id: parsed(row, "id", OauthClientId::parse)?,
            account: parsed(row, "account_id", AccountId::parse)?,
            name: row.get("name")?,
            redirect_uri: row.get("redirect_uri")?,
            secret: self.key.open_text(&row.get::<_, Vec<u8>>("secret_sealed")?)?,
            created_at: time(row, "created_at")?,
            updated_at: time(row, "updated_at")?,
        })
    }
}
