//! Looks for files that a running dyno has written over its read-only layers.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

use crate::sandbox::LAYERS_DIR;

/// Entries that one search looks at: an app that unpacks a whole tree must not cost the server more than that.
const ENTRIES_MAX: u32 = 20_000;

/// Directories nested deeper than this are not searched: each level holds a descriptor.
const DEPTH_MAX: u32 = 32;

/// Finds a file that the dyno made or changed and whose name satisfies `wanted`; its path is below the overlay's
/// target. Blocks.
pub fn find_written(run_dir: &Path, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let layers = std::fs::read_dir(run_dir.join(LAYERS_DIR)).ok()?;
    let mut search = Search { wanted, entries_left: ENTRIES_MAX };
    layers.flatten().find_map(|layer| {
        // Only overlays have one; a scratch directory is the app's to fill.
        let upper = open_dir(CWD, layer.path().join("upper"))?;
        search.walk(upper, Path::new(""), 0)
    })
}

struct Search<W> {
    wanted: W,
    entries_left: u32,
}

impl<W: Fn(&Path) -> bool> Search<W> {
    /// Works on descriptors without following links, because the process may rename what is being walked.
    fn walk(&mut self, dir: impl AsFd, below: &Path, depth: u32) -> Option<PathBuf> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut directories = Vec::new();
        for entry in Dir::read_from(&dir).ok()?.flatten() {
            self.entries_left = self.entries_left.checked_sub(1)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = below.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            // A file that was deleted from the layer below is a device here.
            let Ok(stat) = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if (self.wanted)(&path) => return Some(path),
                FileType::Directory => directories.push((name.to_owned(), path)),
                _other => {}
            }
        }
        directories.into_iter().find_map(|(name, path)| {
            let below = open_dir(&dir, name.as_c_str())?;
            self.walk(below, &path, depth + 1)
        })
    }
}

fn open_dir(at: impl AsFd, path: impl rustix::path::Arg) -> Option<std::os::fd::OwnedFd> {
    openat(at, path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_written_over_the_slug_is_found_and_links_lead_nowhere() {
        let run = tempfile::tempdir().unwrap();
        let upper = run.path().join("layers/0/upper");
        fs::create_dir_all(upper.join("data")).unwrap();
        fs::create_dir_all(run.path().join("layers/1")).unwrap();
        fs::write(run.path().join("layers/1/scratch.db"), "").unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.db"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), upper.join("link")).unwrap();
        let is_database = |path: &Path| path.extension().is_some_and(|extension| extension == "db");
        assert_eq!(find_written(run.path(), is_database), None);
        fs::write(upper.join("data/app.db"), "").unwrap();
        assert_eq!(find_written(run.path(), is_database), Some(PathBuf::from("data/app.db")));
        assert_eq!(find_written(&run.path().join("gone"), is_database), None);
    }
}
