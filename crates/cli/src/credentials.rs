//! The token file: `credentials.toml`, one table by server address, readable by its owner only.
//!
//! ```toml
//! default = "http://localhost:5000"
//!
//! [hosts."http://localhost:5000"]
//! token = "…"
//! ca = "/path/to/ca.pem"
//! ```
//!
//! Written by `berth login` and by the first start of a server, for the user who called it, under sudo too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::state_file::{self, StateFileError};

#[derive(Debug, Error)]
pub enum CredentialsError {
    #[error("there is no home directory; set HOME, or XDG_CONFIG_HOME, or BERTH_API_KEY")]
    NoHome,
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not valid; correct it, or delete it and log in again", path.display())]
    Format {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("cannot make {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the credentials")]
    Write(#[from] StateFileError),
    #[error("cannot write the credentials")]
    Serialize(#[from] toml::ser::Error),
}

/// What is known about one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    pub token: Secret<String>,
    /// The certificate authority to trust instead of the public ones.
    pub ca: Option<PathBuf>,
}

/// All servers this user has logged in to, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub default: Option<String>,
    pub hosts: BTreeMap<String, Credential>,
}

/// The form on disk.
#[derive(Serialize, Deserialize)]
struct File {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default)]
    hosts: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
}

/// The user for whom a file is written: whoever called, also through sudo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOwner {
    /// `…/berth/credentials.toml`
    pub path: PathBuf,
    /// User and group to give the file to, when that is not the running user.
    pub chown_to: Option<(u32, u32)>,
}

/// Stores a token under an address and makes that server the default, for the user who called.
pub fn store(url: &str, token: &str, ca: Option<&Path>) -> Result<PathBuf, CredentialsError> {
    let owner = owner()?;
    let mut credentials = read_from(&owner.path)?;
    let credential = Credential { token: Secret::new(token.to_owned()), ca: ca.map(Path::to_owned) };
    credentials.hosts.insert(url.to_owned(), credential);
    credentials.default = Some(url.to_owned());
    write_to(&owner, &credentials)?;
    Ok(owner.path)
}

/// Keeps the authorities of a server in a file beside the credentials, and gives its path.
pub(crate) fn keep_authorities(server: &str, pem: &str) -> Result<PathBuf, CredentialsError> {
    let owner = owner()?;
    // A colon would separate files where programs take several.
    let path = owner.path.with_file_name(format!("authorities-of-{}.pem", server.replace(':', "_")));
    write_private(&FileOwner { path: path.clone(), ..owner }, pem)?;
    Ok(path)
}

/// Reads the file of the user who called; empty where there is none.
pub fn read() -> Result<Credentials, CredentialsError> {
    read_from(&owner()?.path)
}

pub fn read_from(path: &Path) -> Result<Credentials, CredentialsError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Credentials::default()),
        Err(source) => return Err(CredentialsError::Read { path: path.to_owned(), source }),
    };
    let file: File = toml::from_str(&text).map_err(|mut source: toml::de::Error| {
        // Its message would quote the line, and the line may be the token's.
        source.set_input(None);
        CredentialsError::Format { path: path.to_owned(), source: Box::new(source) }
    })?;
    let hosts = file.hosts.into_iter();
    let hosts = hosts.map(|(url, entry)| (url, Credential { token: Secret::new(entry.token), ca: entry.ca }));
    Ok(Credentials { default: file.default, hosts: hosts.collect() })
}

/// Writes the whole file: 0600, complete or not at all.
pub fn write_to(owner: &FileOwner, credentials: &Credentials) -> Result<(), CredentialsError> {
    let hosts = credentials.hosts.iter();
    let hosts = hosts.map(|(url, credential)| {
        (url.clone(), Entry { token: credential.token.expose().clone(), ca: credential.ca.clone() })
    });
    let text = toml::to_string(&File { default: credentials.default.clone(), hosts: hosts.collect() })?;
    write_private(owner, &text)
}

fn write_private(owner: &FileOwner, text: &str) -> Result<(), CredentialsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CredentialsError::Directory { path, source }
    };
    if let Some(directory) = owner.path.parent() {
        for made in make_directories(directory).map_err(failed(directory))? {
            give(&made, owner.chown_to).map_err(failed(&made))?;
        }
    }
    state_file::write_bytes(&owner.path, text.as_bytes())?;
    give(&owner.path, owner.chown_to).map_err(failed(&owner.path))
}

/// Makes what is missing of a path, private to the user, and says which directories it made.
fn make_directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    Ok(missing)
}

