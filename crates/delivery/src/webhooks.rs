//! Delivers events to webhooks: one attempt at a time for each webhook, several webhooks at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::delivery::Outcome;
use domain::display_chain::display_chain;
use domain::id::WebhookId;
use domain::outgoing_url::OutgoingUrl;
use domain::secret::Secret;
use domain::webhook::after_attempt;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::{SignedDuration, Timestamp};
use store::webhook::{Attempt, Webhook, WebhookDelivery, WebhookEvent};
use store::{Store, StoreError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{error, warn};
use uuid::Uuid;
use wire::platform_api::IdOnly;
use wire::platform_api::webhooks::{EventRef, Metadata, Notification};

use crate::DeliveryConfig;
use crate::connector::Connector;
use crate::post::Poster;
use crate::random::fraction;
use crate::roots::{RootsError, roots};
use crate::send_error::SendError;

/// At least this often, whatever happens.
const PERIOD: Duration = Duration::from_secs(60);

/// After an error of the store.
const PAUSE: Duration = Duration::from_secs(5);

/// Webhooks that are told at once.
const ATTEMPTS_AT_ONCE: usize = 32;

const USER_AGENT: HeaderValue = HeaderValue::from_static("Berth-Webhooks");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const SIGNATURE: HeaderName = HeaderName::from_static("heroku-webhook-hmac-sha256");

#[derive(Debug, Error)]
enum AttemptError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a notification cannot be written")]
    Write(#[from] serde_json::Error),
}

/// The running deliveries.
#[derive(Debug)]
pub struct Webhooks {
    task: JoinHandle<()>,
}

impl Webhooks {
    /// Starts to deliver until `stop` is true.
    pub fn start(config: &DeliveryConfig, store: Arc<Store>, stop: watch::Receiver<bool>) -> Result<Self, RootsError> {
        let connector = Connector::new(roots(config.authorities.as_deref())?, &config.allowed_networks);
        let courier = Courier { store, connector, busy: HashSet::new(), attempts: JoinSet::new() };
        Ok(Self { task: tokio::spawn(courier.run(stop)) })
    }

    /// Waits until the last one is over. An attempt that is under way is given up, and made again by the next server.
    pub async fn join(self) {
        if let Err(error) = self.task.await {
            error!(%error, "the webhooks ended early");
        }
    }
}

struct Courier {
    store: Arc<Store>,
    connector: Connector,
    /// Webhooks with an attempt under way.
    busy: HashSet<WebhookId>,
    attempts: JoinSet<WebhookId>,
}

impl Courier {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.store.changes();
        loop {
            changes.borrow_and_update();
            let pause = self.start_attempts(Timestamp::now()).unwrap_or_else(|error| {
                error!(error = display_chain(&error), "cannot read the deliveries of webhooks");
                PAUSE
            });
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                Some(ended) = self.attempts.join_next() => {
                    if let Ok(webhook) = ended {
                        self.busy.remove(&webhook);
                    }
                }
                () = sleep(pause) => {}
                _stopped = stop.wait_for(|&stop| stop) => return,
            }
        }
    }

    /// Starts what is due, and gives in how long something else will be.
    fn start_attempts(&mut self, now: Timestamp) -> Result<Duration, StoreError> {
        let mut pause = PERIOD;
        for delivery in self.store.open_deliveries()? {
            let due = delivery.next_attempt_at.unwrap_or(now);
            if due > now {
                pause = pause.min(due.duration_since(now).unsigned_abs());
            } else if self.attempts.len() < ATTEMPTS_AT_ONCE && self.busy.insert(delivery.webhook) {
                let (store, connector) = (Arc::clone(&self.store), self.connector.clone());
                self.attempts.spawn(async move {
                    if let Err(error) = attempt(&store, connector, &delivery).await {
                        warn!(delivery.id = %delivery.id, error = display_chain(&error), "cannot tell a webhook");
                        sleep(PAUSE).await;
                    }
                    delivery.webhook
                });
            }
        }
        Ok(pause)
    }
}

async fn attempt(store: &Store, connector: Connector, delivery: &WebhookDelivery) -> Result<(), AttemptError> {
    let (Some(webhook), Some(event)) = (store.webhook(delivery.webhook)?, store.webhook_event(delivery.event)?) else {
        // Removed meanwhile, and the delivery with it.
        return Ok(());
    };
    let id = Uuid::new_v4();
    let body = serde_json::to_vec(&notification(delivery, &event, id)?)?;
    let sent = send(connector, &webhook, body).await;
    let (outcome, code, error) = match sent {
        Ok(code) if (200..300).contains(&code) => (Outcome::Answered(code), Some(code), None),
        Ok(code) => (Outcome::Answered(code), Some(code), Some("ReceiverError".to_owned())),
        Err(error) => {
            warn!(webhook.id = %webhook.id, error = display_chain(&error), "A webhook's receiver cannot be told");
            (Outcome::Unreachable, None, Some(error.class().to_owned()))
        }
    };
    let now = Timestamp::now();
    let (status, wait) = after_attempt(outcome, delivery.level, delivery.attempts + 1, fraction());
    let next = wait.and_then(|wait| now.checked_add(SignedDuration::try_from(wait).ok()?).ok());
    store.record_attempt(delivery.id, Attempt { id, at: now, code, error }, status, next).await?;
    Ok(())
}

fn notification(
    delivery: &WebhookDelivery,
    event: &WebhookEvent,
    attempt: Uuid,
) -> Result<Notification, serde_json::Error> {
    let at = event.created_at.to_string();
    Ok(Notification {
        payload: serde_json::from_str(&event.payload)?,
        created_at: at.clone(),
        id: event.id.uuid(),
        published_at: Timestamp::now().to_string(),
        sequence: None,
        updated_at: at,
        webhook_metadata: Metadata {
            attempt: IdOnly { id: attempt },
            delivery: IdOnly { id: delivery.id.uuid() },
            event: EventRef { id: event.id.uuid(), include: event.include.as_str().to_owned() },
            webhook: IdOnly { id: delivery.webhook.uuid() },
        },
    })
}

async fn send(connector: Connector, webhook: &Webhook, body: Vec<u8>) -> Result<u16, SendError> {
    let url = OutgoingUrl::parse_http(webhook.url.expose())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(SIGNATURE, HeaderValue::try_from(signature(&webhook.secret, &body)).map_err(http::Error::from)?);
    if let Some(authorization) = &webhook.authorization {
        let mut value = HeaderValue::try_from(authorization.expose().as_str()).map_err(http::Error::from)?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let status = Poster::new(connector).post(&url, headers, body.into()).await?;
    Ok(status.as_u16())
}

/// HMAC-SHA256 of the body, in base64.
fn signature(secret: &Secret<String>, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    STANDARD.encode(hmac::sign(&key, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_openssl_signs_it() {
        // printf '{"a":1}' | openssl dgst -sha256 -hmac s3cret -binary | base64
        let signed = signature(&Secret::new("s3cret".to_owned()), b"{\"a\":1}");
        assert_eq!(signed, "WRDmIBbvUDQnLJJsJwcZkqRlwjNc7PQYUb2gcVd/T20=");
    }
}
