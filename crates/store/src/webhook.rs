//! Webhooks, the events that they are told of, and how each telling went.

use std::collections::HashSet;

use domain::id::{AppId, WebhookDeliveryId, WebhookEventId, WebhookId};
use domain::secret::Secret;
use domain::webhook::{DeliveryStatus, Entity, Level};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Row, Transaction, params};
use uuid::Uuid;

use crate::row::{Micros, collect, first, lines, optional_time, parsed, time};
use crate::sealed::MasterKey;
use crate::{Store, StoreError};

/// Webhooks of one app.
const WEBHOOKS_MAX: usize = 20;

/// Events are kept this long, and no more than so many of one app.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
const EVENTS_MAX: u32 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub id: WebhookId,
    pub app: AppId,
    pub url: Secret<String>,
    pub include: Vec<Entity>,
    pub level: Level,
    /// Signs what is sent.
    pub secret: Secret<String>,
    /// Sent as the header of this name.
    pub authorization: Option<Secret<String>>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Something that happened, ready to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEvent {
    pub sequence: u64,
    pub id: WebhookEventId,
    pub app: AppId,
    pub include: Entity,
    /// JSON.
    pub payload: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub app: AppId,
    pub include: Entity,
    pub payload: String,
    pub at: Timestamp,
}

/// One event on its way to one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDelivery {
    pub sequence: u64,
    pub id: WebhookDeliveryId,
    pub webhook: WebhookId,
    pub level: Level,
    pub event: WebhookEventId,
    pub include: Entity,
    pub status: DeliveryStatus,
    pub attempts: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub last_attempt: Option<Attempt>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub id: Uuid,
    pub at: Timestamp,
    /// Of the answer, if there was one.
    pub code: Option<u16>,
    pub error: Option<String>,
}

impl Store {
    /// The webhooks of an app, oldest first.
    pub fn webhooks(&self, app: AppId) -> Result<Vec<Webhook>, StoreError> {
        self.read(|db| of_app(db, &self.key, app))
    }

