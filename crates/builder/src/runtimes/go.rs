//! The Go toolchain, where one is installed: seen read-only, because a Go program needs none at run time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wire::build::Toolchain;

use super::{Provided, RuntimeError, Runtimes};
use crate::version::{Version, Wanted, resolve};

impl Runtimes<'_> {
    pub fn go(&mut self, wanted: &Wanted) -> Result<Provided, RuntimeError> {
        let mut found: Vec<(Version, PathBuf)> = Vec::new();
        for root in ["/usr/local/go".into(), "/usr/lib/go".into(), self.host.home.join("go/toolchain")] {
            let binary = root.join("bin/go");
            let settings: BTreeMap<String, String> = [("GOTOOLCHAIN", "local"), ("GOFLAGS", "")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
            if binary.exists()
                && let Ok(said) = self.client("go", &binary, &["version"], Path::new("/"), &settings)
                && let Some(version) = go_version(&said)
            {
                found.push((version, root));
            }
        }
        let versions: Vec<Version> = found.iter().map(|(version, _root)| *version).collect();
        if versions.is_empty() {
            return Err(RuntimeError::NotInstalled("Go toolchain"));
        }
        let resolution = resolve("Go", wanted, &versions)?;
        let chosen = found.into_iter().find(|(version, _root)| *version == resolution.version);
        let Some((version, place)) = chosen else { return Err(RuntimeError::NotInstalled("Go toolchain")) };
        // Every sandbox sees `/usr`, and Debian's toolchain reaches out of its directory by relative links.
        let (root, source) = if place.starts_with("/usr") {
            (place, None)
        } else {
            (self.layout.runtime(&format!("go-{version}")), Some(place))
        };
        Ok(Provided { toolchain: Toolchain { version: version.to_string(), root, runtime: None }, source })
    }
}

/// `go version go1.26 linux/amd64`: the patch part is missing in a series' first release.
fn go_version(said: &str) -> Option<Version> {
    let word = said.split_whitespace().find_map(|word| word.strip_prefix("go").filter(|rest| rest.starts_with('1')))?;
    Version::parse(word).or_else(|| Version::parse(&format!("{word}.0")))
}
