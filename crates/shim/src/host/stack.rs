//! The stack: the host's userland, which every sandbox sees read-only.

use std::fs;
use std::sync::LazyLock;

/// The name of this machine's userland, as `debian-12` or `ubuntu-24.04`; in a sandbox the same as outside.
pub fn stack() -> &'static str {
    static STACK: LazyLock<String> = LazyLock::new(|| {
        let text = fs::read_to_string("/etc/os-release").or_else(|_missing| fs::read_to_string("/usr/lib/os-release"));
        stack_of(&text.unwrap_or_default())
    });
    &STACK
}

/// Rolling distributions have no version; a machine that says nothing of itself is `linux`.
fn stack_of(os_release: &str) -> String {
    let field = |name: &str| {
        let value = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        let value = value.trim().trim_matches(['"', '\'']);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (!value.is_empty() && value.chars().all(plain)).then(|| value.to_owned())
    };
    match (field("ID"), field("VERSION_ID")) {
        (Some(id), Some(version)) => format!("{id}-{version}"),
        (Some(id), None) => id,
        (None, _version) => "linux".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_named_after_distribution_and_version() {
        for (text, expect) in [
            ("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n", "debian-12"),
            ("VERSION_ID=\"24.04\"\nID=ubuntu\nID_LIKE=debian\n", "ubuntu-24.04"),
            ("ID=arch\n", "arch"),
            ("ID=\"bad name\"\n", "linux"),
            ("", "linux"),
        ] {
            assert_eq!(stack_of(text), expect, "{text:?}");
        }
    }
}
