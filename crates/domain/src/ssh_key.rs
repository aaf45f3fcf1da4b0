//! A public SSH key in the one-line form of `id_ed25519.pub`.

use thiserror::Error;

/// Longest line that is taken, in bytes: an RSA key of 16 kbit has 3 kB.
const KEY_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshKey {
    /// Type, key and comment, separated by single spaces.
    pub text: String,
    /// The key itself, in base64.
    pub base64: String,
    pub comment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this is not a public SSH key; give the line in a file like ~/.ssh/id_ed25519.pub")]
pub struct SshKeyError;

impl SshKey {
    pub fn parse(text: &str) -> Result<Self, SshKeyError> {
        let text = text.trim();
        let printable = !text.chars().any(char::is_control);
        let mut words = text.split_whitespace();
        let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return Err(SshKeyError) };
        let comment = words.collect::<Vec<_>>().join(" ");
        let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
        let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let well_formed = known && printable && text.len() <= KEY_BYTES_MAX && base64.bytes().all(is_base64);
        // The encoded key begins with the length and the name of its type: 00 00 00 xx.
        if !well_formed || !base64.starts_with("AAAA") {
            return Err(SshKeyError);
        }
        let text = format!("{kind} {base64} {comment}").trim_end().to_owned();
        Ok(Self { text, base64: base64.to_owned(), comment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_told_from_other_text() {
        let key = SshKey::parse("ssh-ed25519  AAAAC3NzaC1lZDI1NTE5 ada@laptop \n").unwrap();
        assert_eq!(
            (key.text.as_str(), key.comment.as_str()),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 ada@laptop", "ada@laptop")
        );
        for bad in
            ["", "ssh-rsa", "-----BEGIN OPENSSH PRIVATE KEY-----", "ssh-rsa hello me", "x AAAA me", "ssh-rsa AAAA a\nb"]
        {
            assert_eq!(SshKey::parse(bad), Err(SshKeyError), "{bad}");
        }
    }
}
