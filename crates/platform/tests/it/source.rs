//! What is deployed: a directory under `tests/apps`, changed as a test needs it.

use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Source {
    /// A directory of `tests/apps`.
    pub(crate) fn app(name: &str) -> Self {
        Self::directory(&Path::new("tests/apps").join(name))
    }

    /// A directory of the builder's test apps.
    pub(crate) fn builder_app(name: &str) -> Self {
        Self::directory(&Path::new("../builder/testdata/apps").join(name))
    }

    fn directory(below: &Path) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
        let mut source = Self::default();
        source.add(&dir, &dir);
        source
    }

    fn add(&mut self, root: &Path, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.add(root, &path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                self.files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }

    /// An app without code: its only file is this `Procfile`.
    pub(crate) fn procfile(text: &str) -> Self {
        Self::default().file("Procfile", text)
    }

    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        self.files.insert(name.to_owned(), content.as_bytes().to_vec());
        self
    }

    pub(crate) fn version(self, version: &str) -> Self {
        self.file("VERSION", version)
    }

    /// Adds a line to the `Procfile`.
    pub(crate) fn process(mut self, line: &str) -> Self {
        let procfile = self.files.entry("Procfile".to_owned()).or_default();
        procfile.extend(format!("{line}\n").as_bytes());
        self
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    }
}
