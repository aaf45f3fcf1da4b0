//! Where messages about an app go, and the messages that are on their way.

use domain::id::{AppId, NotificationId};
use domain::secret::Secret;
use jiff::Timestamp;
use rusqlite::{Row, Transaction, params};

use crate::event::NewEvent;
use crate::row::{Micros, collect, lines, parsed, time};
use crate::{Store, StoreError, account};

/// Autoscaling wanted more dynos and has as many as there may be.
pub const SCALING_MAXIMUM: &str = "scaling.maximum";

/// Kinds of events that messages can be about.
pub const KINDS: [&str; 10] = [
    "deploy",
    "failure",
    "promotion",
    "rollback",
    "config",
    "scaling",
    SCALING_MAXIMUM,
    "crash",
    "cron.failed",
    "cron.missed",
];

/// Notifications of one app.
const NOTIFICATIONS_MAX: u32 = 20;

/// Messages of one notification that are remembered.
const DELIVERIES_KEPT: i64 = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{"text": …}`, which Slack, Mattermost, Discord (`/slack`) and others read.
    Slack,
    /// Everything about the event, signed.
    Webhook,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Webhook => "webhook",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Slack, Self::Webhook].into_iter().find(|format| format.as_str() == text)
    }
}

#[derive(Debug, Clone)]
pub struct Notification {
    pub id: NotificationId,
    pub app: AppId,
    pub format: Format,
    pub url: Secret<String>,
    pub secret: Secret<String>,
    /// Kinds of events.
    pub events: Vec<String>,
    pub created_at: Timestamp,
}

/// How the messages of a notification fare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    pub delivered: u32,
    pub pending: u32,
    pub given_up: u32,
    pub last_error: Option<String>,
}

/// A message that is to be sent now.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub notification: NotificationId,
    pub sequence: i64,
    pub app_name: String,
    pub at: Timestamp,
    pub kind: String,
    pub subject: String,
    pub text: String,
    /// That were made before.
    pub attempts: u32,
    pub format: Format,
    pub url: Secret<String>,
    pub secret: Secret<String>,
}

/// What an attempt to send came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// Try again at this time.
    Retry {
        at: Timestamp,
        error: String,
    },
    GivenUp {
        error: String,
    },
}

impl Store {
    pub fn notifications(&self, app: AppId) -> Result<Vec<Notification>, StoreError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM notification WHERE app_id = ?1 ORDER BY created_at")?;
            collect(statement.query([app.to_string()])?, |row| self.notification(row))
        })
    }

    pub async fn add_notification(&self, new: Notification) -> Result<(), StoreError> {
        let key = self.key.clone();
        self.write(move |db| {
            let count: u32 =
                db.query_row("SELECT COUNT(*) FROM notification WHERE app_id = ?1", [new.app.to_string()], |row| {
                    row.get(0)
                })?;
            if count >= NOTIFICATIONS_MAX {
                return Err(StoreError::Refused(format!("An app can have {NOTIFICATIONS_MAX} notifications at most.")));
            }
            db.execute(
                "INSERT INTO notification (id, app_id, format, url_sealed, secret_sealed, events, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    new.id.to_string(),
                    new.app.to_string(),
                    new.format.as_str(),
                    key.seal(new.url.expose().as_bytes())?,
                    key.seal(new.secret.expose().as_bytes())?,
                    new.events.join("\n"),
                    Micros(new.created_at)
                ],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn remove_notification(&self, id: NotificationId) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("DELETE FROM notification WHERE id = ?1", [id.to_string()])?;
            Ok(())
        })
        .await
    }

    pub fn delivery_counts(&self, id: NotificationId) -> Result<DeliveryCounts, StoreError> {
        self.read(|db| {
            let mut counts = DeliveryCounts::default();
            let mut statement = db.prepare_cached(
                "SELECT state, COUNT(*) AS count FROM notification_delivery WHERE notification_id = ?1 GROUP BY state",
            )?;
            let pairs = collect(statement.query([id.to_string()])?, |row| {
                Ok((row.get::<_, String>("state")?, row.get::<_, u32>("count")?))
            })?;
            for (state, count) in pairs {
                match state.as_str() {
                    "delivered" => counts.delivered = count,
                    "given_up" => counts.given_up = count,
                    _pending => counts.pending = count,
                }
            }
            let mut statement = db.prepare_cached(
                "SELECT error FROM notification_delivery WHERE notification_id = ?1 AND error IS NOT NULL
                 ORDER BY event_sequence DESC LIMIT 1",
            )?;
            counts.last_error = collect(statement.query([id.to_string()])?, |row| Ok(row.get(0)?))?.pop();
            Ok(counts)
        })
    }

    /// Messages whose time has come, oldest first.
    pub fn due_deliveries(&self, now: Timestamp, deliveries_max: u32) -> Result<Vec<Delivery>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT notification.*, app.name AS app_name, d.event_sequence, d.at, d.kind, d.subject, d.text,
                        d.attempts
                 FROM notification_delivery AS d
                 JOIN notification ON notification.id = d.notification_id
                 JOIN app ON app.id = notification.app_id
                 WHERE d.state = 'pending' AND d.next_at <= ?1 ORDER BY d.event_sequence LIMIT ?2",
            )?;
            collect(statement.query(params![Micros(now), deliveries_max])?, |row| {
                let notification = self.notification(row)?;
                Ok(Delivery {
                    notification: notification.id,
                    sequence: row.get("event_sequence")?,
                    app_name: row.get("app_name")?,
                    at: time(row, "at")?,
                    kind: row.get("kind")?,
                    subject: row.get("subject")?,
                    text: row.get("text")?,
                    attempts: row.get("attempts")?,
                    format: notification.format,
                    url: notification.url,
                    secret: notification.secret,
                })
            })
        })
    }

    pub async fn record_delivery(
        &self,
        notification: NotificationId,
        sequence: i64,
        attempt: Attempt,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let (state, next_at, error) = match attempt {
                Attempt::Delivered => ("delivered", None, None),
                Attempt::Retry { at, error } => ("pending", Some(at), Some(error)),
                Attempt::GivenUp { error } => ("given_up", None, Some(error)),
            };
            db.execute(
                "UPDATE notification_delivery SET state = ?3, attempts = attempts + 1, error = ?5,
                        next_at = COALESCE(?4, next_at) WHERE notification_id = ?1 AND event_sequence = ?2",
                params![notification.to_string(), sequence, state, next_at.map(Micros), error],
            )?;
            db.execute(
                "DELETE FROM notification_delivery WHERE notification_id = ?1 AND state <> 'pending'
                 AND event_sequence <= (SELECT event_sequence FROM notification_delivery WHERE notification_id = ?1
                                        ORDER BY event_sequence DESC LIMIT 1 OFFSET ?2)",
                params![notification.to_string(), DELIVERIES_KEPT],
            )?;
            Ok(())
        })
        .await
    }

    fn notification(&self, row: &Row<'_>) -> Result<Notification, StoreError> {
        let opened = |column: &str| -> Result<Secret<String>, StoreError> {
            let plain = self.key.open(&row.get::<_, Vec<u8>>(column)?)?;
            String::from_utf8(plain).map(Secret::new).map_err(|_not_text| StoreError::Damaged("notification"))
        };
        Ok(Notification {
            id: parsed(row, "id", NotificationId::parse)?,
            app: parsed(row, "app_id", AppId::parse)?,
            format: parsed(row, "format", Format::parse)?,
            url: opened("url_sealed")?,
            secret: opened("secret_sealed")?,
            events: lines(&row.get::<_, String>("events")?),
            created_at: time(row, "created_at")?,
        })
    }
}

/// Makes the messages of an event, in its transaction: none is lost, whatever happens to the server.
pub(crate) fn enqueue(db: &Transaction<'_>, event: &NewEvent, sequence: i64, now: Timestamp) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO notification_delivery (notification_id, event_sequence, at, kind, subject, text, next_at)
         SELECT id, ?2, ?3, ?4, ?5, ?6, ?3 FROM notification
         WHERE app_id = ?1 AND instr(char(10) || events || char(10), char(10) || ?4 || char(10)) > 0",
        params![event.app.to_string(), sequence, Micros(now), event.kind, event.subject, event.text],
    )?;
    Ok(())
}

/// A new key to sign messages with.
pub fn random_secret() -> Result<Secret<String>, StoreError> {
    account::random_hex().map(Secret::new)
}

#[cfg(test)]
mod tests;
