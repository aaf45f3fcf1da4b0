//! Accounts and their tokens. A token is stored as its hash: it is shown once, when it is made.

use domain::id::{AccountId, TokenId};
use domain::secret::Secret;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Row, params};

use crate::row::{Micros, collect, first, optional_time, parsed, time};
use crate::{Store, StoreError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: AccountId,
    pub email: String,
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
}

/// Whom a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    pub account: Account,
    pub token: TokenId,
}

impl Store {
    pub fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM account WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, account)
        })
    }

    /// The oldest account: the administrator that the first start made.
    pub fn first_account(&self) -> Result<Option<Account>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM account ORDER BY created_at LIMIT 1")?;
            first(statement.query([])?, account)
        })
    }

    pub fn find_account(&self, email_or_id: &str) -> Result<Option<Account>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM account WHERE email = ?1 OR id = ?1 LIMIT 1")?;
            first(statement.query([email_or_id])?, account)
        })
    }

    pub async fn create_account(&self, email: String, now: Timestamp) -> Result<Account, StoreError> {
        let account = Account { id: AccountId::random(), email, created_at: now };
        let row = account.clone();
        self.write(move |db| {
            db.execute(
                "INSERT INTO account (id, email, created_at) VALUES (?1, ?2, ?3)",
                params![row.id.to_string(), row.email, Micros(row.created_at)],
            )?;
            Ok(())
        })
        .await?;
        Ok(account)
    }

    /// Makes a token and gives its text, which exists nowhere else from then on.
    pub async fn create_token(
        &self,
        account: AccountId,
        description: String,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(Token, Secret<String>), StoreError> {
        let text = random_token()?;
        let hash = token_hash(&text);
        let token = Token { id: TokenId::random(), account, description, created_at: now, expires_at };
        let row = token.clone();
        self.write(move |db| {
            db.execute(
                "INSERT INTO token (id, account_id, hash, description, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    row.id.to_string(),
                    row.account.to_string(),
                    hash,
                    row.description,
                    Micros(row.created_at),
                    row.expires_at.map(Micros)
                ],
            )?;
            Ok(())
        })
        .await?;
        Ok((token, text))
    }

    /// Gives the account that a token stands for, unless the token is unknown, revoked or expired.
    pub fn authenticate(&self, token: &Secret<String>, now: Timestamp) -> Result<Option<Authenticated>, StoreError> {
        let hash = token_hash(token);
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT account.*, token.id AS token_id FROM token JOIN account ON account.id = token.account_id
                 WHERE token.hash = ?1 AND token.revoked_at IS NULL
                   AND (token.expires_at IS NULL OR token.expires_at > ?2)",
            )?;
            first(statement.query(params![hash, Micros(now)])?, |row| {
                Ok(Authenticated { account: account(row)?, token: parsed(row, "token_id", TokenId::parse)? })
            })
        })
    }

    pub fn tokens(&self, account: AccountId) -> Result<Vec<Token>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM token WHERE account_id = ?1 AND revoked_at IS NULL ORDER BY created_at",
            )?;
            collect(statement.query([account.to_string()])?, |row| {
                Ok(Token {
                    id: parsed(row, "id", TokenId::parse)?,
                    account,
                    description: row.get("description")?,
                    created_at: time(row, "created_at")?,
                    expires_at: optional_time(row, "expires_at")?,
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
        let text = random_token()?;
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

fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        id: parsed(row, "id", AccountId::parse)?,
        email: row.get("email")?,
        created_at: time(row, "created_at")?,
    })
}

fn token_hash(token: &Secret<String>) -> Vec<u8> {
    digest(&SHA256, token.expose().as_bytes()).as_ref().to_vec()
}

/// 256 random bits, marked so that secret scanners and people recognise them.
fn random_token() -> Result<Secret<String>, StoreError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_no_entropy| StoreError::Damaged("random source"))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(format!("berth-{hex}")))
}
