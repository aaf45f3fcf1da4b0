//! The parts of the package clients' configuration files that name an index: not caches, not paths, not credentials
//! stored beside them.

use std::collections::BTreeMap;
use std::fs;

use super::Host;

/// Files to write for the build as (name, variable that points there, content). pip's settings become variables.
pub(super) fn collect(
    host: &Host,
    environment: &mut BTreeMap<String, String>,
) -> Vec<(&'static str, &'static str, String)> {
    for path in ["/etc/pip.conf".into(), host.home.join(".config/pip/pip.conf"), host.home.join(".pip/pip.conf")] {
        let settings = pip_settings(&fs::read_to_string(path).unwrap_or_default());
        for (key, pip, uv) in [
            ("index-url", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
            ("extra-index-url", "PIP_EXTRA_INDEX_URL", "UV_INDEX"),
            ("trusted-host", "PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
        ] {
            for name in [pip, uv] {
                if let Some(value) = settings.get(key) {
                    environment.entry(name.to_owned()).or_insert_with(|| value.clone());
                }
            }
        }
    }
    let mut npm = String::new();
    for path in ["/etc/npmrc".into(), "/usr/etc/npmrc".into(), host.home.join(".npmrc")] {
        npm.push_str(&npm_settings(&fs::read_to_string(path).unwrap_or_default()));
    }
    let mut files = Vec::new();
    if !npm.is_empty() {
        files.push(("npmrc", "NPM_CONFIG_GLOBALCONFIG", npm));
    }
    let cargo = fs::read_to_string(host.home.join(".cargo/config.toml")).unwrap_or_default();
    if let Some(text) = cargo_settings(&cargo) {
        files.push(("cargo-config.toml", "BERTH_CARGO_CONFIG", text));
    }
    files
}

fn pip_settings(text: &str) -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut settings = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=')
            && matches!(section.as_str(), "global" | "install")
        {
            settings.insert(key.trim().replace('_', "-"), value.trim().to_owned());
        }
    }
    settings
}

fn npm_settings(text: &str) -> String {
    let allowed = |key: &str| {
        let scoped = key.starts_with('@') && key.ends_with(":registry");
        scoped
            || matches!(
                key,
                "registry" | "proxy" | "https-proxy" | "noproxy" | "strict-ssl" | "omit-lockfile-registry-resolved"
            )
    };
    let lines = text.lines().filter(|line| line.split_once('=').is_some_and(|(key, _value)| allowed(key.trim())));
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

fn cargo_settings(text: &str) -> Option<String> {
    let mut table: toml::Table = text.parse().ok()?;
    table.retain(|key, _value| matches!(key, "source" | "registries" | "net" | "http"));
    (!table.is_empty()).then(|| table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_pass_and_credentials_do_not() {
        let pip = pip_settings("[global]\nindex-url = https://pip.internal/simple\n[list]\nformat = json\n");
        assert_eq!(pip.get("index-url").map(String::as_str), Some("https://pip.internal/simple"));
        assert!(!pip.contains_key("format"));
        let npm =
            npm_settings("registry=https://npm.internal/\n//npm.internal/:_authToken=secret\n@a:registry=https://b/\n");
        assert_eq!(npm, "registry=https://npm.internal/\n@a:registry=https://b/\n");
        let cargo = cargo_settings("[source.mirror]\nregistry = \"https://c\"\n[build]\nrustflags = []\n").unwrap();
        assert!(cargo.contains("mirror") && !cargo.contains("rustflags"), "{cargo}");
    }
}
