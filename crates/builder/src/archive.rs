//! Unpacks archives from strangers: tar, tar.gz, tar.zst and zip.
//!
//! Whatever the bytes are, nothing is written outside the destination, and names, links, entries and bytes are bounded.
//! Modification times are kept (they are what makes a build repeatable), owners and set-id bits are not.

use std::fs::{File, FileTimes};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::beneath::Beneath;

mod tape;
mod zipped;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries_max: u64,
    /// Of all files together, unpacked.
    pub bytes_max: u64,
}

impl Limits {
    /// A source archive: generous for a repository with vendored dependencies.
    pub const SOURCE: Self = Self { entries_max: 200_000, bytes_max: 2 << 30 };
    /// A slug: twice what may be made here, because limits differ between installations.
    pub const SLUG: Self = Self { entries_max: 1_000_000, bytes_max: 4 << 30 };
}

/// Longest path of an entry, in bytes; Linux's own limit.
pub const PATH_BYTES_MAX: usize = 4096;

/// Which symbolic links an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Only those that stay in the tree: a source.
    WithinTree,
    /// Any: a slug, whose interpreter is linked from `/opt/berth/runtimes`. Nothing outside the sandbox follows them.
    Anywhere,
}

/// What to do with the single folder that some hosts wrap a repository in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopFolder {
    Keep,
    Strip,
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub limits: Limits,
    pub links: Links,
    pub top_folder: TopFolder,
}

impl Options {
    pub const SOURCE: Self = Self { limits: Limits::SOURCE, links: Links::WithinTree, top_folder: TopFolder::Keep };
    pub const SLUG: Self = Self { limits: Limits::SLUG, links: Links::Anywhere, top_folder: TopFolder::Keep };
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    pub entries: u64,
    pub bytes: u64,
    /// The newest modification time, in seconds since 1970.
    pub newest: u64,
}

#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("the archive is neither tar, tar.gz, tar.zst nor zip")]
    UnknownFormat,
    #[error("the archive is empty")]
    Empty,
    #[error("the archive ends in the middle: it was cut off on its way, send it again")]
    Truncated,
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    #[error("the archive holds {0:?}, whose path leads out of the tree")]
    PathLeavesTree(String),
    #[error("the archive holds the link {path:?} to {target:?}, which leads out of the tree")]
    LinkLeavesTree { path: String, target: String },
    #[error("the archive holds {path:?}, which is a {kind}; only files, directories and links are accepted")]
    Special { path: String, kind: &'static str },
    #[error("the archive holds a path longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong,
    #[error("the archive holds more than {0} entries")]
    TooManyEntries(u64),
    #[error("the archive unpacks to more than {} MiB", .0 >> 20)]
    TooLarge(u64),
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
}

/// Unpacks `archive` into `destination`, an empty directory. On an error what was unpacked so far stays there.
pub fn unpack(archive: &mut File, destination: &Path, options: &Options) -> Result<Unpacked, ArchiveError> {
    let mut magic = Vec::new();
    archive.by_ref().take(512).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
    archive.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
    let root =
        Beneath::open(destination).map_err(|source| ArchiveError::Write { path: destination.to_owned(), source })?;
    let sink = Sink { root, options: *options, unpacked: Unpacked::default() };
    match magic.as_slice() {
        [] => Err(ArchiveError::Empty),
        [0x1f, 0x8b, ..] => tape::unpack(flate2::read::MultiGzDecoder::new(io::BufReader::new(archive)), sink),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::new(archive).map_err(ArchiveError::Read)?;
            decoder.window_log_max(27).map_err(ArchiveError::Read)?;
            tape::unpack(decoder, sink)
        }
        [b'P', b'K', 3 | 5, 4 | 6, ..] => zipped::unpack(archive, sink),
        block if block.get(257..262) == Some(b"ustar") => tape::unpack(io::BufReader::new(archive), sink),
        // An empty tar is two blocks of zeros.
        block if block.len() == 512 && block.iter().all(|&byte| byte == 0) => Err(ArchiveError::Empty),
        _ => Err(ArchiveError::UnknownFormat),
    }
}

