//! Rust: `cargo build --release` with the target directory in the cache.

use std::fs::{self, FileTimes};
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::Value;
use walkdir::WalkDir;
use wire::build::Toolchain;

use super::tool::{Tool, shown};
use super::{Build, InsideError, at};

impl Build<'_> {
    pub(super) fn rust(&mut self, rust: &Toolchain) -> Result<(), InsideError> {
        self.phase("Rust app detected")?;
        self.manifest.languages.push("Rust".to_owned());
        self.say(&format!("Using Rust {}", rust.version))?;
        let target = self.layout.cache.join("rust/target");
        let home = self.layout.cache.join("rust/home");
        fs::create_dir_all(&home).map_err(at("make", &home))?;
        if let Some(settings) = self.config("BERTH_CARGO_CONFIG").map(PathBuf::from) {
            fs::copy(&settings, home.join("config.toml")).map_err(at("copy", &settings))?;
        }
        let bin = rust.root.join("bin");
        let tools = [
            ("CARGO_HOME", home.display().to_string()),
            ("CARGO_TARGET_DIR", target.display().to_string()),
            ("CARGO_TERM_COLOR", "never".to_owned()),
            // Not rustup's proxies, which would download what the app pins.
            ("RUSTC", bin.join("rustc").display().to_string()),
            ("PATH", format!("{}:{}", bin.display(), self.config("PATH").unwrap_or_default())),
        ];
        self.environment.extend(tools.map(|(key, value)| (key.to_owned(), value)));
        self.touch_sources()?;
        let locked: &[&str] = if self.has("Cargo.lock") { &["--locked"] } else { &[] };
        if locked.is_empty() {
            self.warn("no Cargo.lock: dependencies may differ in every build; commit it")?;
        }
        self.phase("cargo build --release")?;
        let cargo = bin.join("cargo");
        let took = self.run("cargo build", &Tool::new(&cargo).args(&["build", "--release"]).args(locked))?;
        self.say(&format!("Built in {}", shown(took)))?;
        let metadata = Tool::new(&cargo).args(&["metadata", "--no-deps", "--format-version=1"]).args(locked);
        let metadata = self.capture("cargo metadata", &metadata)?;
        let binaries = binaries(&metadata);
        let place = self.app("target/release");
        fs::create_dir_all(&place).map_err(at("make", &place))?;
        for name in &binaries {
            let built = target.join("release").join(name);
            if built.is_file() {
                fs::copy(&built, place.join(name)).map_err(at("copy", &built))?;
            }
        }
        match binaries.as_slice() {
            [] => self.warn("the workspace has no binary to run"),
            [only] => {
                self.default_process("web", &format!("./target/release/{only}"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// cargo compares times, and a source's are its commit's: one older than the cached build would look built already.
    fn touch_sources(&self) -> Result<(), InsideError> {
        let times = FileTimes::new().set_modified(SystemTime::now());
        for entry in WalkDir::new(&self.layout.app).into_iter().filter_map(Result::ok) {
            if entry.file_type().is_file() {
                let touched = fs::File::open(entry.path()).and_then(|file| file.set_times(times));
                touched.map_err(at("touch", entry.path()))?;
            }
        }
        Ok(())
    }
}

fn binaries(metadata: &str) -> Vec<String> {
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let is_binary = |target: &Value| list(target, "kind").iter().any(|kind| kind == "bin");
    let targets = list(&metadata, "packages").into_iter().flat_map(|package| list(&package, "targets"));
    let mut names: Vec<String> =
        targets.filter(is_binary).filter_map(|target| Some(target.get("name")?.as_str()?.to_owned())).collect();
    names.sort();
    names
}
