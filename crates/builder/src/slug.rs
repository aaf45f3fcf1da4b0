//! A built app: an archive with its digest, the same tree unpacked, and the manifest. Immutable once it has its name.
//!
//! ```text
//! slugs/<sha256 of the archive>/{slug.tar.zst, manifest.json, app/}
//! ```
//!
//! Packing walks in the order of names, with owners made equal and the build's own times clamped, so that the same
//! source built twice is the same slug. The archive holds the manifest too, so that its digest covers it: the same tree
//! with other process types or defaults is another slug.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use domain::name::{ConfigKey, ProcessType};
use thiserror::Error;
use wire::build::{MANIFEST_FILE, Manifest};
use wire::state_file;

use crate::archive::{self, ArchiveError};
use crate::dirs::{DataDirs, is_plain_name, temporary_neighbour};

mod pack;

pub const ARCHIVE_FILE: &str = "slug.tar.zst";
pub const TREE: &str = "app";

/// Heroku's limit, in bytes of the archive.
pub const SLUG_BYTES_MAX: u64 = 500 * 1024 * 1024;

/// Bounds of what a manifest may say.
const PROCESS_TYPES_MAX: usize = 100;
const COMMAND_BYTES_MAX: usize = 16 * 1024;
const ENVIRONMENT_MAX: usize = 200;
const LIST_MAX: usize = 100;
const TEXT_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq)]
pub struct Slug {
    /// Of the archive, in hexadecimal: Heroku's `checksum` without its prefix.
    pub sha256: String,
    /// Of the archive.
    pub size_bytes: u64,
    pub manifest: Manifest,
}

