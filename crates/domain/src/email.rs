//! E-mail addresses, which are the names of people here. Nothing is sent to them.

use thiserror::Error;

const BYTES_MAX: usize = 254;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an e-mail address; write it as ada@example.com")]
pub struct EmailError(String);

/// Gives the address in lower case: two people do not differ by capitals.
pub fn parse(text: &str) -> Result<String, EmailError> {
    let fault = || EmailError(text.chars().take(100).collect());
    let (local, host) = text.split_once('@').ok_or_else(fault)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&byte);
    let host_ok = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    if local.is_empty() || host.is_empty() || !local.bytes().all(plain) || !host_ok || text.len() > BYTES_MAX {
        return Err(fault());
    }
    Ok(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_everything_else_is_refused() {
        assert_eq!(parse("Ada.L+x@Example.com").unwrap(), "ada.l+x@example.com");
        for bad in ["", "ada", "@x", "ada@", "a b@x", "ada@x y", "ada@x\n", "a@b@c", "ada@<script>"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
