//! A directory as a source archive: what git would commit, minus what `.slugignore` leaves out.
//!
//! The same tree gives the same bytes: entries in order, owners and modes reduced to what a build may see, and one
//! modification time for all, as `git archive` does it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};
use tar::{EntryType, Header};
use thiserror::Error;

/// The time of files where there is no commit to take it from: 2000-01-01. Not 1970, which zip cannot express.
pub(crate) const DEFAULT_TIME: u64 = 946_684_800;

#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    #[error("{} is not a directory that can be read", .0.display())]
    NotADirectory(PathBuf),
    #[error("cannot list the files to deploy")]
    Walk(#[from] ignore::Error),
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} changed while it was read; try again when nothing writes to it", .0.display())]
    Changed(PathBuf),
    #[error("cannot write the archive")]
    Write(#[from] io::Error),
    #[error("there is nothing to deploy in {}: every file is ignored or there is none", .0.display())]
    Empty(PathBuf),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Archived {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Sockets, pipes and devices, which an archive of sources cannot hold.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Writes the archive of `directory`, as tar, to `out`.
pub(crate) fn write(directory: &Path, modified: u64, out: impl Write) -> Result<Archived, ArchiveError> {
    if !directory.is_dir() {
        return Err(ArchiveError::NotADirectory(directory.to_owned()));
    }
    let mut tar = tar::Builder::new(out);
    let mut archived = Archived::default();
    for entry in walk(directory) {
        let entry = entry?;
        let Ok(relative) = entry.path().strip_prefix(directory) else { continue };
        if !relative.as_os_str().is_empty() {
            append(&mut tar, &entry, relative, modified, &mut archived)?;
        }
    }
    tar.into_inner()?.flush()?;
    if archived.files == 0 {
        return Err(ArchiveError::Empty(directory.to_owned()));
    }
    Ok(archived)
}

fn walk(directory: &Path) -> ignore::Walk {
    // Ignore files of parent directories count within a repository only: a `*` in a home directory's must not.
    let in_repository = directory
        .canonicalize()
        .is_ok_and(|directory| directory.ancestors().any(|ancestor| ancestor.join(".git").exists()));
    WalkBuilder::new(directory)
        .hidden(false)
        .ignore(false)
        .parents(in_repository)
        .require_git(in_repository)
        .add_custom_ignore_filename(".slugignore")
        .sort_by_file_name(Ord::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build()
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    entry: &DirEntry,
    relative: &Path,
    modified: u64,
    archived: &mut Archived,
) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::Read { path: entry.path().to_owned(), source };
    let metadata = fs::symlink_metadata(entry.path()).map_err(failed)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        tar.append_data(&mut header(EntryType::Directory, 0o755, modified), relative, io::empty())?;
    } else if kind.is_symlink() {
        let target = fs::read_link(entry.path()).map_err(failed)?;
        tar.append_link(&mut header(EntryType::Symlink, 0o777, modified), relative, target)?;
        archived.files += 1;
    } else if kind.is_file() {
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let mut header = header(EntryType::Regular, if executable { 0o755 } else { 0o644 }, modified);
        let file = File::open(entry.path()).map_err(failed)?;
        let size = metadata.len();
        header.set_size(size);
        let mut content = Exactly { file, left: size, broken: None };
        let appended = tar.append_data(&mut header, relative, &mut content);
        match content.broken {
            Some(Break::Short) => return Err(ArchiveError::Changed(entry.path().to_owned())),
            Some(Break::Unreadable(source)) => return Err(failed(source)),
            None => appended?,
        }
        archived.files += 1;
        archived.bytes += size;
    } else {
        archived.skipped.push(relative.to_owned());
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, modified: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(modified);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// A file of a size that stands in the archive already. What grows is cut; what shrinks would damage the archive.
struct Exactly {
    file: File,
    left: u64,
    broken: Option<Break>,
}

enum Break {
    Short,
    Unreadable(io::Error),
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        match self.file.read(&mut buffer[..wanted]) {
            Ok(0) if wanted > 0 => {
                self.broken = Some(Break::Short);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(size) => {
                self.left -= size as u64;
                Ok(size)
            }
            Err(source) if source.kind() == io::ErrorKind::Interrupted => Err(source),
            Err(source) => {
                self.broken = Some(Break::Unreadable(source));
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
