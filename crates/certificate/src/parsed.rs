//! One certificate, as much of it as is looked at.

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

/// The access method "caIssuers" (RFC 5280, 4.2.2.1).
const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";

#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) der: &'a CertificateDer<'static>,
    pub(crate) x509: X509Certificate<'a>,
}

impl<'a> Parsed<'a> {
    /// `None` if this is not exactly one certificate.
    pub(crate) fn new(der: &'a CertificateDer<'static>) -> Option<Self> {
        let (rest, x509) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then_some(Self { der, x509 })
    }

    pub(crate) fn subject(&self) -> String {
        readable(self.x509.subject())
    }

    pub(crate) fn issuer(&self) -> String {
        readable(self.x509.issuer())
    }

    pub(crate) fn subject_name(&self) -> String {
        printable(&self.x509.subject().to_string())
    }

    pub(crate) fn issuer_name(&self) -> String {
        printable(&self.x509.issuer().to_string())
    }

    /// Its public key with the algorithm, in DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.x509.public_key().raw
    }

    pub(crate) fn is_authority(&self) -> bool {
        self.x509.is_ca()
    }

    /// Whether its signature is by the key of `issuer`; names alone are no proof.
    pub(crate) fn was_issued_by(&self, issuer: &Self) -> bool {
        self.x509.issuer().as_raw() == issuer.x509.subject().as_raw()
            && self.x509.verify_signature(Some(issuer.x509.public_key())).is_ok()
    }

    pub(crate) fn is_self_signed(&self) -> bool {
        self.x509.issuer().as_raw() == self.x509.subject().as_raw()
    }

    pub(crate) fn is_cloudflare_origin(&self) -> bool {
        let units = self.x509.issuer().iter_organizational_unit();
        let mut names = units.filter_map(|unit| unit.as_str().ok());
        names.any(|name| name.to_ascii_lowercase().starts_with("cloudflare origin"))
    }

    pub(crate) fn not_before(&self) -> Timestamp {
        timestamp(self.x509.validity().not_before.timestamp())
    }

    pub(crate) fn not_after(&self) -> Timestamp {
        timestamp(self.x509.validity().not_after.timestamp())
    }

    /// DNS names in lower case, and addresses, in the order in which they stand in the certificate.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let Ok(Some(names)) = self.x509.subject_alternative_name() else { return Vec::new() };
        let host = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => match *bytes {
                [a, b, c, d] => Some(std::net::Ipv4Addr::from([*a, *b, *c, *d]).to_string()),
                bytes => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
            },
            _ => None,
        };
        names.value.general_names.iter().filter_map(host).collect()
    }

    /// Where the issuer's certificate can be had.
    pub(crate) fn issuer_url(&self) -> Option<String> {
        let mut extensions = self.x509.extensions().iter();
        extensions.find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityInfoAccess(access) => access.accessdescs.iter().find_map(|description| {
                let GeneralName::URI(url) = description.access_location else { return None };
                (description.access_method.to_id_string() == CA_ISSUERS).then(|| printable(url))
            }),
            _ => None,
        })
    }
}

/// Whether a name of a certificate (perhaps with a wildcard for the first label) stands for this host.
pub fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(suffix) => {
            host.split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && label != "*" && rest.eq_ignore_ascii_case(suffix))
                || name.eq_ignore_ascii_case(host)
        }
        None => name.eq_ignore_ascii_case(host),
    }
}

fn readable(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    let unit = name.iter_organizational_unit().next().and_then(|name| name.as_str().ok());
    let organization = name.iter_organization().next().and_then(|name| name.as_str().ok());
    printable(common.or(unit).or(organization).unwrap_or("(no name)"))
}

/// Names are whatever an issuer put there, and end up in messages.
fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    text.chars().filter(|character| !character.is_control()).take(CHARACTERS_MAX).collect()
}

/// Dates that this calendar does not have are as far away as it goes.
fn timestamp(seconds: i64) -> Timestamp {
    let end = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(end)
}
