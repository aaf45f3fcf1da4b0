//! Removes directories that processes of others wrote into.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tracing::warn;

/// Removes a file or a tree. What is not there needs no removing; what cannot be removed is left to the garbage
/// collection.
pub(crate) fn remove_tree(path: &Path) {
    let mut removed = remove(path);
    if removed.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        // Without root even our own directories refuse: overlayfs makes one of mode 000, apps make what they like.
        open_directories(path);
        removed = remove(path);
    }
    if let Err(error) = removed {
        warn!(%error, "cannot remove {}", path.display());
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_file) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn open_directories(path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|data| data.is_dir()) {
        return;
    }
    // One that stays closed fails the removal, which says so.
    drop(fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        open_directories(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_directories_are_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(tree.join("work/work")).unwrap();
        fs::create_dir(&kept).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
        fs::set_permissions(tree.join("work/work"), fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&tree);
        assert!(!tree.exists() && kept.exists());
        remove_tree(&tree);
    }
}
