//! What can be wrong, in words that say what to do.

use jiff::Timestamp;
use thiserror::Error;

/// Why a certificate cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    #[error(
        "the chain holds no certificate; give a PEM file with -----BEGIN CERTIFICATE-----, the site's own certificate \
         first"
    )]
    NoCertificate,
    #[error("the chain holds a private key; give the key in its own file, and make a new key if others have seen it")]
    KeyInChain,
    #[error("certificate {number} of the chain cannot be read; export it again as PEM")]
    Unreadable { number: usize },
    #[error("the chain holds more than {limit} certificates; give only the site's own and its intermediates")]
    TooMany { limit: usize },
    #[error("chain and key have {limit} bytes at most; give only the site's own certificate and its intermediates")]
    TooLong { limit: usize },
    #[error("the key cannot be read; give a PEM file with -----BEGIN PRIVATE KEY-----")]
    NoKey,
    #[error("the key is protected by a password; remove it with `openssl pkey -in key.pem -out plain.pem`")]
    EncryptedKey,
    #[error(
        "this kind of key cannot be used; make one with ECDSA P-256 or P-384, Ed25519, or RSA of at least 2048 bits"
    )]
    UnusableKey,
    #[error("the key belongs to none of the certificates; give the key that the certificate was requested with")]
    KeyMismatch,
    #[error(
        "the key belongs to an authority's certificate, {subject}; give the certificate that it issued for the site, \
         with that one's key"
    )]
    Authority { subject: String },
    #[error("the certificate expired on {on}; renew it")]
    Expired { on: Timestamp },
    #[error("the intermediate certificate {subject} expired on {on}; download the issuer's present one")]
    IntermediateExpired { subject: String, on: Timestamp },
    #[error("the certificate is not valid before {from}; wait, or check this machine's clock")]
    NotYetValid { from: Timestamp },
    #[error(
        "the certificate names no host (no subject alternative name); browsers refuse it, so have a new one issued"
    )]
    NoHosts,
}

/// What the owner of a usable certificate should know.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Warning {
    #[error("the intermediate certificate of {issuer} is missing: some clients will refuse the site; append it{}",
        .download.as_ref().map(|url| format!(" (it is at {url}, in DER)")).unwrap_or_default())]
    MissingIntermediate { issuer: String, download: Option<String> },
    #[error("the certificate expires on {on}; renew it")]
    ExpiresSoon { on: Timestamp },
    #[error("the certificate is signed by itself: browsers show a warning unless they were told to trust it")]
    SelfSigned,
    #[error(
        "the certificate is from Cloudflare's Origin CA: only Cloudflare trusts it, so set SSL/TLS to \"Full (strict)\" \
         there and let nobody come around it"
    )]
    CloudflareOrigin,
    #[error("the certificates were in another order; they are sent sorted")]
    Sorted,
    #[error("{subject} is not part of the chain and is not sent")]
    Unrelated { subject: String },
    #[error("the certificate does not name {host}: clients of that host will refuse it")]
    HostNotCovered { host: String },
}

/// Who issued a certificate, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issuance {
    /// Some authority.
    Authority,
    /// Itself.
    SelfSigned,
    /// Cloudflare, for the way between Cloudflare and an origin only.
    CloudflareOrigin,
}
