//! Encryption of secrets at rest: AES-256-GCM with the master key, a random nonce in front of each ciphertext.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use domain::config::ConfigVars;
use domain::name::ConfigKey;
use domain::secret::Secret;

use crate::StoreError;

/// The key in `master.key`. Cloning shares the secret, so clones are as secret as the key.
#[derive(Debug, Clone)]
pub struct MasterKey(Secret<[u8; 32]>);

impl MasterKey {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    fn cipher(&self) -> Result<LessSafeKey, StoreError> {
        let key = UnboundKey::new(&AES_256_GCM, self.0.expose()).map_err(|_bad_length| StoreError::Damaged("key"))?;
        Ok(LessSafeKey::new(key))
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_no_entropy| StoreError::Damaged("random source"))?;
        let mut body = plain.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut body)
            .map_err(|_too_long| StoreError::Damaged("secret"))?;
        Ok([nonce.as_slice(), &body].concat())
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::Damaged("a secret");
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut body = body.to_vec();
        let plain = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut body)
            .map_err(|_forged| damaged())?;
        Ok(plain.to_vec())
    }

    /// A secret that is text.
    pub(crate) fn open_text(&self, sealed: &[u8]) -> Result<Secret<String>, StoreError> {
        let text = String::from_utf8(self.open(sealed)?);
        text.map(Secret::new).map_err(|_not_text| StoreError::Damaged("a secret"))
    }

    /// Config vars as `KEY=value` separated by NUL, which neither can contain.
    pub(crate) fn seal_config(&self, vars: &ConfigVars) -> Result<Vec<u8>, StoreError> {
        let pairs: Vec<String> = vars.iter().map(|(key, value)| format!("{key}={}", value.expose())).collect();
        self.seal(pairs.join("\0").as_bytes())
    }

    pub(crate) fn open_config(&self, sealed: &[u8]) -> Result<ConfigVars, StoreError> {
        let damaged = || StoreError::Damaged("config vars");
        let plain = String::from_utf8(self.open(sealed)?).map_err(|_not_text| damaged())?;
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            Some((ConfigKey::parse(key).ok()?, Secret::new(value.to_owned())))
        };
        plain.split('\0').filter(|text| !text.is_empty()).map(|text| pair(text).ok_or_else(damaged)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_vars_survive_and_look_like_nothing_at_rest() {
        let key = MasterKey::new([7; 32]);
        let vars: ConfigVars = [("A", "line\none=1"), ("EMPTY", "")]
            .into_iter()
            .map(|(key, value)| (ConfigKey::parse(key).unwrap(), Secret::new(value.to_owned())))
            .collect();
        let sealed = key.seal_config(&vars).unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"line"));
        assert_eq!(key.open_config(&sealed).unwrap(), vars);
        assert_eq!(key.open_config(&key.seal_config(&ConfigVars::new()).unwrap()).unwrap(), ConfigVars::new());
    }

    #[test]
    fn another_key_or_a_changed_byte_is_noticed() {
        let mut sealed = MasterKey::new([7; 32]).seal(b"secret").unwrap();
        assert!(matches!(MasterKey::new([8; 32]).open(&sealed), Err(StoreError::Damaged(_))));
        sealed[14] ^= 1;
        assert!(matches!(MasterKey::new([7; 32]).open(&sealed), Err(StoreError::Damaged(_))));
    }
}
