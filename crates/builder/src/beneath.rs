//! File operations below one directory that no path and no symbolic link can lead out of.
//!
//! Every component is opened from the descriptor of its parent without following links, so that an archive which
//! first creates a link and then writes "through" it gets an error instead of a file elsewhere.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory that operations stay below.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    /// The parent of the last entry: archives list a directory's files one after the other.
    last_parent: Option<(PathBuf, OwnedFd)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Beneath {
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
        Ok(Self { root, last_parent: None })
    }

    /// Makes a directory with its parents; one that exists is fine.
    pub fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.last_parent = None;
        open_directories(&self.root, path).map(|_directory| ())
    }

    /// Creates a file, replacing what stands there unless it is a directory.
    pub fn create(&mut self, path: &Path, mode: u32) -> io::Result<File> {
        let name = file_name(path)?;
        let parent = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o777 | 0o600);
        replacing(&parent, name, || rustix::fs::openat(&parent, name, flags, mode)).map(File::from)
    }

    pub fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        let name = file_name(path)?;
        let parent = self.parent(path)?;
        replacing(&parent, name, || rustix::fs::symlinkat(target, &parent, name))
    }

    /// Makes `path` another name of the regular file `existing`, which must be below this directory already.
    pub fn hard_link(&mut self, existing: &Path, path: &Path) -> io::Result<()> {
        let existing_parent = open_parent(&self.root, existing)?;
        let existing_name = file_name(existing)?;
        let stat = rustix::fs::statat(&existing_parent, existing_name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the target of the hard link is not a file"));
        }
        let name = file_name(path)?;
        let parent = self.parent(path)?;
        replacing(&parent, name, || {
            rustix::fs::linkat(&existing_parent, existing_name, &parent, name, AtFlags::empty())
        })
    }

    fn parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let wanted = path.parent().unwrap_or(Path::new(""));
        if let Some((known, directory)) = &self.last_parent
            && known == wanted
        {
            return directory.as_fd().try_clone_to_owned();
        }
        let directory = open_directories(&self.root, wanted)?;
        self.last_parent = Some((wanted.to_owned(), directory.as_fd().try_clone_to_owned()?));
        Ok(directory)
    }
}

/// Reads a regular file below `root`, following links only while they stay below it; `None` where there is none.
/// At most `bytes_max` bytes are accepted: a longer file is an error of kind `FileTooLarge`.
pub fn read(root: &Path, path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let directory = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(&directory, path, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        // A link out of the tree (EXDEV) or in a circle is no file of the tree's.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

fn file_name(path: &Path) -> io::Result<&std::ffi::OsStr> {
    path.file_name().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn open_parent(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    open_directories(root, path.parent().unwrap_or(Path::new("")))
}

fn open_directories(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut directory = root.as_fd().try_clone_to_owned()?;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        directory = match rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755))?;
                rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty())?
            }
            opened => opened?,
        };
    }
    Ok(directory)
}

/// Runs `make`, once more after removing a file or link that stands in its way.
fn replacing<T>(parent: &OwnedFd, name: &std::ffi::OsStr, make: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Ok(make()?)
        }
        made => Ok(made?),
    }
}
