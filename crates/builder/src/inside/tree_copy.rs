//! Copies a tree between the app and its cache: two mounts, so that neither renames nor hard links work.

use std::fs::{self, FileTimes};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use walkdir::WalkDir;

/// Replaces `to` with a copy of `from`, with modification times: compiled Python compares them.
pub(super) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    for entry in WalkDir::new(from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        let kind = entry.file_type();
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
            let modified = entry.metadata()?.modified()?;
            fs::File::options()
                .write(true)
                .open(&target)
                .or_else(|error| {
                    // A read-only file: its time matters less than its mode.
                    if error.kind() == io::ErrorKind::PermissionDenied { fs::File::open(&target) } else { Err(error) }
                })?
                .set_times(FileTimes::new().set_modified(modified))?;
        }
    }
    Ok(())
}
