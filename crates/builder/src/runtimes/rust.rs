//! Rust toolchains: rustup's, bound read-only; nothing is ever downloaded in the middle of a build.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wire::build::Toolchain;

use super::{Provided, RuntimeError, Runtimes, version_in};

impl Runtimes<'_> {
    pub fn rust(&mut self, channel: Option<&str>) -> Result<Provided, RuntimeError> {
        let rustup =
            self.host.environment.get("RUSTUP_HOME").map_or_else(|| self.host.home.join(".rustup"), PathBuf::from);
        let mut installed: Vec<(String, PathBuf)> = fs::read_dir(rustup.join("toolchains"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
            .filter(|(_name, path)| path.join("bin/cargo").exists())
            .collect();
        installed.sort();
        let chosen = match channel {
            Some(wanted) => installed.iter().find(|(name, _path)| names(name, wanted)),
            None => installed
                .iter()
                .find(|(name, _path)| names(name, "stable"))
                .or_else(|| installed.iter().rev().find(|(name, _path)| !name.starts_with("nightly"))),
        };
        let Some((name, path)) = chosen else { return self.debian_rust(channel, &installed) };
        let said = self.client("rustc", &path.join("bin/rustc"), &["--version"], Path::new("/"), &BTreeMap::new())?;
        let version = version_in(&said).map_or_else(|| name.clone(), |version| version.to_string());
        let root = self.layout.runtime(&format!("rust-{version}"));
        let toolchain = Toolchain { version, root, runtime: None };
        Ok(Provided { toolchain, source: Some(path.clone()) })
    }

    fn debian_rust(&self, channel: Option<&str>, installed: &[(String, PathBuf)]) -> Result<Provided, RuntimeError> {
        let cargo = Path::new("/usr/bin/cargo");
        let said = if cargo.exists() {
            self.client("rustc", Path::new("/usr/bin/rustc"), &["--version"], Path::new("/"), &BTreeMap::new()).ok()
        } else {
            None
        };
        let version = said.as_deref().and_then(version_in);
        match (version, channel) {
            (Some(version), None) => Ok(Self::userland(version)),
            (Some(version), Some(wanted)) if names(&version.to_string(), wanted) => Ok(Self::userland(version)),
            (None, None) => Err(RuntimeError::NotInstalled("Rust toolchain")),
            (version, Some(wanted)) => {
                let mut available: Vec<String> = installed.iter().map(|(name, _path)| short(name).to_owned()).collect();
                available.extend(version.map(|version| version.to_string()));
                let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
                Err(RuntimeError::RustPin { wanted: wanted.to_owned(), available })
            }
        }
    }
}

/// Whether the toolchain directory `name` (`1.95.0-x86_64-unknown-linux-gnu`) is what `wanted` (`1.95`) names.
fn names(name: &str, wanted: &str) -> bool {
    name == wanted
        || short(name) == wanted
        || short(name).strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
}

/// The toolchain's name without its target triple.
fn short(name: &str) -> &str {
    ["-x86_64-", "-aarch64-"].iter().find_map(|arch| name.split_once(arch)).map_or(name, |(short, _triple)| short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_name_toolchains() {
        assert!(names("1.95.0-x86_64-unknown-linux-gnu", "1.95"));
        assert!(names("1.95.0-x86_64-unknown-linux-gnu", "1.95.0"));
        assert!(names("stable-x86_64-unknown-linux-gnu", "stable"));
        assert!(!names("1.95.0-x86_64-unknown-linux-gnu", "1.9"));
        assert!(!names("nightly-x86_64-unknown-linux-gnu", "stable"));
    }
}
