//! From the settings to how certificates are ordered.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use domain::acme::ChallengeKind;
use reconciler::AcmeConfig;
use wire::settings::AcmeSettings;

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `ca_file` holds the authorities that this machine trusts.
pub(crate) fn config(settings: &AcmeSettings, ca_file: &Path) -> Result<AcmeConfig> {
    let directory = settings.directory.clone().unwrap_or_else(|| DIRECTORY.to_owned());
    if !directory.starts_with("https://") {
        bail!("acme.directory must be an address that begins with https://, not {directory:?}");
    }
    let contact = settings.contact.clone();
    if let Some(address) = contact.as_ref().filter(|address| !address.contains('@') || address.contains(':')) {
        bail!("acme.contact must be an e-mail address, not {address:?}");
    }
    let ways = settings.challenges.clone().unwrap_or_else(|| vec!["http-01".to_owned(), "tls-alpn-01".to_owned()]);
    let parse = |text: &String| {
        ChallengeKind::parse(text)
            .with_context(|| format!("acme.challenges knows \"http-01\" and \"tls-alpn-01\", not {text:?}"))
    };
    Ok(AcmeConfig {
        directory,
        contact,
        system_ca_file: PathBuf::from(ca_file),
        ca_file: settings.ca_file.clone().unwrap_or_else(|| PathBuf::from(ca_file)),
        challenges: ways.iter().map(parse).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<AcmeConfig> {
        config(&toml::from_str::<wire::settings::Settings>(text).unwrap().acme, Path::new("/ca"))
    }

    #[test]
    fn everything_has_a_default() {
        let config = parsed("").unwrap();
        assert_eq!((config.directory.as_str(), config.contact), (DIRECTORY, None));
        assert_eq!(config.challenges, [ChallengeKind::Http01, ChallengeKind::TlsAlpn01]);
        assert_eq!(config.ca_file, Path::new("/ca"));
        let config = parsed("[acme]\nchallenges = [\"tls-alpn-01\"]\nca_file = \"/own\"\n").unwrap();
        assert_eq!(
            (&config.challenges[..], config.ca_file.as_path()),
            (&[ChallengeKind::TlsAlpn01][..], Path::new("/own"))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expect) in [
            ("directory = \"http://ca.example\"", "https://"),
            ("contact = \"mailto:ops@example.com\"", "e-mail address"),
            ("challenges = [\"dns-01\"]", "dns-01"),
        ] {
            let error = parsed(&format!("[acme]\n{text}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(expect), "{error:#}");
        }
    }
}
