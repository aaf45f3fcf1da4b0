//! Sends the messages that are on their way, until they have arrived or there is no hope.
//!
//! A message is sent at least once: a server that ends between the sending and the noting sends it again, with the
//! same id. An address that does not answer keeps others waiting as long as one attempt may take.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use domain::display_chain::display_chain;
use domain::outgoing_url::OutgoingUrl;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use store::notification::{Attempt, Delivery, Format};
use store::{Store, StoreError};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, error, warn};
use wire::platform_api::environments::EventMessage;

use crate::DeliveryConfig;
use crate::connector::Connector;
use crate::post::Poster;
use crate::roots::{RootsError, roots};
use crate::send_error::SendError;

/// Messages that are sent at the same time.
const SENT_AT_ONCE_MAX: u32 = 8;

/// The first pause; it doubles with each attempt.
const PAUSE_MIN: SignedDuration = SignedDuration::from_secs(5);
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(1);

/// With these pauses, about nine hours.
const ATTEMPTS_MAX: u32 = 18;

/// Retries come due although nothing changes.
const TICK: Duration = Duration::from_secs(1);

const USER_AGENT: HeaderValue = HeaderValue::from_static("Berth");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");
const EVENT: HeaderName = HeaderName::from_static("berth-event");
const DELIVERY: HeaderName = HeaderName::from_static("berth-delivery");
const SIGNATURE: HeaderName = HeaderName::from_static("berth-signature");

/// The running notifier.
#[derive(Debug)]
pub struct Notifier {
    task: JoinHandle<()>,
}

impl Notifier {
    /// Starts to send until `stop` is true.
    pub fn start(
        config: &DeliveryConfig,
        store: Arc<Store>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Self, RootsError> {
        let connector = Connector::new(roots(config.authorities.as_deref())?, &config.allowed_networks);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = run(&store, &connector) => {}
                _stopped = stop.wait_for(|&stop| stop) => {}
            }
        });
        Ok(Self { task })
    }

    /// Waits until it has ended. What it has not sent is sent by the next server.
    pub async fn join(self) {
        if let Err(error) = self.task.await {
            error!(%error, "the notifier ended early");
        }
    }
}

async fn run(store: &Store, connector: &Connector) {
    let mut changes = store.changes();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _now = tick.tick() => {}
        }
        changes.mark_unchanged();
        if let Err(error) = send_due(store, connector).await {
            warn!(error = display_chain(&error), "cannot send notifications");
            sleep(TICK).await;
        }
    }
}

async fn send_due(store: &Store, connector: &Connector) -> Result<(), StoreError> {
    let mut sending = JoinSet::new();
    for delivery in store.due_deliveries(Timestamp::now(), SENT_AT_ONCE_MAX)? {
        let connector = connector.clone();
        sending.spawn(async move {
            let sent = send(connector, &delivery).await;
            (delivery, sent)
        });
    }
    while let Some(sent) = sending.join_next().await {
        let Ok((delivery, sent)) = sent else { continue };
        let attempt = match sent {
            Ok(()) => Attempt::Delivered,
            Err(error) => after_failure(delivery.attempts, error, Timestamp::now()),
        };
        debug!(notification = %delivery.notification, event = delivery.sequence, ?attempt, "Sent a notification");
        store.record_delivery(delivery.notification, delivery.sequence, attempt).await?;
    }
    Ok(())
}

fn after_failure(attempts_before: u32, error: String, now: Timestamp) -> Attempt {
    if attempts_before + 1 >= ATTEMPTS_MAX {
        return Attempt::GivenUp { error };
    }
    let factor = 1_i32 << attempts_before.min(16);
    let pause = PAUSE_MIN.checked_mul(factor).map_or(PAUSE_MAX, |pause| pause.min(PAUSE_MAX));
    Attempt::Retry { at: now.checked_add(pause).unwrap_or(now), error }
}

/// The error is for people and never holds the address, whose path may be a secret.
async fn send(connector: Connector, delivery: &Delivery) -> Result<(), String> {
    let body = body(delivery).map_err(|error| error.to_string())?;
    let status = post(connector, delivery, body).await.map_err(|error| display_chain(&error).to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}

async fn post(connector: Connector, delivery: &Delivery, body: Vec<u8>) -> Result<StatusCode, SendError> {
    let url = OutgoingUrl::parse_http(delivery.url.expose())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(header::USER_AGENT, USER_AGENT);
    if delivery.format == Format::Webhook {
        let signature = format!("sha256={}", signature(delivery.secret.expose(), &body));
        for (name, text) in
            [(EVENT, delivery.kind.clone()), (DELIVERY, delivery.sequence.to_string()), (SIGNATURE, signature)]
        {
            headers.insert(name, HeaderValue::try_from(text).map_err(http::Error::from)?);
        }
    }
    Poster::new(connector).post(&url, headers, body.into()).await
}

fn body(delivery: &Delivery) -> Result<Vec<u8>, serde_json::Error> {
    match delivery.format {
        Format::Slack => serde_json::to_vec(&serde_json::json!({
            "text": format!("*{}* · {}: {}", delivery.app_name, delivery.kind, delivery.text)
        })),
        Format::Webhook => serde_json::to_vec(&EventMessage {
            id: delivery.sequence,
            at: delivery.at.to_string(),
            app: delivery.app_name.clone(),
            event: delivery.kind.clone(),
            subject: delivery.subject.clone(),
            text: delivery.text.clone(),
        }),
    }
}

/// HMAC-SHA256 of the body, in hexadecimal.
fn signature(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end() {
        let now = Timestamp::UNIX_EPOCH;
        let pause = |attempts| match after_failure(attempts, String::new(), now) {
            Attempt::Retry { at, .. } => at.as_second(),
            Attempt::Delivered | Attempt::GivenUp { .. } => -1,
        };
        assert_eq!([pause(0), pause(1), pause(4), pause(12), pause(17)], [5, 10, 80, 3600, -1]);
    }

    #[test]
    fn a_signature_is_what_others_compute() {
        // RFC 4231, test case 2.
        let expect = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expect);
    }
}