    pub fn webhook(&self, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM webhook WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, |row| webhook(row, &self.key))
        })
    }

    pub async fn add_webhook(&self, new: Webhook) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            if of_app(db, &key, new.app)?.len() >= WEBHOOKS_MAX {
                return Err(StoreError::Refused(format!("An app can have {WEBHOOKS_MAX} webhooks at most")));
            }
            put(db, &key, &new)
        })
        .await
    }

    /// Changes what is there: of two who do so at once, nobody undoes what the other one did, nor brings back what is gone.
    pub async fn change_webhook(
        &self,
        id: WebhookId,
        change: impl FnOnce(&mut Webhook) + Send + 'static,
        now: Timestamp,
    ) -> Result<Webhook, StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let mut statement = db.prepare_cached("SELECT * FROM webhook WHERE id = ?1")?;
            let found = first(statement.query([id.to_string()])?, |row| webhook(row, &key))?;
            let mut changed = found.ok_or(StoreError::NotFound("webhook"))?;
            change(&mut changed);
            changed.updated_at = now;
            put(db, &key, &changed)?;
            Ok(changed)
        })
        .await
    }

    pub async fn remove_webhook(&self, id: WebhookId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM webhook WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    /// Turns changes up to `sequence` into events, with a delivery for each webhook that wants them. Forgets what is
    /// too old to be asked for.
    pub async fn add_events(&self, events: Vec<NewEvent>, sequence: u64, now: Timestamp) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let apps: HashSet<AppId> = events.iter().map(|event| event.app).collect();
            for event in events {
                let wanted = of_app(db, &key, event.app)?;
                let wanted: Vec<Webhook> =
                    wanted.into_iter().filter(|webhook| webhook.include.contains(&event.include)).collect();
                if wanted.is_empty() {
                    continue;
                }
                let id = WebhookEventId::random().to_string();
                db.execute(
                    "INSERT INTO webhook_event (id, app_id, include, payload, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![id, event.app.to_string(), event.include.as_str(), event.payload, Micros(event.at)],
                )?;
                for webhook in wanted {
                    db.execute(
                        "INSERT INTO webhook_delivery (id, webhook_id, event_id, status, next_attempt_at, updated_at)
                         VALUES (?1, ?2, ?3, 'pending', ?4, ?4)",
                        params![WebhookDeliveryId::random().to_string(), webhook.id.to_string(), id, Micros(now)],
                    )?;
                }
            }
            let told = i64::try_from(sequence).map_err(|_range| StoreError::Damaged("sequence"))?;
            db.execute("DELETE FROM change WHERE sequence <= ?1", [told])?;
            let oldest = now.checked_sub(EVENTS_KEPT).unwrap_or(Timestamp::UNIX_EPOCH);
            db.execute("DELETE FROM webhook_event WHERE created_at < ?1", [Micros(oldest)])?;
            for app in apps {
                db.execute(
                    "DELETE FROM webhook_event WHERE app_id = ?1 AND sequence <= (
                         SELECT sequence FROM webhook_event WHERE app_id = ?1
                         ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
                    params![app.to_string(), EVENTS_MAX],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Removes the webhooks of apps that are gone, once the end of the app was told.
    pub async fn forget_webhooks_of_gone_apps(&self) -> Result<(), StoreError> {
        let gone = "app_id NOT IN (SELECT id FROM app)
                    AND id NOT IN (SELECT webhook_id FROM webhook_delivery WHERE next_attempt_at IS NOT NULL)
                    AND app_id NOT IN (SELECT app_id FROM change)";
        let any: bool = self.read(|db| {
            Ok(db.query_row(&format!("SELECT EXISTS (SELECT 1 FROM webhook WHERE {gone})"), [], |row| row.get(0))?)
        })?;
        if !any {
            return Ok(());
        }
        self.write(move |db| {
            db.execute(&format!("DELETE FROM webhook WHERE {gone}"), [])?;
            db.execute("DELETE FROM webhook_event WHERE app_id NOT IN (SELECT id FROM app)", [])?;
            Ok(())
        })
        .await
    }

    /// The events of an app, oldest first.
    pub fn webhook_events(&self, app: AppId) -> Result<Vec<WebhookEvent>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM webhook_event WHERE app_id = ?1 ORDER BY sequence")?;
            collect(statement.query([app.to_string()])?, event)
        })
    }

    pub fn webhook_event(&self, id: WebhookEventId) -> Result<Option<WebhookEvent>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM webhook_event WHERE id = ?1")?;
            first(statement.query([id.to_string()])?, event)
        })
    }

    /// The deliveries of an app's events, oldest first.
    pub fn webhook_deliveries(&self, app: AppId) -> Result<Vec<WebhookDelivery>, StoreError> {
        self.deliveries("event.app_id = ?1 ORDER BY delivery.sequence", app.to_string())
    }

    /// Deliveries that wait for an attempt, whenever that may be, oldest first.
    pub fn open_deliveries(&self) -> Result<Vec<WebhookDelivery>, StoreError> {
        // The parameter is for the shape of the query alone.
        self.deliveries("delivery.next_attempt_at IS NOT NULL AND ?1 = '' ORDER BY delivery.sequence", String::new())
    }

    fn deliveries(&self, which: &str, parameter: String) -> Result<Vec<WebhookDelivery>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT delivery.*, event.include AS include, event.created_at AS created_at, webhook.level AS level
                 FROM webhook_delivery AS delivery
                 JOIN webhook_event AS event ON event.id = delivery.event_id
                 JOIN webhook ON webhook.id = delivery.webhook_id
                 WHERE {which}"
            ))?;
            collect(statement.query([parameter])?, delivery)
        })
    }

    /// Writes down how an attempt went, and when the next one is.
    pub async fn record_attempt(
        &self,
        id: WebhookDeliveryId,
        attempt: Attempt,
        status: DeliveryStatus,
        next_attempt_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute(
                "UPDATE webhook_delivery SET status = ?2, attempts = attempts + 1, next_attempt_at = ?3,
                     attempt_id = ?4, attempt_at = ?5, attempt_code = ?6, attempt_error = ?7, updated_at = ?5
                 WHERE id = ?1",
                params![
                    id.to_string(),
                    status.as_str(),
                    next_attempt_at.map(Micros),
                    attempt.id.to_string(),
                    Micros(attempt.at),
                    attempt.code,
                    attempt.error
                ],
            )?;
            Ok(())
        })
        .await
    }
}