fn give(path: &Path, to: Option<(u32, u32)>) -> io::Result<()> {
    to.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
}

/// Whose file it is, from the environment.
fn owner() -> Result<FileOwner, CredentialsError> {
    let is_root = rustix::process::geteuid().is_root();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    owner_from(&|name| std::env::var_os(name), is_root, &passwd).ok_or(CredentialsError::NoHome)
}

fn owner_from(variable: &dyn Fn(&str) -> Option<OsString>, is_root: bool, passwd: &str) -> Option<FileOwner> {
    let number = |name: &str| variable(name)?.to_str()?.parse::<u32>().ok();
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caller = number("SUDO_UID").zip(number("SUDO_GID")).filter(|(user, _group)| is_root && *user != 0);
    // Under sudo HOME is root's, so the caller's is looked up. sudo drops XDG_CONFIG_HOME unless it was told to keep it.
    let home = match caller {
        Some((user, _group)) => home_of(passwd, user).or_else(|| absolute("HOME")),
        None => absolute("HOME"),
    };
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(home?.join(".config")))?;
    Some(FileOwner { path: directory.join("berth/credentials.toml"), chown_to: caller })
}

fn home_of(passwd: &str, user: u32) -> Option<PathBuf> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse::<u32>().ok()? == user).then(|| fields.get(5).map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n";

    fn check_owner(variables: &[(&str, &str)], is_root: bool, expect: Option<(&str, Option<(u32, u32)>)>) {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let expect = expect.map(|(path, chown_to)| FileOwner { path: path.into(), chown_to });
        assert_eq!(owner_from(&variable, is_root, PASSWD), expect, "{variables:?}");
    }

    #[test]
    fn the_file_belongs_to_the_user_who_called() {
        check_owner(&[("HOME", "/home/ann")], false, Some(("/home/ann/.config/berth/credentials.toml", None)));
        let xdg = [("HOME", "/home/ann"), ("XDG_CONFIG_HOME", "/c")];
        check_owner(&xdg, false, Some(("/c/berth/credentials.toml", None)));
        check_owner(&[("HOME", "/root")], true, Some(("/root/.config/berth/credentials.toml", None)));
        let sudo = [("HOME", "/root"), ("SUDO_UID", "1000"), ("SUDO_GID", "1000")];
        check_owner(&sudo, true, Some(("/home/ann/.config/berth/credentials.toml", Some((1000, 1000)))));
        let kept = [&sudo[..], &[("XDG_CONFIG_HOME", "/demo")]].concat();
        check_owner(&kept, true, Some(("/demo/berth/credentials.toml", Some((1000, 1000)))));
        // The variables of sudo mean nothing to somebody who is not root.
        check_owner(&sudo, false, Some(("/root/.config/berth/credentials.toml", None)));
        check_owner(&[], false, None);
    }

    #[test]
    fn what_is_written_is_read_back_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let owner = FileOwner { path: dir.path().join("a/berth/credentials.toml"), chown_to: None };
        let mut credentials = Credentials { default: Some("http://localhost:5000".to_owned()), ..Default::default() };
        let credential =
            Credential { token: Secret::new("tok\"en".to_owned()), ca: Some(PathBuf::from("/data/ca/ca.pem")) };
        credentials.hosts.insert("http://localhost:5000".to_owned(), credential);
        write_to(&owner, &credentials).unwrap();
        assert_eq!(read_from(&owner.path).unwrap(), credentials);
        assert_eq!(fs::metadata(&owner.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_written_by_root_belongs_to_the_caller_of_sudo() {
        if !rustix::process::geteuid().is_root() {
            // Only root can give a file away; the choice of the owner is tested above.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = FileOwner { path: dir.path().join("config/berth/credentials.toml"), chown_to: Some((1234, 1235)) };
        write_to(&owner, &Credentials::default()).unwrap();
        for path in ["config", "config/berth", "config/berth/credentials.toml"] {
            let metadata = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235), "{path}");
        }
        assert_ne!(fs::metadata(dir.path()).unwrap().uid(), 1234);
    }

    #[test]
    fn a_damaged_file_is_an_error_that_does_not_show_the_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials.toml");
        fs::write(&path, "[hosts.\"http://localhost:5000\"]\ntoken = hunter2\n").unwrap();
        let error = read_from(&path).unwrap_err();
        assert!(matches!(error, CredentialsError::Format { .. }));
        assert!(!crate::output::chain(&error).contains("hunter2"), "{}", crate::output::chain(&error));
    }
}
