//! What of the machine's own configuration builds may know: certificates, proxies and package indexes, by name.
//!
//! Everything else in the server's environment stays outside. Without the CA bundle uv and npm fail behind a private
//! certificate authority; without the proxy nothing is fetched at all.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

mod index_config;

/// Variables whose value is the path of a CA bundle. The file is copied to where the build sees it.
const CA_FILES: [&str; 7] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
    "GIT_SSL_CAINFO",
    "CURL_CA_BUNDLE",
];

/// Where Debian keeps the machine's bundle: what every variable above gets when only some of them are set, or none.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Variables that pass as they are.
const PASSED: [&str; 25] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_PYTHON_INSTALL_MIRROR",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "GOPROXY",
    "GOSUMDB",
    "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
];

/// The name of the copied bundle in the build's input directory.
const CA_FILE: &str = "ca-certificates.crt";

/// The machine as its configuration shows it.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub environment: BTreeMap<String, String>,
    pub home: PathBuf,
}

impl Host {
    pub fn current() -> Self {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = environment.get("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        Self { environment, home }
    }

    /// The environment of the outside's own package clients (uv, pip): what builds may know, with the host's paths.
    pub fn client_environment(&self) -> BTreeMap<String, String> {
        let names = PASSED.iter().chain(&CA_FILES).chain(&["SSL_CERT_DIR"]);
        let mut environment: BTreeMap<String, String> =
            names.filter_map(|&name| Some((name.to_owned(), self.environment.get(name)?.clone()))).collect();
        environment.insert("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
        environment.insert("HOME".to_owned(), self.home.display().to_string());
        environment.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        environment
    }

    /// Writes what a build needs of the machine's configuration into `input` and returns the variables that name it,
    /// with paths as the build sees them (`seen`).
    pub fn provide(&self, input: &Path, seen: &Path) -> io::Result<BTreeMap<String, String>> {
        let mut environment: BTreeMap<String, String> =
            PASSED.iter().filter_map(|&name| Some((name.to_owned(), self.environment.get(name)?.clone()))).collect();
        let configured = CA_FILES.iter().filter_map(|&name| self.environment.get(name)).map(PathBuf::from);
        let bundle = configured.chain([PathBuf::from(SYSTEM_BUNDLE)]).find_map(|path| fs::read(path).ok());
        if let Some(bundle) = bundle {
            write_readable(&input.join(CA_FILE), &bundle)?;
            let seen_bundle = seen.join(CA_FILE).display().to_string();
            environment.extend(CA_FILES.iter().map(|&name| (name.to_owned(), seen_bundle.clone())));
        }
        for (file, variable, text) in index_config::collect(self, &mut environment) {
            write_readable(&input.join(file), text.as_bytes())?;
            environment.insert(variable.to_owned(), seen.join(file).display().to_string());
        }
        Ok(environment)
    }

    /// An executable on the search path, passing over version managers' shims: they read the app's version files.
    pub fn tool(&self, name: &str) -> Option<PathBuf> {
        let path = self.environment.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        std::env::split_paths(path)
            .filter(|directory| directory.is_absolute() && !directory.ends_with("shims"))
            .map(|directory| directory.join(name))
            .find(|candidate| {
                candidate.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
            })
    }
}

fn write_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(variables: &[(&str, &str)]) -> Host {
        let environment = variables.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Host { environment, home: PathBuf::from("/nonexistent") }
    }

    #[test]
    fn only_named_variables_reach_a_build() {
        let input = tempfile::tempdir().unwrap();
        let host = host(&[("AWS_SECRET_ACCESS_KEY", "x"), ("HTTPS_PROXY", "http://proxy:3128"), ("PYTHONPATH", "/x")]);
        let environment = host.provide(input.path(), Path::new("/in")).unwrap();
        assert_eq!(environment.get("HTTPS_PROXY").map(String::as_str), Some("http://proxy:3128"));
        assert!(!environment.contains_key("AWS_SECRET_ACCESS_KEY") && !environment.contains_key("PYTHONPATH"));
    }

    #[test]
    fn a_private_bundle_is_copied_to_where_the_build_sees_it() {
        let input = tempfile::tempdir().unwrap();
        let bundle = input.path().join("private.pem");
        fs::write(&bundle, "certificates").unwrap();
        let host = host(&[("SSL_CERT_FILE", bundle.to_str().unwrap())]);
        let environment = host.provide(input.path(), Path::new("/in")).unwrap();
        assert_eq!(fs::read(input.path().join(CA_FILE)).unwrap(), b"certificates");
        for name in CA_FILES {
            assert_eq!(environment.get(name).map(String::as_str), Some("/in/ca-certificates.crt"), "{name}");
        }
    }

    #[test]
    fn shims_of_version_managers_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for part in ["shims", "bin"] {
            fs::create_dir(dir.path().join(part)).unwrap();
            let tool = dir.path().join(part).join("uv");
            fs::write(&tool, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{0}/shims:{0}/bin", dir.path().display());
        assert_eq!(host(&[("PATH", &path)]).tool("uv"), Some(dir.path().join("bin/uv")));
    }
}
