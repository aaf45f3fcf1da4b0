//! One data directory per test, with runtimes shared by all of them.
//!
//! Where a shim mounts, this moves directories to the place and back: the inside runs at the same paths each time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use builder::archive::TopFolder;
use builder::build::{self, BuildError, BuildLimits, BuildRequest, Prepared};
use builder::dirs::{DataDirs, Layout};
use builder::host::Host;
use builder::slug::{SLUG_BYTES_MAX, Slug};
use domain::id::{AppId, BuildId};
use domain::secret::Secret;
use tempfile::TempDir;
use wire::shim::Mount;

pub(crate) struct TestApp {
    pub(crate) data: TempDir,
    pub(crate) dirs: DataDirs,
    pub(crate) layout: Layout,
    pub(crate) host: Host,
    app: AppId,
    source: BTreeMap<String, (Vec<u8>, u32)>,
    config: BTreeMap<String, String>,
    buildpacks: Vec<String>,
    source_date: u64,
}

/// A build that ran to its end.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) log: String,
    pub(crate) slug: Option<Slug>,
}

impl Built {
    #[track_caller]
    pub(crate) fn slug(&self) -> &Slug {
        self.slug.as_ref().unwrap_or_else(|| panic!("the build failed:\n{}", self.log))
    }

    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.log.contains(text), "{text:?} is not in the log:\n{}", self.log);
        self
    }

    #[track_caller]
    pub(crate) fn says_not(&self, text: &str) -> &Self {
        assert!(!self.log.contains(text), "{text:?} is in the log:\n{}", self.log);
        self
    }

    #[track_caller]
    pub(crate) fn fails(&self) -> &Self {
        assert!(self.slug.is_none(), "the build did not fail:\n{}", self.log);
        self
    }

    #[track_caller]
    pub(crate) fn command(&self, process_type: &str) -> &str {
        &self.slug().manifest.process_types[process_type]
    }
}

impl TestApp {
    /// The app in `testdata/apps/<name>`.
    pub(crate) fn named(name: &str) -> Self {
        Self::from_directory(&Path::new("testdata/apps").join(name))
    }

    /// The app in `examples/<name>` of the repository.
    pub(crate) fn example(name: &str) -> Self {
        Self::from_directory(&Path::new("../../examples").join(name))
    }

    fn from_directory(directory: &Path) -> Self {
        let mut app = Self::empty();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        for entry in walkdir::WalkDir::new(&root).into_iter().map(Result::unwrap) {
            if entry.file_type().is_file() {
                let path = entry.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                let mode = entry.metadata().unwrap().permissions().mode();
                app.source.insert(path, (fs::read(entry.path()).unwrap(), mode));
            }
        }
        assert!(!app.source.is_empty(), "no app in {}", root.display());
        app
    }

    pub(crate) fn empty() -> Self {
        let data = tempfile::tempdir().unwrap();
        let root = data.path().canonicalize().unwrap();
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtimes");
        fs::create_dir_all(&shared).unwrap();
        symlink(&shared, root.join("runtimes")).unwrap();
        let place = root.join("sandbox");
        fs::create_dir_all(place.join("tmp")).unwrap();
        let layout = Layout {
            app: place.join("app"),
            cache: place.join("cache"),
            input: place.join("in"),
            output: place.join("out"),
            runtimes: shared,
            temporary: place.join("tmp"),
            berth: place.join("berth"),
        };
        Self {
            data,
            dirs: DataDirs::new(root),
            layout,
            host: Host::current(),
            app: AppId::random(),
            source: BTreeMap::new(),
            config: BTreeMap::new(),
            buildpacks: Vec::new(),
            source_date: 1_700_000_000,
        }
    }

    /// With nothing fetched or copied yet, as on a machine that builds for the first time.
    pub(crate) fn with_fresh_runtimes(mut self) -> Self {
        let own = self.dirs.runtimes();
        fs::remove_file(&own).unwrap();
        fs::create_dir(&own).unwrap();
        self.layout.runtimes = own;
        self
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.source.insert(path.to_owned(), (text.as_bytes().to_vec(), 0o644));
        self
    }

    pub(crate) fn executable(mut self, path: &str, text: &str) -> Self {
        self.source.insert(path.to_owned(), (text.as_bytes().to_vec(), 0o755));
        self
    }

    pub(crate) fn bytes(mut self, path: &str, bytes: Vec<u8>) -> Self {
        self.source.insert(path.to_owned(), (bytes, 0o644));
        self
    }

    pub(crate) fn config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn buildpack(mut self, name: &str) -> Self {
        self.buildpacks.push(name.to_owned());
        self
    }

    pub(crate) fn dated(mut self, seconds: u64) -> Self {
        self.source_date = seconds;
        self
    }

