//! Host names that requests come in for: `www.example.com`, `*.example.com`.

use std::fmt;

use thiserror::Error;

/// RFC 1035, 2.3.4.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A host name in lower case, or a wildcard for one level below a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(String);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostnameError {
    #[error("{0:?} is not a host name: write it like www.example.com, or *.example.com for all names below one")]
    Form(String),
    #[error("{0:?} has letters that host names are not made of: write it in its xn-- form")]
    International(String),
    #[error("{0:?} is an address, not a name")]
    Address(String),
}

impl Hostname {
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        let shown: String = text.chars().take(80).collect();
        if !text.is_ascii() {
            return Err(HostnameError::International(shown));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(HostnameError::Address(shown));
        }
        let below = name.strip_prefix("*.").unwrap_or(&name);
        let labels: Vec<&str> = below.split('.').collect();
        if name.len() > NAME_BYTES_MAX || labels.len() < 2 || !labels.iter().all(|label| is_label(label)) {
            return Err(HostnameError::Form(shown));
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Whether it is `domain` or lies below it.
    pub fn is_within(&self, domain: &str) -> bool {
        let front = self.0.strip_suffix(domain);
        front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_kept_in_lower_case_and_without_a_last_dot() {
        for (text, expect) in [
            ("WWW.Example.com", "www.example.com"),
            ("example.com.", "example.com"),
            ("*.example.com", "*.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(Hostname::parse(text).unwrap().as_str(), expect);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let form = |text: &str| Err(HostnameError::Form(text.to_owned()));
        for bad in [
            "",
            "localhost",
            "a..b",
            "-a.example",
            "*.*.example.com",
            "a b.example",
            "https://a.example",
            "a.example/x",
            "a.example:80",
        ] {
            assert_eq!(Hostname::parse(bad), form(bad), "{bad}");
        }
        assert_eq!(Hostname::parse("bücher.example"), Err(HostnameError::International("bücher.example".to_owned())));
        assert_eq!(Hostname::parse("10.0.0.1"), Err(HostnameError::Address("10.0.0.1".to_owned())));
    }

    #[test]
    fn a_name_is_within_a_domain_by_whole_labels() {
        let within = |name: &str| Hostname::parse(name).unwrap().is_within("paas.example");
        assert!(within("shop.paas.example") && within("paas.example") && within("*.paas.example"));
        assert!(!within("notpaas.example") && !within("paas.example.org"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _name = Hostname::parse(&text);
        }
    }
}
