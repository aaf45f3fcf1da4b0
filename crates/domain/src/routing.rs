//! How an app wants its requests handled, and within which bounds it may say so.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::config::ConfigVars;
use crate::duration_text;
use crate::dyno_size::ByteCount;
use crate::name::ConfigKey;

/// A page of an app's own is sent to the router with its route, so it must be small.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);
const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const BOOT_WAIT_MAX: Duration = Duration::from_secs(10 * 60);
const HSTS_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// What browsers ask of a site that wants to be on their list.
const HSTS_PRELOAD_MIN: Duration = Duration::from_secs(365 * 86_400);
const REQUEST_BYTES_MAX: u64 = 1 << 40;

/// What the owner of an app may set. The default is what Heroku does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingSettings {
    /// Requests over plain HTTP are sent to the same address over HTTPS.
    pub https_only: bool,
    pub hsts: Option<Hsts>,
    /// Responses that gain from it are compressed for clients that take it.
    pub compression: bool,
    pub dyno_protocol: DynoProtocol,
    /// A client's requests go to the dyno that answered its first one, as long as that can take them.
    pub session_affinity: bool,
    /// Longer request bodies are refused. `None` is no limit.
    pub request_bytes_max: Option<u64>,
    /// From the last byte of a request to the first byte of its response.
    pub timeout: Duration,
    /// Between any two bytes after that.
    pub idle_timeout: Duration,
    /// How long a request waits for a dyno that is starting.
    pub boot_wait: Duration,
    /// HTML, shown under maintenance.
    pub maintenance_page: Option<String>,
    /// HTML, shown instead of the router's other pages.
    pub error_page: Option<String>,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            https_only: false,
            hsts: None,
            compression: false,
            dyno_protocol: DynoProtocol::Http1,
            session_affinity: false,
            request_bytes_max: None,
            timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(55),
            boot_wait: Duration::from_secs(75),
            maintenance_page: None,
            error_page: None,
        }
    }
}

/// What browsers are told about plain HTTP (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    pub max_age: Duration,
    pub include_subdomains: bool,
    pub preload: bool,
}

/// What an app's dynos speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DynoProtocol {
    #[default]
    Http1,
    /// HTTP/2 without TLS and without asking first, as gRPC servers do.
    H2c,
}

impl DynoProtocol {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Http1, Self::H2c].into_iter().find(|protocol| protocol.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoutingError {
    #[error("{setting} must be from {} to {}", duration_text::show(*.min), duration_text::show(*.max))]
    Range { setting: &'static str, min: Duration, max: Duration },
    #[error("request-size must be from 1 B to {}", ByteCount(REQUEST_BYTES_MAX))]
    RequestSize,
    #[error("hsts with preload must have includeSubDomains and last for a year at least: browsers list no other sites")]
    Preload,
    #[error("a page may have {} at most: put pictures and styles elsewhere, and link to them", ByteCount(PAGE_BYTES_MAX as u64))]
    PageTooLong,
    #[error("a page must not be empty; clear it to show the platform's own again")]
    PageEmpty,
    #[error("{0:?} is not a lifetime for hsts: write it like 1y, 1y,includeSubDomains or off")]
    HstsText(String),
}

impl RoutingSettings {
    /// Whether every value is within its bounds.
    pub fn check(&self) -> Result<(), RoutingError> {
        in_range("timeout", self.timeout, TIMEOUT_MIN, TIMEOUT_MAX)?;
        in_range("idle-timeout", self.idle_timeout, IDLE_TIMEOUT_MIN, IDLE_TIMEOUT_MAX)?;
        in_range("boot-wait", self.boot_wait, Duration::ZERO, BOOT_WAIT_MAX)?;
        if let Some(hsts) = self.hsts {
            in_range("hsts", hsts.max_age, Duration::ZERO, HSTS_MAX)?;
            if hsts.preload && (!hsts.include_subdomains || hsts.max_age < HSTS_PRELOAD_MIN) {
                return Err(RoutingError::Preload);
            }
        }
        if self.request_bytes_max.is_some_and(|bytes| !(1..=REQUEST_BYTES_MAX).contains(&bytes)) {
            return Err(RoutingError::RequestSize);
        }
        for page in [&self.maintenance_page, &self.error_page].into_iter().flatten() {
            match page.len() {
                0 => return Err(RoutingError::PageEmpty),
                1..=PAGE_BYTES_MAX => {}
                _ => return Err(RoutingError::PageTooLong),
            }
        }
        Ok(())
    }

    /// Every setting but the pages, by the name and in the words that people use for it.
    pub fn described(&self) -> Vec<(&'static str, String)> {
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        let size = self.request_bytes_max.map_or_else(|| "unlimited".to_owned(), |bytes| ByteCount(bytes).exact());
        vec![
            ("https-only", switch(self.https_only)),
            ("hsts", self.hsts.map_or_else(|| switch(false), |hsts| hsts.to_string())),
            ("compression", switch(self.compression)),
            ("dyno-protocol", self.dyno_protocol.as_str().to_owned()),
            ("session-affinity", switch(self.session_affinity)),
            ("request-size", size),
            ("timeout", duration_text::show(self.timeout)),
            ("idle-timeout", duration_text::show(self.idle_timeout)),
            ("boot-wait", duration_text::show(self.boot_wait)),
        ]
    }
}

fn in_range(setting: &'static str, value: Duration, min: Duration, max: Duration) -> Result<(), RoutingError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(RoutingError::Range { setting, min, max }) }
}

impl Hsts {
    /// Reads `1y`, `1y,includeSubDomains`, `2y,includeSubDomains,preload`.
    pub fn parse(text: &str) -> Result<Self, RoutingError> {
        let wrong = || RoutingError::HstsText(text.chars().take(60).collect());
        let mut words = text.split([',', ';']).map(str::trim);
        let max_age = duration_text::parse(words.next().unwrap_or_default()).map_err(|_no_duration| wrong())?;
        let mut hsts = Self { max_age, include_subdomains: false, preload: false };
        for word in words {
            match word {
                _ if word.eq_ignore_ascii_case("includeSubDomains") => hsts.include_subdomains = true,
                _ if word.eq_ignore_ascii_case("preload") => hsts.preload = true,
                _ => return Err(wrong()),
            }
        }
        Ok(hsts)
    }
}

impl fmt::Display for Hsts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text::show(self.max_age))?;
        f.write_str(if self.include_subdomains { ",includeSubDomains" } else { "" })?;
        f.write_str(if self.preload { ",preload" } else { "" })
    }
}

