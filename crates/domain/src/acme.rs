//! When a certificate is ordered for a host, and when not: renewal, back-off, and never more than an authority allows.
//!
//! ```text
//!  no certificate ─► order ─► issued ─► two thirds of its life ─► order …
//!                      └► failed ─► 1 min, 5 min, 20 min, 1 h, 4 h, 12 h, then daily ─► order …
//! ```
//!
//! What an authority limits (Let's Encrypt: five failed validations of a host in an hour, five certificates for the same
//! hosts in a week, 300 orders of an account in three hours) is counted here over what was really tried, so that neither
//! a refresh in a loop nor a restart in the middle can use it up.

mod refusal;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use self::refusal::{Refusal, RefusalKind};

/// Orders for one host in any hour.
pub const HOST_ORDERS_PER_HOUR: usize = 4;
/// Orders for one host in any seven days.
pub const HOST_ORDERS_PER_WEEK: usize = 25;
/// Certificates issued for one host in any seven days.
pub const HOST_CERTIFICATES_PER_WEEK: usize = 4;
/// Orders for all hosts in any three hours.
pub const ORDERS_PER_THREE_HOURS: usize = 200;
/// Orders under way.
pub const ORDERS_AT_ONCE: usize = 4;
/// Failures in a row after which a host counts as failed, and not as failing for now.
pub const FAILED_AFTER: usize = 3;
/// What attempts must be known of, for the limits to hold.
pub const HISTORY: SignedDuration = WEEK;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const THREE_HOURS: SignedDuration = SignedDuration::from_hours(3);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Pauses after the first failure, the second, and so on; the last one repeats.
const BACK_OFF: [SignedDuration; 7] = [
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(20),
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(4),
    SignedDuration::from_hours(12),
    SignedDuration::from_hours(24),
];

/// Renewals are spread over this part of a certificate's life, so that those of one day do not come in one minute.
const JITTER_PART: i32 = 20;

/// One order that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub at: Timestamp,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    UnderWay,
    Issued,
    Failed,
    /// The authority asked to wait, which says nothing about the host.
    Deferred {
        until: Timestamp,
    },
    /// The server ended in the middle.
    Interrupted,
}

/// How an authority is shown that a host leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    /// It asks for a file over plain HTTP.
    Http01,
    /// It asks for a certificate over TLS.
    TlsAlpn01,
}

impl ChallengeKind {
    /// As in the settings, which is as in RFC 8555.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "http-01" => Some(Self::Http01),
            "tls-alpn-01" => Some(Self::TlsAlpn01),
            _ => None,
        }
    }
}

/// Which way to try after so many failures: each in turn.
pub fn challenge_for(failures: usize, ways: &[ChallengeKind]) -> Option<ChallengeKind> {
    ways.get(failures.checked_rem(ways.len())?).copied()
}

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Validity {
    /// When to renew: after two thirds of its life, or up to a twentieth of it earlier.
    pub fn renewal_at(&self, jitter: Jitter) -> Timestamp {
        let life = self.until.duration_since(self.from).max(SignedDuration::ZERO);
        let early = life / JITTER_PART * i32::from(jitter.0) / i32::from(Jitter::WHOLE);
        self.from.saturating_add(life * 2 / 3 - early).unwrap_or(self.until)
    }
}

/// A lasting part of a host's own, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    const WHOLE: u16 = 1000;

    /// From any number.
    pub fn new(random: u16) -> Self {
        Self(random % Self::WHOLE)
    }
}

/// One host that a certificate is managed for, and everything that was tried for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    pub certificate: Option<Validity>,
    /// In the last [`HISTORY`], oldest first.
    pub attempts: Vec<Attempt>,
    /// Somebody said that the cause is gone: earlier failures put nothing off any more.
    pub asked_again_at: Option<Timestamp>,
    pub jitter: Jitter,
}