fn put(db: &Transaction<'_>, key: &MasterKey, webhook: &Webhook) -> Result<(), StoreError> {
    let include: Vec<&str> = webhook.include.iter().map(|entity| entity.as_str()).collect();
    let authorization = webhook.authorization.as_ref().map(|text| key.seal(text.expose().as_bytes())).transpose()?;
    db.execute(
        "INSERT INTO webhook (id, app_id, url_sealed, include, level, secret_sealed, authorization_sealed,
                              created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET url_sealed = excluded.url_sealed, include = excluded.include,
             level = excluded.level, secret_sealed = excluded.secret_sealed,
             authorization_sealed = excluded.authorization_sealed, updated_at = excluded.updated_at",
        params![
            webhook.id.to_string(),
            webhook.app.to_string(),
            key.seal(webhook.url.expose().as_bytes())?,
            include.join("\n"),
            webhook.level.as_str(),
            key.seal(webhook.secret.expose().as_bytes())?,
            authorization,
            Micros(webhook.created_at),
            Micros(webhook.updated_at)
        ],
    )?;
    Ok(())
}

fn of_app(db: &Connection, key: &MasterKey, app: AppId) -> Result<Vec<Webhook>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM webhook WHERE app_id = ?1 ORDER BY created_at")?;
    collect(statement.query([app.to_string()])?, |row| webhook(row, key))
}

fn webhook(row: &Row<'_>, key: &MasterKey) -> Result<Webhook, StoreError> {
    let open = |column: &'static str, sealed: &[u8]| {
        String::from_utf8(key.open(sealed)?).map(Secret::new).map_err(|_not_text| StoreError::Damaged(column))
    };
    let authorization: Option<Vec<u8>> = row.get("authorization_sealed")?;
    let include = lines(&row.get::<_, String>("include")?);
    let include: Option<Vec<Entity>> = include.iter().map(|word| Entity::parse(word)).collect();
    Ok(Webhook {
        id: parsed(row, "id", WebhookId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        url: open("url_sealed", &row.get::<_, Vec<u8>>("url_sealed")?)?,
        include: include.ok_or(StoreError::Damaged("include"))?,
        level: parsed(row, "level", Level::parse)?,
        secret: open("secret_sealed", &row.get::<_, Vec<u8>>("secret_sealed")?)?,
        authorization: authorization.map(|sealed| open("authorization_sealed", &sealed)).transpose()?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn event(row: &Row<'_>) -> Result<WebhookEvent, StoreError> {
    Ok(WebhookEvent {
        sequence: sequence(row)?,
        id: parsed(row, "id", WebhookEventId::parse)?,
        app: parsed(row, "app_id", AppId::parse)?,
        include: parsed(row, "include", Entity::parse)?,
        payload: row.get("payload")?,
        created_at: time(row, "created_at")?,
    })
}

fn delivery(row: &Row<'_>) -> Result<WebhookDelivery, StoreError> {
    let attempt_id: Option<String> = row.get("attempt_id")?;
    let last_attempt = match attempt_id {
        None => None,
        Some(id) => Some(Attempt {
            id: Uuid::try_parse(&id).map_err(|_no_id| StoreError::Damaged("attempt_id"))?,
            at: time(row, "attempt_at")?,
            code: row.get("attempt_code")?,
            error: row.get("attempt_error")?,
        }),
    };
    Ok(WebhookDelivery {
        sequence: sequence(row)?,
        id: parsed(row, "id", WebhookDeliveryId::parse)?,
        webhook: parsed(row, "webhook_id", WebhookId::parse)?,
        level: parsed(row, "level", Level::parse)?,
        event: parsed(row, "event_id", WebhookEventId::parse)?,
        include: parsed(row, "include", Entity::parse)?,
        status: parsed(row, "status", DeliveryStatus::parse)?,
        attempts: row.get("attempts")?,
        next_attempt_at: optional_time(row, "next_attempt_at")?,
        last_attempt,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn sequence(row: &Row<'_>) -> Result<u64, StoreError> {
    let sequence: i64 = row.get("sequence")?;
    u64::try_from(sequence).map_err(|_negative| StoreError::Damaged("sequence"))
}