#[derive(Debug, Error)]
pub enum SlugError {
    #[error("cannot {action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the slug is {} MB, more than the {} MB that are allowed; remove large files or list them in .slugignore", .size >> 20, .limit >> 20)]
    TooLarge { size: u64, limit: u64 },
    #[error("the build left no usable manifest: {0}")]
    Manifest(String),
    #[error("cannot unpack the slug")]
    Archive(#[source] ArchiveError),
    #[error("cannot keep the manifest")]
    State(#[source] state_file::StateFileError),
}

impl Slug {
    pub fn tree(&self, dirs: &DataDirs) -> PathBuf {
        dirs.slugs().join(&self.sha256).join(TREE)
    }

    pub fn archive(&self, dirs: &DataDirs) -> PathBuf {
        dirs.slugs().join(&self.sha256).join(ARCHIVE_FILE)
    }
}

/// Turns the tree `app` into a slug and moves it to its place. `source_date` is what build times are clamped to.
pub fn make(
    dirs: &DataDirs,
    app: &Path,
    manifest: Manifest,
    source_date: u64,
    size_bytes_max: u64,
) -> Result<Slug, SlugError> {
    let slugs = dirs.slugs();
    let staging = temporary_neighbour(&slugs.join("new"));
    let fail = |action| move |path: &Path, source| SlugError::Io { action, path: path.to_owned(), source };
    fs::create_dir_all(&staging).map_err(|source| fail("make")(&staging, source))?;
    let packed = serde_json::to_vec(&manifest)
        .map_err(|error| SlugError::Manifest(error.to_string()))
        .and_then(|text| pack::pack(app, &text, &staging.join(ARCHIVE_FILE), source_date, size_bytes_max));
    let made = packed.and_then(|packed| {
        let slug = Slug { sha256: packed.sha256, size_bytes: packed.size_bytes, manifest };
        let place = slugs.join(&slug.sha256);
        if place.join(MANIFEST_FILE).exists() {
            return Ok(slug);
        }
        fs::rename(app, staging.join(TREE)).map_err(|source| fail("move")(app, source))?;
        state_file::write(&staging.join(MANIFEST_FILE), &slug.manifest).map_err(SlugError::State)?;
        match fs::rename(&staging, &place) {
            Err(_) if place.join(MANIFEST_FILE).exists() => Ok(slug),
            renamed => renamed.map(|()| slug).map_err(|source| fail("move")(&place, source)),
        }
    });
    if staging.exists() {
        drop(fs::remove_dir_all(&staging));
    }
    made
}

/// Makes a slug of an uploaded archive, which holds the app below `./app/`; `process_types` come with the request.
pub fn import(
    dirs: &DataDirs,
    upload: &mut File,
    process_types: BTreeMap<String, String>,
    size_bytes_max: u64,
) -> Result<Slug, SlugError> {
    let staging = temporary_neighbour(&dirs.slugs().join("upload"));
    let fail = |action: &'static str, path: &Path, source| SlugError::Io { action, path: path.to_owned(), source };
    fs::create_dir_all(&staging).map_err(|source| fail("make", &staging, source))?;
    let made = (|| {
        let unpacked = archive::unpack(upload, &staging, &archive::Options::SLUG).map_err(SlugError::Archive)?;
        let app = staging.join(TREE);
        let real = fs::symlink_metadata(&app).is_ok_and(|data| data.is_dir());
        if !real {
            return Err(SlugError::Manifest("the archive has no ./app/ directory".to_owned()));
        }
        let manifest = Manifest { process_types, ..Manifest::default() };
        make(dirs, &app, check_manifest(manifest, &[])?, unpacked.newest, size_bytes_max)
    })();
    drop(fs::remove_dir_all(&staging));
    made
}

/// The slug with this digest, if it is here whole.
pub fn find(dirs: &DataDirs, sha256: &str) -> Result<Option<Slug>, SlugError> {
    if !is_plain_name(sha256) {
        return Ok(None);
    }
    let place = dirs.slugs().join(sha256);
    let Some(manifest) = state_file::read(&place.join(MANIFEST_FILE)).map_err(SlugError::State)? else {
        return Ok(None);
    };
    let archive = place.join(ARCHIVE_FILE);
    let size_bytes =
        fs::metadata(&archive).map_err(|source| SlugError::Io { action: "read", path: archive, source })?.len();
    Ok(Some(Slug { sha256: sha256.to_owned(), size_bytes, manifest }))
}

/// Restores a slug's tree from its archive, after a restore of the platform that left unpacked trees out.
pub fn unpack(dirs: &DataDirs, sha256: &str) -> Result<(), SlugError> {
    let place = dirs.slugs().join(sha256);
    let fail = |action: &'static str, path: &Path, source| SlugError::Io { action, path: path.to_owned(), source };
    if !is_plain_name(sha256) || place.join(TREE).exists() {
        return Ok(());
    }
    let staging = temporary_neighbour(&place.join(TREE));
    fs::create_dir_all(&staging).map_err(|source| fail("make", &staging, source))?;
    let archive_path = place.join(ARCHIVE_FILE);
    let unpacked = File::open(&archive_path)
        .map_err(|source| fail("read", &archive_path, source))
        .and_then(|mut file| archive::unpack(&mut file, &staging, &archive::Options::SLUG).map_err(SlugError::Archive))
        .and_then(|_unpacked| {
            fs::rename(staging.join(TREE), place.join(TREE)).map_err(|source| fail("move", &place, source))
        });
    drop(fs::remove_dir_all(&staging));
    unpacked
}

/// Parses what an untrusted build says of its result. `runtimes` are those that the build was given.
pub fn check_manifest(manifest: Manifest, runtimes: &[String]) -> Result<Manifest, SlugError> {
    let refuse = |message: String| Err(SlugError::Manifest(message));
    if manifest.process_types.len() > PROCESS_TYPES_MAX {
        return refuse(format!("more than {PROCESS_TYPES_MAX} process types"));
    }
    for (name, command) in &manifest.process_types {
        if let Err(error) = ProcessType::parse(name) {
            return refuse(error.to_string());
        }
        if command.trim().is_empty() || command.len() > COMMAND_BYTES_MAX || command.contains('\0') {
            return refuse(format!("the command of process type {name} is empty or too long"));
        }
    }
    if manifest.environment.len() > ENVIRONMENT_MAX {
        return refuse(format!("more than {ENVIRONMENT_MAX} default variables"));
    }
    for (key, value) in &manifest.environment {
        if ConfigKey::parse(key).is_err() || value.len() > TEXT_BYTES_MAX || value.contains('\0') {
            return refuse(format!("the default variable {key:?} is not valid"));
        }
    }
    for list in [&manifest.languages, &manifest.path, &manifest.runtimes, &manifest.warnings] {
        if list.len() > LIST_MAX || list.iter().any(|text| text.len() > TEXT_BYTES_MAX || text.contains('\0')) {
            return refuse("a list is too long".to_owned());
        }
    }
    if manifest.path.iter().any(|directory| !directory.starts_with('/') || directory.contains(':')) {
        return refuse("a search path is not absolute".to_owned());
    }
    match manifest.runtimes.iter().find(|runtime| !runtimes.contains(runtime)) {
        Some(unknown) => refuse(format!("the runtime {unknown:?} was not given to the build")),
        None => Ok(manifest),
    }
}

fn readable_mode(mode: u32, directory: bool) -> fs::Permissions {
    fs::Permissions::from_mode(mode & 0o777 | if directory { 0o700 } else { 0o600 })
}

#[cfg(test)]
mod tests;