/// Where entries of any format go: the one place that checks names and limits.
struct Sink {
    root: Beneath,
    options: Options,
    unpacked: Unpacked,
}

impl Sink {
    /// The path below the root, or `None` for the root itself. Counts the entry.
    fn admit(&mut self, name: &[u8]) -> Result<Option<PathBuf>, ArchiveError> {
        self.unpacked.entries += 1;
        if self.unpacked.entries > self.options.limits.entries_max {
            return Err(ArchiveError::TooManyEntries(self.options.limits.entries_max));
        }
        Ok(self.relative(name)?.filter(|path| !path.as_os_str().is_empty()))
    }

    fn relative(&self, name: &[u8]) -> Result<Option<PathBuf>, ArchiveError> {
        use std::os::unix::ffi::OsStrExt as _;

        if name.len() > PATH_BYTES_MAX {
            return Err(ArchiveError::PathTooLong);
        }
        let leaves = || ArchiveError::PathLeavesTree(String::from_utf8_lossy(name).into_owned());
        if name.contains(&0) {
            return Err(leaves());
        }
        let mut path = PathBuf::new();
        for component in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(leaves()),
            }
        }
        Ok(match self.options.top_folder {
            TopFolder::Keep => Some(path),
            TopFolder::Strip => {
                let mut components = path.components();
                components.next().map(|_top| components.as_path().to_owned())
            }
        })
    }

    fn directory(&mut self, path: &Path) -> Result<(), ArchiveError> {
        self.root.directory(path).map_err(written(path))
    }

    fn file(&mut self, path: &Path, mode: u32, modified: u64, content: impl Read) -> Result<(), ArchiveError> {
        let mut file = self.root.create(path, mode).map_err(written(path))?;
        let left = self.options.limits.bytes_max - self.unpacked.bytes;
        let copied = copy(&mut content.take(left + 1), &mut file, path)?;
        if copied > left {
            return Err(ArchiveError::TooLarge(self.options.limits.bytes_max));
        }
        self.unpacked.bytes += copied;
        // A time beyond 2100 is a mistake of the packer's and would only confuse caches.
        let modified = modified.min(4_102_444_800);
        self.unpacked.newest = self.unpacked.newest.max(modified);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
        file.set_times(FileTimes::new().set_modified(time).set_accessed(time)).map_err(written(path))
    }

    fn symlink(&mut self, path: &Path, target: &[u8]) -> Result<(), ArchiveError> {
        use std::os::unix::ffi::OsStrExt as _;

        let target_path = Path::new(std::ffi::OsStr::from_bytes(target));
        let broken = target.is_empty() || target.contains(&0) || target.len() >= PATH_BYTES_MAX;
        if broken || (self.options.links == Links::WithinTree && !stays_within(path, target_path)) {
            return Err(ArchiveError::LinkLeavesTree {
                path: path.display().to_string(),
                target: target_path.display().to_string(),
            });
        }
        self.root.symlink(target_path, path).map_err(written(path))
    }

    fn hard_link(&mut self, path: &Path, target: &[u8]) -> Result<(), ArchiveError> {
        let existing = self.relative(target)?.unwrap_or_default();
        self.root.hard_link(&existing, path).map_err(written(path))
    }
}

/// Copies with reading and writing errors kept apart: the one is the archive's fault, the other the disk's.
fn copy(content: &mut impl Read, file: &mut File, path: &Path) -> Result<u64, ArchiveError> {
    use std::io::Write as _;

    let mut buffer = [0; 64 * 1024];
    let mut copied = 0;
    loop {
        let count = content.read(&mut buffer).map_err(damaged)?;
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { return Ok(copied) };
        file.write_all(chunk).map_err(written(path))?;
        copied += chunk.len() as u64;
    }
}

/// Whether a link at `path`, resolved by its text alone, never climbs above the root.
fn stays_within(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::Write { path: path.to_owned(), source }
}

fn damaged(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated,
        // zstd's decoder says a cut-off frame so.
        _ if error.to_string().contains("incomplete frame") => ArchiveError::Truncated,
        _ => ArchiveError::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
