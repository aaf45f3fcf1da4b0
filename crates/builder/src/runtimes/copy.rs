//! Copies an installed interpreter so that it runs from its new place.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use walkdir::WalkDir;

/// Copies `from` to `to`, files, directories and links, except what `skip` says of paths relative to `from`.
/// A directory that is skipped takes its contents with it.
pub(super) fn tree(from: &Path, to: &Path, skip: impl Fn(&Path) -> bool) -> io::Result<()> {
    let relative = |path: &Path| path.strip_prefix(from).unwrap_or(path).to_owned();
    let entries = WalkDir::new(from).into_iter().filter_entry(|entry| !skip(&relative(entry.path())));
    for entry in entries {
        let entry = entry?;
        let target = to.join(relative(entry.path()));
        let kind = entry.file_type();
        if kind.is_dir() {
            fs::create_dir_all(&target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Rewrites the library search path `from` in an executable to one relative to itself.
///
/// A version manager links its interpreter against `<prefix>/lib`. The string is replaced in place, which needs no
/// ELF editor: the new one is shorter, and the rest becomes zeros.
pub(super) fn relocate_library_path(binary: &Path, from: &Path) -> io::Result<()> {
    const RELATIVE: &[u8] = b"$ORIGIN/../lib";
    let needle = [from.as_os_str().as_encoded_bytes(), b"\0"].concat();
    if needle.len() <= RELATIVE.len() {
        return Ok(());
    }
    let mut bytes = fs::read(binary)?;
    let mut changed = false;
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| find(rest, &needle)) {
        let begin = at + found;
        let place = bytes.get_mut(begin..begin + needle.len()).unwrap_or_default();
        place.fill(0);
        place.iter_mut().zip(RELATIVE).for_each(|(byte, &new)| *byte = new);
        changed = true;
        at = begin + needle.len();
    }
    if changed {
        // Through a new file: the old one may be hard-linked or running.
        let temporary = binary.with_extension("relocated");
        fs::write(&temporary, bytes)?;
        fs::set_permissions(&temporary, fs::metadata(binary)?.permissions())?;
        fs::rename(&temporary, binary)?;
    }
    Ok(())
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    loop {
        at += haystack.get(at..)?.iter().position(|&byte| byte == first)?;
        if haystack.get(at..)?.starts_with(needle) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_path_is_replaced_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("python");
        fs::write(&binary, b"\x7fELF..\0/root/manager/versions/3.12/lib\0tail/root/manager").unwrap();
        relocate_library_path(&binary, Path::new("/root/manager/versions/3.12/lib")).unwrap();
        let bytes = fs::read(&binary).unwrap();
        assert!(bytes.starts_with(b"\x7fELF..\0$ORIGIN/../lib\0"), "{bytes:?}");
        assert!(bytes.ends_with(b"\0tail/root/manager"));
        assert_eq!(bytes.len(), b"\x7fELF..\0/root/manager/versions/3.12/lib\0tail/root/manager".len());
    }
}
