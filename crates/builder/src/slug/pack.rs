//! Packs a tree the same way each time.
//!
//! Times newer than the source's newest are set to that one (as `SOURCE_DATE_EPOCH` asks of packers), in the archive
//! and in the tree: what the build made would otherwise differ each time, and a constant for everything would tell
//! browsers that a changed file has not changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;
use wire::build::MANIFEST_FILE;

use super::{SlugError, TREE, readable_mode};

/// Fast and small enough: level 3 costs twice the time for a few percent.
const LEVEL: i32 = 1;
const SLUGIGNORE: &str = ".slugignore";

pub(super) struct Packed {
    pub sha256: String,
    pub size_bytes: u64,
}

/// Packs the tree `app` and its manifest into `archive`.
pub(super) fn pack(
    app: &Path,
    manifest: &[u8],
    archive: &Path,
    source_date: u64,
    size_max: u64,
) -> Result<Packed, SlugError> {
    let fail = |source| SlugError::Io { action: "write", path: archive.to_owned(), source };
    let ignored = ignored_names(app);
    let file = File::create_new(archive).map_err(fail)?;
    let mut encoder = zstd::Encoder::new(Measured::new(BufWriter::new(file)), LEVEL).map_err(fail)?;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
    // Always at least one: the multithreaded format is the same for any number of threads, but not for none.
    encoder.multithread(u32::try_from(threads).unwrap_or(1)).map_err(fail)?;
    encoder.include_checksum(true).map_err(fail)?;
    let mut tar = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(manifest.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(source_date);
    tar.append_data(&mut header, Path::new(".").join(MANIFEST_FILE), manifest).map_err(fail)?;
    let mut walk = WalkDir::new(app).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(app).to_owned();
            SlugError::Io { action: "read", path, source: error.into() }
        })?;
        let path = entry.path();
        let relative = path.strip_prefix(app).unwrap_or(path);
        let inside = Path::new(".").join(TREE).join(relative);
        let fail = |source| SlugError::Io { action: "pack", path: path.to_owned(), source };
        if entry.depth() == 1 && ignored.contains(entry.file_name()) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
                fs::remove_dir_all(path).map_err(fail)?;
            } else {
                fs::remove_file(path).map_err(fail)?;
            }
            continue;
        }
        append(&mut tar, path, &inside, source_date).map_err(fail)?;
        if tar.get_ref().get_ref().bytes > size_max {
            return Err(SlugError::TooLarge { size: tar.get_ref().get_ref().bytes, limit: size_max });
        }
    }
    let measured = tar.into_inner().and_then(zstd::Encoder::finish).map_err(fail)?;
    let Measured { inner, digest, bytes } = measured;
    let file = inner.into_inner().map_err(|error| fail(error.into_error()))?;
    file.sync_all().map_err(fail)?;
    if bytes > size_max {
        return Err(SlugError::TooLarge { size: bytes, limit: size_max });
    }
    let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Packed { sha256, size_bytes: bytes })
}

/// Brings one entry into the form that a slug has, on disk and in the archive. Sockets and pipes are removed.
fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, inside: &Path, source_date: u64) -> io::Result<()> {
    let data = fs::symlink_metadata(path)?;
    if rustix::process::geteuid().is_root() && (data.uid(), data.gid()) != (0, 0) {
        lchown(path, Some(0), Some(0))?;
    }
    let modified = u64::try_from(data.mtime()).unwrap_or(0);
    let clamped = modified.min(source_date);
    let kind = data.file_type();
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(clamped);
    if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        tar.append_link(&mut header, inside, fs::read_link(path)?)?;
    } else if kind.is_dir() {
        let permissions = readable_mode(data.mode(), true);
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode(&permissions));
        fs::set_permissions(path, permissions)?;
        tar.append_data(&mut header, inside, io::empty())?;
    } else if kind.is_file() {
        let permissions = readable_mode(data.mode(), false);
        header.set_mode(mode(&permissions));
        if mode(&permissions) != data.mode() & 0o7777 {
            fs::set_permissions(path, permissions)?;
        }
        header.set_size(data.len());
        let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        tar.append_data(&mut header, inside, File::from(file).take(data.len()))?;
    } else {
        return fs::remove_file(path);
    }
    if modified != clamped || data.mtime_nsec() != 0 {
        set_modified(path, clamped)?;
    }
    Ok(())
}

fn mode(permissions: &fs::Permissions) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(permissions)
}

fn set_modified(path: &Path, seconds: u64) -> io::Result<()> {
    let spec = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    let times = Timestamps { last_access: spec, last_modification: spec };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What never belongs to a slug, and the names in the root that `.slugignore` lists.
fn ignored_names(app: &Path) -> BTreeSet<OsString> {
    let listed = crate::beneath::read(app, Path::new(SLUGIGNORE), 64 * 1024).ok().flatten().unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let names = listed
        .lines()
        .map(|line| line.trim().trim_matches('/'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.chain([".git", SLUGIGNORE]).map(|name| PathBuf::from(name).into_os_string()).collect()
}

/// Counts and hashes what is written through it.
struct Measured<W> {
    inner: W,
    digest: Sha256,
    bytes: u64,
}

impl<W> Measured<W> {
    fn new(inner: W) -> Self {
        Self { inner, digest: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
