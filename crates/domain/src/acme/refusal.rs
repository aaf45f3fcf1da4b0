//! Why an authority did not issue a certificate, in words that say what to do.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// How long to wait when an authority says that it was asked too often, and not until when.
const RATE_LIMIT_PAUSE: SignedDuration = SignedDuration::from_hours(3);

/// What the authority said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub detail: String,
}

/// The kinds of RFC 8555, 6.7, as far as a remedy differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// It could not resolve the name.
    Dns,
    /// It could not connect.
    Connection,
    /// It was answered by somebody else.
    WrongAnswer,
    Tls,
    /// A record of the domain forbids it.
    Caa,
    RateLimited,
    /// It issues for no such name.
    RejectedName,
    /// Its terms have changed, or it wants an account of another kind.
    Account,
    /// It failed itself, or cannot be reached.
    Authority,
}

impl RefusalKind {
    /// From the type of a problem document, `urn:ietf:params:acme:error:dns`.
    pub fn parse(problem_type: &str) -> Self {
        match problem_type.rsplit(':').next().unwrap_or_default() {
            "dns" => Self::Dns,
            "connection" => Self::Connection,
            "unauthorized" | "incorrectResponse" => Self::WrongAnswer,
            "tls" => Self::Tls,
            "caa" => Self::Caa,
            "rateLimited" => Self::RateLimited,
            "rejectedIdentifier" | "unsupportedIdentifier" => Self::RejectedName,
            "userActionRequired" | "externalAccountRequired" | "accountDoesNotExist" => Self::Account,
            _ => Self::Authority,
        }
    }
}

impl Refusal {
    /// What is wrong and what to do about it. `target` is where the record of an app's host should lead; there is none
    /// for the platform's own hosts.
    pub fn explain(&self, host: &str, target: Option<&str>) -> String {
        let (then, own) = match target {
            Some(_) => (", then run `heroku certs:auto:refresh`", "with `heroku certs:add`"),
            None => ("; it is tried again by itself", "by the settings, in the section api"),
        };
        let target = target.unwrap_or("this machine");
        let (what, remedy) = match self.kind {
            RefusalKind::Dns => (
                format!("the name {host} cannot be resolved"),
                format!("add a DNS record that leads it to {target}{then}"),
            ),
            RefusalKind::Connection => (
                format!("nobody answers at {host}"),
                format!("lead its DNS record to {target} and open ports 80 and 443 of this machine to everybody{then}"),
            ),
            RefusalKind::WrongAnswer => (
                format!("DNS does not point here: somebody else answers at {host}"),
                format!("lead its DNS record to {target} and remove others{then}"),
            ),
            RefusalKind::Tls => (
                format!("no TLS could be spoken with {host}"),
                "a proxy in front must pass port 443 through, or port 80 must lead here".to_owned(),
            ),
            RefusalKind::Caa => (
                format!("a CAA record of {host} forbids this authority to issue"),
                "add the authority to the CAA records, or remove them".to_owned(),
            ),
            RefusalKind::RateLimited => (
                "the authority has had too many requests".to_owned(),
                "nothing to do: it is asked again when it allows that".to_owned(),
            ),
            RefusalKind::RejectedName => (
                format!("the authority issues no certificates for {host}"),
                format!("bring a certificate of your own {own}"),
            ),
            RefusalKind::Account => (
                "the authority does not accept this server's account".to_owned(),
                "look at the settings in the section acme, and at its terms".to_owned(),
            ),
            RefusalKind::Authority => (
                "the authority failed".to_owned(),
                "nothing to do: it is asked again later; if this lasts, look at the settings in the section acme"
                    .to_owned(),
            ),
        };
        let said = if self.detail.is_empty() { String::new() } else { format!(" (it said: {})", self.detail) };
        format!("{what}: {remedy}{said}")
    }

    /// Until when the authority wants to be left alone.
    pub fn deferred_until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.kind != RefusalKind::RateLimited {
            return None;
        }
        let named = retry_after(&self.detail).filter(|until| *until > now);
        named.or_else(|| now.checked_add(RATE_LIMIT_PAUSE).ok())
    }
}

/// Let's Encrypt says `retry after 2026-11-26 22:00:00 UTC: see …`.
fn retry_after(detail: &str) -> Option<Timestamp> {
    const FORM_CHARACTERS: usize = "2026-11-26 22:00:00".len();
    let (_before, after) = detail.split_once("retry after ")?;
    let time: DateTime = after.get(..FORM_CHARACTERS)?.replace(' ', "T").parse().ok()?;
    Offset::UTC.to_timestamp(time).ok()
}
