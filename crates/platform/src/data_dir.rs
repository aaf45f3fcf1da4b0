//! The data directory: layout, keys, the instance's name, and the lock that makes its holder the server.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{FlockOperation, flock};
use wire::state_file;

use crate::arguments::DataDirOption;

/// An existing, complete data directory.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    /// Eight hex digits that mark every host-global name of this installation.
    pub(crate) instance: String,
}

const DIRECTORIES: [&str; 12] =
    ["builds", "ca", "cache", "drains", "logs", "repos", "router", "run", "runtimes", "slugs", "sources", "buildpacks"];

impl DataDir {
    /// Opens the directory that was asked for, or the usual one, making what is missing.
    pub(crate) fn open(option: &DataDirOption) -> Result<Self> {
        let path = match &option.data_dir {
            Some(path) => std::path::absolute(path)?,
            None => usual()?,
        };
        let making = || format!("cannot make the data directory {}; choose another with --data-dir", path.display());
        if !path.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(&path).with_context(making)?;
            // Sandboxed uids and the router must reach what is below it, by name only, whatever the umask is.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).with_context(making)?;
        }
        for name in DIRECTORIES {
            let mode = if matches!(name, "slugs" | "runtimes" | "run" | "cache" | "builds") { 0o711 } else { 0o700 };
            let directory = path.join(name);
            fs::DirBuilder::new().recursive(true).mode(mode).create(&directory).with_context(making)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).with_context(making)?;
        }
        // The certificate of our authority is public.
        fs::set_permissions(path.join("ca"), fs::Permissions::from_mode(0o711)).with_context(making)?;
        let instance = instance_id(&path.join("instance-id"))?;
        Ok(Self { path, instance })
    }

    /// Takes the lock that only one server of this directory can hold. Released when the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        self.lock_file("lock")?.with_context(|| {
            let path = self.path.display();
            format!("another Berth server uses {path} already; stop it first, or choose another --data-dir")
        })
    }

    /// Takes the lock that only one `berth up` of this directory can hold.
    pub(crate) fn supervisor_lock(&self) -> Result<File> {
        self.lock_file("up.lock")?.with_context(|| {
            let path = self.path.display();
            format!("Berth is up already with its data in {path}: use it, or choose another --data-dir")
        })
    }

    /// `None` if somebody else holds it.
    fn lock_file(&self, name: &str) -> Result<Option<File>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
    }

    /// The key that secrets in the database are encrypted with, made at the first start.
    pub(crate) fn master_key(&self) -> Result<[u8; 32]> {
        let path = self.path.join("master.key");
        if !path.exists() {
            if self.path.join("berth.db").exists() {
                bail!("{} is missing: without it nothing secret in berth.db can be read. Restore it", path.display());
            }
            make_key(&path)?;
        }
        read_key(&path)
    }

    /// The secret that clients know this server by when they speak SSH, made at the first start.
    pub(crate) fn ssh_host_key(&self) -> Result<[u8; 32]> {
        let path = self.path.join("ssh-host.key");
        if !path.exists() {
            make_key(&path)?;
        }
        read_key(&path)
    }
}

fn make_key(path: &Path) -> Result<()> {
    let mut key = [0; 32];
    random(&mut key)?;
    Ok(state_file::write_bytes(path, &key)?)
}

fn read_key(path: &Path) -> Result<[u8; 32]> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    <[u8; 32]>::try_from(bytes.as_slice()).ok().with_context(|| format!("{} must hold 32 bytes", path.display()))
}

/// A secret for signing URLs, derived so that it is as lasting as the master key and useless for anything else.
pub(crate) fn url_secret(master_key: &[u8; 32]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, master_key);
    hmac::sign(&key, b"signed URLs").as_ref().to_vec()
}

fn usual() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/berth"));
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("neither XDG_DATA_HOME nor HOME is set; name a directory with --data-dir")?.join("berth"))
}

fn instance_id(path: &Path) -> Result<String> {
    if let Ok(text) = fs::read_to_string(path) {
        let id = text.trim().to_owned();
        let well_formed = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !well_formed {
            bail!("{} must hold eight hex digits; delete it to have a new one made", path.display());
        }
        return Ok(id);
    }
    let mut bytes = [0; 4];
    random(&mut bytes)?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Router and server may start at the same time: the first file stands.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    state_file::write_bytes(&temporary, id.as_bytes())?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).with_context(|| format!("cannot remove {}", temporary.display()))?;
    match linked {
        Ok(()) => Ok(id),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => instance_id(path),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

fn random(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new().fill(bytes).ok().context("the system gives no random bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_users_can_pass_through_a_new_one_whatever_the_umask_is() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let parent = tempfile::tempdir().unwrap();
        let data_dir = Some(parent.path().join("data"));
        let made = DataDir::open(&DataDirOption { data_dir }).unwrap();
        for directory in ["", "run", "slugs", "runtimes"] {
            let mode = fs::metadata(made.path.join(directory)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o711, "{directory}");
        }
    }
}
