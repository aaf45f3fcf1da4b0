use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

/// A directory of files, made in the order given.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn archive(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(directory, DEFAULT_TIME, &mut bytes).unwrap();
    bytes
}

/// The names in an archive, directories with a slash.
fn names(directory: &Path) -> Vec<String> {
    let bytes = archive(directory);
    let mut tar = tar::Archive::new(bytes.as_slice());
    tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn ignored_files_stay_at_home() {
    let dir = tree(&[
        (".gitignore", "*.log\n/secret\n!keep.log\n"),
        (".slugignore", "docs\n"),
        (".env.example", "x"),
        ("Procfile", "x"),
        ("a.log", "x"),
        ("keep.log", "x"),
        ("docs/long.txt", "x"),
        ("secret/key", "x"),
        ("src/secret/key", "x"),
        ("src/.gitignore", "cache\n"),
        ("src/cache/x", "x"),
    ]);
    let expect = [
        ".env.example",
        ".gitignore",
        ".slugignore",
        "Procfile",
        "keep.log",
        "src",
        "src/.gitignore",
        "src/secret",
        "src/secret/key",
    ];
    assert_eq!(names(dir.path()), expect);
}

#[test]
fn the_repository_itself_is_never_deployed() {
    let dir = tree(&[(".git/HEAD", "x"), ("app/.git/HEAD", "x"), ("sub/.git", "gitdir: elsewhere"), ("main.py", "x")]);
    assert_eq!(names(dir.path()), ["app", "main.py", "sub"]);
}

#[test]
fn ignore_files_above_count_within_a_repository_only() {
    let inside = tree(&[(".git/HEAD", "x"), (".gitignore", "*.log\n"), ("app/a.log", "x"), ("app/main.py", "x")]);
    assert_eq!(names(&inside.path().join("app")), ["main.py"]);
    let outside = tree(&[(".gitignore", "*\n"), ("app/main.py", "x")]);
    assert_eq!(names(&outside.path().join("app")), ["main.py"]);
}

#[test]
fn links_stay_links_and_executables_stay_executable() {
    let dir = tree(&[("bin/run", "#!/bin/sh\n"), ("readme", "x")]);
    fs::set_permissions(dir.path().join("bin/run"), fs::Permissions::from_mode(0o4710)).unwrap();
    fs::set_permissions(dir.path().join("readme"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("bin/run", dir.path().join("start")).unwrap();
    symlink("bin", dir.path().join("tools")).unwrap();
    let bytes = archive(dir.path());
    let mut seen = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let link = entry.link_name().unwrap().map(|link| link.display().to_string());
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, DEFAULT_TIME));
        seen.insert(entry.path().unwrap().display().to_string(), (header.mode().unwrap(), link));
    }
    assert_eq!(seen["bin/run"], (0o755, None));
    assert_eq!(seen["readme"], (0o644, None));
    assert_eq!(seen["start"].1.as_deref(), Some("bin/run"));
    assert_eq!(seen["tools"].1.as_deref(), Some("bin"));
    assert_eq!(seen.len(), 5);
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let one = tree(&[("b", "2"), ("a/x", "1"), ("a/y", "3")]);
    let other = tree(&[("a/y", "3"), ("a/x", "1"), ("b", "2")]);
    assert_eq!(archive(one.path()), archive(other.path()));
}

#[test]
fn names_longer_than_a_tar_header_arrive_whole() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    let dir = tree(&[(&long, "content")]);
    let bytes = archive(dir.path());
    let mut tar = tar::Archive::new(bytes.as_slice());
    let mut found = tar.entries().unwrap().map(Result::unwrap).find(|entry| entry.path().unwrap() == Path::new(&long));
    let mut content = String::new();
    found.as_mut().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
}

#[test]
fn what_no_archive_can_hold_is_named() {
    let dir = tree(&[("a", "1")]);
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let archived = write(dir.path(), DEFAULT_TIME, io::sink()).unwrap();
    assert_eq!(archived, Archived { files: 1, bytes: 1, skipped: vec!["socket".into()] });
}

#[test]
fn an_empty_or_missing_directory_is_an_error() {
    let dir = tree(&[(".gitignore", "*\n")]);
    assert!(matches!(write(dir.path(), 0, io::sink()), Err(ArchiveError::Empty(_))));
    let missing = dir.path().join("missing");
    assert!(matches!(write(&missing, 0, io::sink()), Err(ArchiveError::NotADirectory(_))));
}
