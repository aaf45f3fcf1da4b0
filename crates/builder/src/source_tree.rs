//! What detection may know of a source: the names in its root and the text of a few files, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::beneath;

/// Largest file that is read for detection, in bytes. Lock files are only looked for, not read.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// The files whose text matters before the build.
const TEXTS: [&str; 14] = [
    "Procfile",
    "app.json",
    "Aptfile",
    ".python-version",
    "runtime.txt",
    "requirements.txt",
    "pyproject.toml",
    "Pipfile.lock",
    "package.json",
    "rust-toolchain",
    "rust-toolchain.toml",
    "Cargo.toml",
    "go.mod",
    "static.json",
];

/// Files below the root whose presence matters.
const NESTED: [&str; 6] =
    ["public/index.html", "dist/index.html", "build/index.html", "_site/index.html", "site/index.html", "bin/compile"];

/// Entries of the root that are looked at; a repository with more has its telling ones among the others as well.
const NAMES_MAX: usize = 10_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceTree {
    names: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl SourceTree {
    /// Reads the tree below `root` without following a link out of it.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        for entry in std::fs::read_dir(root)?.take(NAMES_MAX) {
            tree.names.insert(entry?.file_name().to_string_lossy().into_owned());
        }
        for name in TEXTS.iter().filter(|name| tree.names.contains(**name)).copied().collect::<Vec<_>>() {
            match beneath::read(root, Path::new(name), TEXT_BYTES_MAX)? {
                Some(bytes) => drop(tree.texts.insert(name.to_owned(), String::from_utf8_lossy(&bytes).into_owned())),
                // A directory of that name, or a link that leads nowhere.
                None => drop(tree.names.remove(name)),
            }
        }
        for path in NESTED {
            if beneath::read(root, Path::new(path), TEXT_BYTES_MAX).is_ok_and(|found| found.is_some()) {
                tree.names.insert(path.to_owned());
            }
        }
        Ok(tree)
    }

    /// A tree from texts alone.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let texts: BTreeMap<String, String> =
            texts.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        Self { names: texts.keys().cloned().collect(), texts }
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }
}
