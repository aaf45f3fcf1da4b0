//! The platform's own names below its domain: where people reach its API, git and log streams.

/// What stands before the domain. The first one is what people are told; the last one is the form that Heroku's client
/// takes for one of a server on the same machine.
const FRONTS: [&str; 5] = ["berth", "api", "git", "exec", "api.localhost"];

/// All of them: `berth.paas.example`, `api.paas.example`, …
pub fn platform_hosts(domain: &str) -> impl Iterator<Item = String> {
    FRONTS.iter().map(move |front| format!("{front}.{domain}"))
}

/// The one that people are told.
pub fn main_host(domain: &str) -> String {
    format!("{}.{domain}", FRONTS[0])
}

/// Where people reach the API from other machines: over HTTPS, at the port where clients find it. A platform for one
/// machine needs none.
pub fn public_url(domain: &str, http_port: u16, https_port: Option<u16>) -> Option<String> {
    let host = main_host(domain);
    let (scheme, port, usual) = match https_port {
        _ if is_loopback_name(&host) => ("http", http_port, 80),
        Some(port) => ("https", port, 443),
        None => return None,
    };
    let port = if port == usual { String::new() } else { format!(":{port}") };
    Some(format!("{scheme}://{host}{port}"))
}

/// Whether a host, in lower case and without a port, is one of them.
pub fn is_platform_host(host: &str, domain: &str) -> bool {
    let front = host.strip_suffix(domain).and_then(|front| front.strip_suffix('.'));
    front.is_some_and(|front| FRONTS.contains(&front))
}

/// Whether a host names the machine that the client itself runs on (RFC 6761, 6.3): nobody reads along on the way there.
pub fn is_loopback_name(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{AppName, AppNameError};

    #[test]
    fn only_whole_names_below_the_domain_are_the_platforms() {
        for ours in ["berth.paas.example", "git.paas.example", "api.localhost.paas.example"] {
            assert!(is_platform_host(ours, "paas.example"), "{ours}");
        }
        for other in ["paas.example", "xapi.paas.example", "shop.paas.example", "berth.paas.example.org", "berth."] {
            assert!(!is_platform_host(other, "paas.example"), "{other}");
        }
    }

    #[test]
    fn no_app_has_a_name_of_the_platforms() {
        for front in FRONTS {
            let refused = AppName::parse(front);
            assert!(
                matches!(refused, Err(AppNameError::Reserved(_) | AppNameError::Characters)),
                "{front}: {refused:?}"
            );
        }
    }

    #[test]
    fn people_elsewhere_come_over_https() {
        let url = |domain: &str, https| public_url(domain, 8080, https);
        assert_eq!(url("paas.example", Some(443)).as_deref(), Some("https://berth.paas.example"));
        assert_eq!(url("paas.example", Some(8443)).as_deref(), Some("https://berth.paas.example:8443"));
        assert_eq!(url("paas.example", None), None);
        assert_eq!(url("localhost", Some(8443)).as_deref(), Some("http://berth.localhost:8080"));
    }

    #[test]
    fn a_name_that_only_looks_like_this_machines_is_none() {
        assert!(is_loopback_name("localhost") && is_loopback_name("berth.localhost") && is_loopback_name("[::1]"));
        assert!(!is_loopback_name("localhost.example") && !is_loopback_name("notlocalhost"));
    }
}