    fn request(&self) -> BuildRequest {
        let archive = self.data.path().join("source.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        for (path, (bytes, mode)) in &self.source {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(self.source_date);
            tar.append_data(&mut header, path, bytes.as_slice()).unwrap();
        }
        tar.into_inner().unwrap();
        let config = self.config.iter().map(|(key, value)| (key.clone(), Secret::new(value.clone()))).collect();
        let berth = self.data.path().join("berth-executable");
        fs::write(&berth, "").unwrap();
        BuildRequest {
            build: BuildId::random(),
            app: self.app,
            source: archive,
            top_folder: TopFolder::Keep,
            buildpacks: self.buildpacks.clone(),
            config,
            source_version: "0123456789abcdef".to_owned(),
            berth,
            limits: BuildLimits::default(),
        }
    }

    pub(crate) fn prepare(&self) -> Result<Prepared, BuildError> {
        self.prepare_request(&self.request())
    }

    /// Twice for one build, as after a restart of the server in between.
    pub(crate) fn prepare_again(&self) -> Result<Prepared, BuildError> {
        let request = self.request();
        fs::create_dir_all(self.dirs.build(request.build).join("app/left-over")).unwrap();
        let first = self.prepare_request(&request)?;
        let second = self.prepare_request(&request)?;
        assert_eq!(first.plan, second.plan);
        assert!(!self.dirs.build(request.build).join("app/left-over").exists());
        Ok(second)
    }

    fn prepare_request(&self, request: &BuildRequest) -> Result<Prepared, BuildError> {
        self.prepare_saying(request, &mut String::new())
    }

    fn prepare_saying(&self, request: &BuildRequest, log: &mut String) -> Result<Prepared, BuildError> {
        let mut say = |line: &str| log.extend([line, "\n"]);
        build::prepare(request, &self.dirs, &self.layout, &self.host, &mut say)
    }

    /// Builds, expecting that at least the preparation succeeds.
    pub(crate) fn build(&self) -> Built {
        let request = self.request();
        let mut said = String::new();
        let prepared =
            self.prepare_saying(&request, &mut said).unwrap_or_else(|error| panic!("cannot prepare: {error:?}"));
        let mut back = Vec::new();
        for mount in &prepared.mounts {
            match mount {
                Mount::Writable { source, target } => {
                    fs::rename(source, target).unwrap();
                    back.push((target, source));
                }
                Mount::ReadOnly { source, target } => {
                    if source.canonicalize().unwrap() != target.canonicalize().unwrap_or_default() {
                        drop(fs::remove_file(target));
                        symlink(source, target).unwrap();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let environment = prepared.environment.expose().clone();
        let mut output = Vec::new();
        let succeeded = builder::inside::run(&self.layout, environment, &mut output);
        for (target, source) in back {
            fs::rename(target, source).unwrap();
        }
        fs::remove_dir_all(&self.layout.temporary).unwrap();
        fs::create_dir_all(&self.layout.temporary).unwrap();
        let mut masker = prepared.masker();
        let mut shown = masker.push(&output);
        shown.extend(masker.finish());
        let log = said + std::str::from_utf8(&shown).unwrap();
        let slug = succeeded.then(|| {
            build::finish(request.build, &self.dirs, SLUG_BYTES_MAX).unwrap_or_else(|error| panic!("{error:?}\n{log}"))
        });
        build::discard(request.build, &self.dirs).unwrap();
        Built { log, slug }
    }

    /// The lock that uv writes for the app's `pyproject.toml`: made here, because it names the index of this machine.
    pub(crate) fn uv_lock(&self) -> String {
        let project = self.data.path().join("project");
        fs::create_dir_all(&project).unwrap();
        fs::write(project.join("pyproject.toml"), &self.source["pyproject.toml"].0).unwrap();
        let mut log = |_line: &str| {};
        let uv = builder::runtimes::Runtimes::new(&self.dirs, &self.layout, &self.host, &mut log).uv().unwrap();
        let status = std::process::Command::new(uv.outside)
            .args(["lock", "--quiet", "--python-preference", "only-system"])
            .current_dir(&project)
            .envs(self.host.client_environment())
            .status()
            .unwrap();
        assert!(status.success());
        fs::read_to_string(project.join("uv.lock")).unwrap()
    }

    pub(crate) fn path_in(&self, slug: &Slug, path: &str) -> PathBuf {
        slug.tree(&self.dirs).join(path)
    }

    pub(crate) fn text_in(&self, slug: &Slug, path: &str) -> String {
        let path = self.path_in(slug, path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs a command as a dyno would: the slug at its place, the environment of its manifest.
    pub(crate) fn run_dyno(&self, slug: &Slug, command: &str) -> String {
        let environment = builder::runtime_environment::runtime_environment(
            &slug.manifest,
            &self.dirs,
            &self.layout,
            &self.layout.berth,
        );
        fs::rename(slug.tree(&self.dirs), &self.layout.app).unwrap();
        let arguments = builder::runtime_environment::shell_command(command);
        let output = std::process::Command::new(&arguments[0])
            .args(&arguments[1..])
            .current_dir(&self.layout.app)
            .env_clear()
            .envs(&environment.defaults)
            .envs(&self.config)
            .output()
            .unwrap();
        fs::rename(&self.layout.app, slug.tree(&self.dirs)).unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}
