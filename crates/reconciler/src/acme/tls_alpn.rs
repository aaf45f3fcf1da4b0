//! The certificate that answers `tls-alpn-01` (RFC 8737, 3): for the host, with the proof in an extension of its own.

use domain::secret::Secret;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use wire::routes::ChallengeAnswer;

pub(crate) fn answer(host: &str, digest: &[u8]) -> Result<ChallengeAnswer, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let chain = params.self_signed(&key)?.pem();
    Ok(ChallengeAnswer::TlsAlpn { chain, key: Secret::new(key.serialize_pem()) })
}
