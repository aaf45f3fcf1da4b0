//! uv, which makes Python environments: the machine's own or the one in its wheel.

use std::fs;
use std::path::PathBuf;

use super::{RuntimeError, Runtimes, version_in};
use crate::version::Version;

/// uv outside (to download interpreters with) and inside.
#[derive(Debug, Clone)]
pub struct Uv {
    pub outside: PathBuf,
    pub inside: PathBuf,
    /// The directory to mount where `inside` is below it.
    pub runtime: String,
}

impl Runtimes<'_> {
    pub fn uv(&mut self) -> Result<Uv, RuntimeError> {
        let id = match self.present("uv").pop() {
            Some((_version, id)) => id,
            None => self.install_uv()?,
        };
        let outside = self.dirs.runtimes().join(&id).join("bin/uv");
        Ok(Uv { outside, inside: self.layout.runtime(&id).join("bin/uv"), runtime: id })
    }

    fn install_uv(&mut self) -> Result<String, RuntimeError> {
        let staging = self.dirs.runtimes().join(format!(".uv-{}", uuid::Uuid::new_v4().simple()));
        let prepare = |source| RuntimeError::Prepare { what: "uv".to_owned(), path: staging.clone(), source };
        fs::create_dir_all(staging.join("bin")).map_err(prepare)?;
        let filled = self.fill_uv(&staging);
        let finished = filled.and_then(|version| {
            let id = format!("uv-{version}");
            self.install(&id, |place| {
                fs::create_dir_all(place.join("bin")).map_err(prepare)?;
                fs::rename(staging.join("bin/uv"), place.join("bin/uv")).map_err(prepare)
            })?;
            Ok(id)
        });
        drop(fs::remove_dir_all(&staging));
        finished
    }

    fn fill_uv(&mut self, staging: &std::path::Path) -> Result<Version, RuntimeError> {
        let prepare = |source| RuntimeError::Prepare { what: "uv".to_owned(), path: staging.to_owned(), source };
        let binary = staging.join("bin/uv");
        if let Some(installed) = self.host.tool("uv") {
            fs::copy(installed, &binary).map_err(prepare)?;
        } else {
            (self.log)("Fetching uv");
            let wheel = staging.join("wheel");
            fs::create_dir_all(&wheel).map_err(prepare)?;
            self.fetch_wheel("uv", &wheel)?;
            let mut folders = fs::read_dir(&wheel).map_err(prepare)?.filter_map(Result::ok).map(|entry| entry.path());
            let scripts = folders.find(|path| path.extension().is_some_and(|extension| extension == "data"));
            let packed = scripts.unwrap_or_default().join("scripts/uv");
            fs::rename(packed, &binary).map_err(prepare)?;
        }
        fs::set_permissions(&binary, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(prepare)?;
        let said = self.client("uv", &binary, &["--version"], staging, &std::collections::BTreeMap::new())?;
        version_in(&said).ok_or_else(|| prepare(std::io::ErrorKind::InvalidData.into()))
    }
}
