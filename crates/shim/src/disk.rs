//! Measures what a dyno has written to its ephemeral disk.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// Directories nested deeper than this count as full disk: each level holds a descriptor while it is walked.
const DEPTH_MAX: u32 = 256;

/// Sums the allocated bytes below `dir`. Works on descriptors without following links, because a process may rename
/// what is being walked.
pub(crate) fn allocated_bytes(dir: &Path) -> u64 {
    match openat(CWD, dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => walk(root, 0).unwrap_or_default(),
        Err(_) => 0,
    }
}

fn walk(dir: impl AsFd, depth: u32) -> io::Result<u64> {
    if depth > DEPTH_MAX {
        return Ok(u64::MAX / 2);
    }
    let mut bytes: u64 = 0;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // Gone in the meantime, or replaced: counted the next time.
        let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        // A hard link counted twice is rare, and on the safe side.
        bytes = bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or_default() * 512);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && let Ok(below) = openat(&dir, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        {
            bytes = bytes.saturating_add(walk(below, depth + 1)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_nested_directories_are_counted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), vec![1_u8; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("a/usr")).unwrap();
        let bytes = allocated_bytes(dir.path());
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }
}