impl HostView {
    /// Failures since the last success or the last time that somebody asked again.
    pub fn failures(&self) -> usize {
        let fresh = self.attempts.iter().rev().take_while(|attempt| {
            attempt.outcome != Outcome::Issued && self.asked_again_at.is_none_or(|asked| attempt.at > asked)
        });
        fresh.filter(|attempt| attempt.outcome == Outcome::Failed).count()
    }

    /// The earliest moment at which a certificate may be ordered; `None` while an order is under way.
    pub fn order_at(&self) -> Option<Timestamp> {
        if self.attempts.iter().any(|attempt| attempt.outcome == Outcome::UnderWay) {
            return None;
        }
        let due = self.certificate.map_or(Timestamp::MIN, |validity| validity.renewal_at(self.jitter));
        let at = |attempt: &Attempt| attempt.at;
        let issued = |attempt: &&Attempt| attempt.outcome == Outcome::Issued;
        [
            due,
            self.backed_off_until(),
            self.deferred_until(),
            free_at(self.attempts.iter().map(at), HOST_ORDERS_PER_HOUR, HOUR),
            free_at(self.attempts.iter().map(at), HOST_ORDERS_PER_WEEK, WEEK),
            free_at(self.attempts.iter().filter(issued).map(at), HOST_CERTIFICATES_PER_WEEK, WEEK),
        ]
        .into_iter()
        .max()
    }

    fn backed_off_until(&self) -> Timestamp {
        let failures = self.failures();
        let last = self.attempts.iter().rev().find(|attempt| attempt.outcome == Outcome::Failed);
        match (failures.checked_sub(1), last) {
            (Some(index), Some(last)) => {
                let pause = BACK_OFF[index.min(BACK_OFF.len() - 1)];
                last.at.saturating_add(pause).unwrap_or(Timestamp::MAX)
            }
            (_, _) => Timestamp::MIN,
        }
    }

    fn deferred_until(&self) -> Timestamp {
        let deferred = self.attempts.iter().map(|attempt| match attempt.outcome {
            Outcome::Deferred { until } => until,
            Outcome::UnderWay | Outcome::Issued | Outcome::Failed | Outcome::Interrupted => Timestamp::MIN,
        });
        deferred.max().unwrap_or(Timestamp::MIN)
    }
}

/// Which of these hosts to order for now, the most urgent first: those without a certificate, then by its end.
/// `orders` are all of the account, also for hosts that are managed no longer.
pub fn due(hosts: &[HostView], orders: &[Attempt], now: Timestamp) -> Vec<usize> {
    let under_way = orders.iter().filter(|order| order.outcome == Outcome::UnderWay).count();
    let recent = orders.iter().filter(|order| now.duration_since(order.at) < THREE_HOURS).count();
    let free = ORDERS_AT_ONCE.saturating_sub(under_way).min(ORDERS_PER_THREE_HOURS.saturating_sub(recent));
    let mut ready: Vec<usize> =
        (0..hosts.len()).filter(|&index| hosts[index].order_at().is_some_and(|at| at <= now)).collect();
    ready.sort_by_key(|&index| (hosts[index].certificate.map(|validity| validity.until), index));
    ready.truncate(free);
    ready
}

/// How long nothing becomes due. `orders` as in [`due`], oldest first; the end of one that is under way is heard of.
pub fn quiet_for(hosts: &[HostView], orders: &[Attempt], now: Timestamp) -> Option<Duration> {
    if orders.iter().filter(|order| order.outcome == Outcome::UnderWay).count() >= ORDERS_AT_ONCE {
        return None;
    }
    let next = hosts.iter().filter_map(HostView::order_at).min()?;
    let next = next.max(free_at(orders.iter().map(|order| order.at), ORDERS_PER_THREE_HOURS, THREE_HOURS));
    Some(Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// When one more fits under a limit of `count` in any `span`.
fn free_at(times: impl DoubleEndedIterator<Item = Timestamp>, count: usize, span: SignedDuration) -> Timestamp {
    let oldest_that_counts = times.rev().nth(count - 1);
    oldest_that_counts.map_or(Timestamp::MIN, |at| at.saturating_add(span).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests;