/// Pages that an app keeps elsewhere, named by config vars as on Heroku.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageUrls {
    pub maintenance: Option<String>,
    pub error: Option<String>,
}

impl PageUrls {
    pub fn of(config: &ConfigVars) -> Self {
        let url = |name: &str| {
            let key = ConfigKey::parse(name).ok()?;
            let url = config.get(&key)?.expose();
            is_plain_url(url).then(|| url.clone())
        };
        Self { maintenance: url("MAINTENANCE_PAGE_URL"), error: url("ERROR_PAGE_URL") }
    }
}

/// Whether this is an address of the web that can stand in an attribute as it is.
pub fn is_plain_url(url: &str) -> bool {
    let of_web = url.starts_with("https://") || url.starts_with("http://");
    of_web && url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>`".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn the_defaults_are_herokus_and_within_their_bounds() {
        let settings = RoutingSettings::default();
        assert_eq!(settings.check(), Ok(()));
        let shown: Vec<String> =
            settings.described().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown.join(" "),
            "https-only=off hsts=off compression=off dyno-protocol=http1 session-affinity=off \
             request-size=unlimited timeout=30s idle-timeout=55s boot-wait=75s"
        );
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let check = |change: fn(&mut RoutingSettings), expect: &str| {
            let mut settings = RoutingSettings::default();
            change(&mut settings);
            let text = settings.check().map_err(|error| error.to_string());
            assert!(text.as_ref().is_err_and(|text| text.contains(expect)), "{text:?}");
        };
        check(|settings| settings.timeout = Duration::ZERO, "timeout must be from 100ms to 1h");
        check(|settings| settings.idle_timeout = Duration::from_millis(1), "idle-timeout must be from 1s to 1d");
        check(|settings| settings.boot_wait = Duration::from_secs(601), "boot-wait must be from 0s to 10m");
        check(|settings| settings.request_bytes_max = Some(0), "request-size must be from 1 B");
        check(|settings| settings.maintenance_page = Some("x".repeat(PAGE_BYTES_MAX + 1)), "64 KiB at most");
        check(|settings| settings.error_page = Some(String::new()), "must not be empty");
        check(|settings| settings.hsts = Hsts::parse("1y,preload").ok(), "includeSubDomains");
        check(|settings| settings.hsts = Hsts::parse("30d,includeSubDomains,preload").ok(), "a year");
    }

    #[test]
    fn hsts_is_a_lifetime_and_words() {
        for text in ["1y", "1y,includeSubDomains", "2y,includeSubDomains,preload", "0s"] {
            assert_eq!(Hsts::parse(text).map(|hsts| hsts.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["1Y", "1y,subdomains", ""] {
            Hsts::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn pages_elsewhere_are_addresses_of_the_web() {
        let of = |url: &str| {
            let key = ConfigKey::parse("MAINTENANCE_PAGE_URL").unwrap();
            PageUrls::of(&ConfigVars::from_iter([(key, Secret::new(url.to_owned()))])).maintenance
        };
        assert_eq!(of("https://a.example/x"), Some("https://a.example/x".to_owned()));
        for bad in ["", "//a.example", "javascript:alert(1)", "https://a\"onload=x", "https://a b"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(PageUrls::of(&ConfigVars::new()), PageUrls::default());
    }
}
