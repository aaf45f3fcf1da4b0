//! Python interpreters.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Provided, RuntimeError, Runtimes, copy, version_in};
use crate::version::{ResolveError, Version, Wanted, resolve};

/// uv makes environments for `CPython` from this version on.
const OLDEST: Version = Version::new(3, 6, 0);

/// What the names of its directories begin with.
const KIND: &str = "cpython";

enum Origin {
    Present(String),
    Manager(PathBuf),
    Userland,
}

impl Runtimes<'_> {
    pub fn python(&mut self, wanted: &Wanted, uv: &Path) -> Result<Provided, RuntimeError> {
        let present: Vec<(Version, Origin)> =
            self.present(KIND).into_iter().map(|(version, id)| (version, Origin::Present(id))).collect();
        if present.iter().any(|(version, _origin)| wanted.admits(*version)) {
            return self.provide_python(wanted, present);
        }
        let mut candidates = present;
        candidates.extend(self.installed_pythons());
        let exact = candidates.iter().any(|(version, _origin)| version.to_string() == wanted.text);
        if !exact && let Some((version, id)) = self.download_python(wanted, uv)? {
            candidates.push((version, Origin::Present(id)));
        }
        self.provide_python(wanted, candidates)
    }

    fn provide_python(
        &mut self,
        wanted: &Wanted,
        candidates: Vec<(Version, Origin)>,
    ) -> Result<Provided, RuntimeError> {
        let versions: Vec<Version> = candidates.iter().map(|(version, _origin)| *version).collect();
        let resolution = match resolve("Python", wanted, &versions) {
            // Nobody asked for this default: the newest that is here does as well.
            Err(ResolveError::NotAvailable { .. }) if wanted.source.is_empty() => {
                resolve("Python", &Wanted::parse("*", ""), &versions)?
            }
            resolved => resolved?,
        };
        if let Some(note) = &resolution.note {
            (self.log)(note);
        }
        let chosen = candidates.into_iter().find(|(version, _origin)| *version == resolution.version);
        match chosen {
            Some((version, Origin::Present(id))) => Ok(self.provided(version, id)),
            Some((version, Origin::Manager(prefix))) => {
                let id = self.copy_python(version, &prefix)?;
                Ok(self.provided(version, id))
            }
            Some((version, Origin::Userland)) => Ok(Self::userland(version)),
            None => Err(ResolveError::NoneAtAll { language: "Python" }.into()),
        }
    }

    /// Version managers first, Debian's last: theirs come with headers and a whole standard library.
    fn installed_pythons(&self) -> Vec<(Version, Origin)> {
        let pyenv =
            self.host.environment.get("PYENV_ROOT").map_or_else(|| self.host.home.join(".pyenv"), PathBuf::from);
        let folders = [
            pyenv.join("versions"),
            self.host.home.join(".asdf/installs/python"),
            self.host.home.join(".local/share/mise/installs/python"),
        ];
        let mut found = Vec::new();
        for entry in folders.iter().flat_map(fs::read_dir).flatten().filter_map(Result::ok) {
            let version = entry.file_name().to_str().and_then(Version::parse);
            if let Some(version) = version.filter(|&version| version >= OLDEST)
                && entry.path().join("bin/python3").exists()
            {
                found.push((version, Origin::Manager(entry.path())));
            }
        }
        let debian = Path::new("/usr/bin/python3");
        if debian.exists()
            && let Ok(said) = self.client("python3", debian, &["--version"], Path::new("/"), &BTreeMap::new())
            && let Some(version) = version_in(&said)
        {
            found.push((version, Origin::Userland));
        }
        found
    }

    /// `None` where nothing can be downloaded, which is normal in a closed network without a mirror.
    fn download_python(&mut self, wanted: &Wanted, uv: &Path) -> Result<Option<(Version, String)>, RuntimeError> {
        let request = wanted.series().unwrap_or_else(|| wanted.text.replace(' ', ","));
        let staging = self.dirs.runtimes().join(format!(".python-{}", uuid::Uuid::new_v4().simple()));
        let prepare = |source| RuntimeError::Prepare { what: "Python".to_owned(), path: staging.clone(), source };
        fs::create_dir_all(&staging).map_err(prepare)?;
        let settings = [
            ("UV_HTTP_TIMEOUT", "60"),
            ("UV_HTTP_RETRIES", "0"),
            ("UV_NO_CONFIG", "1"),
            ("UV_PYTHON_DOWNLOADS", "manual"),
        ];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let place = staging.display().to_string();
        let arguments = ["python", "install", "--no-bin", "--install-dir", &place, &request];
        let fetched = self.client(&format!("Python {request}"), uv, &arguments, Path::new("/"), &settings);
        let installed = fetched.is_ok().then(|| {
            let mut entries = fs::read_dir(&staging).ok()?.filter_map(Result::ok).map(|entry| entry.path());
            let prefix =
                entries.find(|path| path.is_dir() && !path.is_symlink() && path.join("bin/python3").exists())?;
            let version = version_in(prefix.file_name()?.to_str()?)?;
            Some((version, prefix))
        });
        let result = match installed.flatten() {
            Some((version, prefix)) => self.copy_python(version, &prefix).map(|id| Some((version, id))),
            None => Ok(None),
        };
        drop(fs::remove_dir_all(&staging));
        if let Err(RuntimeError::Fetch { output, .. }) = fetched {
            tracing::debug!(python.version = %request, reason = %output, "No Python can be downloaded");
        }
        result
    }

    /// Copies the interpreter, its standard library and headers; nothing that somebody installed into it.
    fn copy_python(&mut self, version: Version, prefix: &Path) -> Result<String, RuntimeError> {
        let name = format!("python{}.{}", version.major, version.minor);
        let prepare = |source| RuntimeError::Prepare { what: name.clone(), path: prefix.to_owned(), source };
        let binary = fs::read(prefix.join("bin").join(&name)).map_err(prepare)?;
        let digest = Sha256::digest(&binary);
        let tag: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let id = format!("{KIND}-{version}-{tag}");
        if self.dirs.runtimes().join(&id).exists() {
            return Ok(id);
        }
        (self.log)(&format!("Installing Python {version}"));
        self.install(&id, |place| {
            copy::tree(prefix, place, |path| skipped(path, &name)).map_err(prepare)?;
            let library_path = prefix.join("lib");
            copy::relocate_library_path(&place.join("bin").join(&name), &library_path).map_err(prepare)?;
            for entry in fs::read_dir(place.join("lib")).map_err(prepare)?.filter_map(Result::ok) {
                let path = entry.path();
                if path.to_string_lossy().contains(".so") && !path.is_symlink() {
                    copy::relocate_library_path(&path, &library_path).map_err(prepare)?;
                }
            }
            Ok(())
        })?;
        Ok(id)
    }
}

fn skipped(path: &Path, name: &str) -> bool {
    let mut parts = path.iter().map(|part| part.to_string_lossy());
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    match (first.as_deref(), second.as_deref(), third.as_deref()) {
        (None, ..) => false,
        (Some("bin"), None, _) | (Some("lib" | "include"), None, _) => false,
        (Some("bin"), Some(binary), _) => binary != name && binary != "python3" && binary != "python",
        (Some("include"), ..) => false,
        (Some("lib"), Some(library), None) => library.ends_with(".a") || library == "pkgconfig",
        (Some("lib"), Some(library), Some(part)) if library == name => {
            // site-packages stays, as an empty directory.
            let contents = part == "site-packages" && path.iter().count() > 3;
            contents || matches!(part, "test" | "idlelib" | "turtledemo") || path.extension().is_some_and(|e| e == "a")
        }
        (Some("lib"), ..) => false,
        _ => true,
    }
}
