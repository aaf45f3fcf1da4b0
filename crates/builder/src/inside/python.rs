//! Python: an environment made by uv at the path where it runs, kept in the cache between builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wire::build::Toolchain;

use super::tool::{Tool, shown};
use super::{Build, InsideError, at, pipfile_lock, poetry_lock, tree_copy};

/// Files in the root that an app may use to steer the resolution of old packages.
const OVERRIDES: &str = "uv-overrides.txt";
const BUILD_CONSTRAINTS: &str = "uv-build-constraints.txt";

/// What declares the dependencies, in the order in which the first one counts.
#[derive(Clone, Copy)]
enum Declared {
    UvLock,
    PipfileLock,
    Requirements,
    PoetryLock,
    Project,
    Nothing,
}

impl Build<'_> {
    pub(super) fn python(&mut self, python: &Toolchain, uv: &Path) -> Result<(), InsideError> {
        self.phase("Python app detected")?;
        self.manifest.languages.push("Python".to_owned());
        self.manifest.runtimes.extend(python.runtime.clone());
        self.say(&format!("Using Python {}", python.version))?;
        let venv = self.layout.virtual_env();
        self.python_environment(&venv);
        self.install_python_packages(python, uv, &venv)?;
        self.collect_static(&venv)?;
        self.django_default(&venv)
    }

    fn python_environment(&mut self, venv: &Path) {
        let cache = self.layout.cache.clone();
        let tools = [
            ("UV_CACHE_DIR", cache.join("uv").display().to_string()),
            // The interpreter was chosen outside; the app's version files are no business of uv's.
            ("UV_PYTHON_DOWNLOADS", "never".to_owned()),
            ("UV_PYTHON_PREFERENCE", "only-system".to_owned()),
            ("UV_LINK_MODE", "copy".to_owned()),
            ("UV_COMPILE_BYTECODE", "1".to_owned()),
            ("UV_NO_PROGRESS", "1".to_owned()),
            // Compiled files must stay valid when the slug's modification times are clamped, and be the same each time.
            ("PYC_INVALIDATION_MODE", "UNCHECKED_HASH".to_owned()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            ("VIRTUAL_ENV", venv.display().to_string()),
        ];
        self.environment.extend(tools.map(|(key, value)| (key.to_owned(), value)));
        self.environment.remove("PYTHONHOME");
        self.add_path(&venv.join("bin"));
        self.add_default("VIRTUAL_ENV", &venv.display().to_string());
        self.add_default("PYTHONUNBUFFERED", "1");
        self.add_default("PYTHONHASHSEED", "random");
        let app = self.layout.app.display().to_string();
        self.add_default("PYTHONPATH", &app);
        self.add_default("LANG", "C.UTF-8");
        // As Heroku: the router is the only one that can reach a dyno, so that its headers may be believed.
        self.add_default("FORWARDED_ALLOW_IPS", "*");
        self.add_default("GUNICORN_CMD_ARGS", "--access-logfile -");
    }

    fn install_python_packages(&mut self, python: &Toolchain, uv: &Path, venv: &Path) -> Result<(), InsideError> {
        let interpreter = python.root.join("bin/python3");
        let declared = self.declared();
        let cached = self.layout.cache.join("python/venv");
        let key_file = self.layout.cache.join("python/key");
        let key = self.python_key(python);
        if fs::read_to_string(&key_file).is_ok_and(|kept| kept == key) && cached.join("bin/python").exists() {
            self.say("Restoring the environment from the cache")?;
            tree_copy::replace(&cached, venv).map_err(at("restore", &cached))?;
        } else {
            let make = Tool::new(uv)
                .args(&["venv", "--quiet", "--no-project", "--clear", "--python"])
                .arg(&interpreter)
                .arg(venv);
            self.run("making the Python environment", &make)?;
        }
        let took = match declared {
            Declared::UvLock => {
                self.phase("Installing dependencies using uv sync")?;
                let sync = Tool::new(uv)
                    .args(&["sync", "--frozen", "--no-default-groups", "--python"])
                    .arg(venv.join("bin/python"))
                    .env("UV_PROJECT_ENVIRONMENT", venv);
                Some(self.run("uv sync", &sync)?)
            }
            Declared::PipfileLock => Some(self.install_lock(uv, venv, "Pipfile.lock", pipfile_lock::requirements)?),
            Declared::Requirements => {
                let file = self.app("requirements.txt");
                Some(self.install_requirements(uv, venv, &file, "requirements.txt")?)
            }
            Declared::PoetryLock => Some(self.install_lock(uv, venv, "poetry.lock", poetry_lock::requirements)?),
            Declared::Project => {
                let file = self.app("pyproject.toml");
                Some(self.install_requirements(uv, venv, &file, "pyproject.toml")?)
            }
            Declared::Nothing => None,
        };
        let Some(took) = took else { return self.say("No dependencies are declared") };
        self.say(&format!("Installed in {}", shown(took)))?;
        if !fs::read_to_string(&key_file).is_ok_and(|kept| kept == key) {
            // The key last: a copy that was cut off must not look whole.
            drop(fs::remove_file(&key_file));
            fs::create_dir_all(self.layout.cache.join("python")).map_err(at("make", &cached))?;
            tree_copy::replace(venv, &cached).map_err(at("keep", &cached))?;
            fs::write(&key_file, &key).map_err(at("write", &key_file))?;
        }
        Ok(())
    }

    /// Installs from another tool's lock, translated.
    fn install_lock(
        &mut self,
        uv: &Path,
        venv: &Path,
        name: &str,
        translate: fn(&str) -> Result<String, String>,
    ) -> Result<Duration, InsideError> {
        let path = self.app(name);
        let lock = fs::read_to_string(&path).map_err(at("read", &path))?;
        let file = self.layout.temporary.join("locked-requirements.txt");
        fs::write(&file, translate(&lock).map_err(InsideError::Refused)?).map_err(at("write", &file))?;
        self.install_requirements(uv, venv, &file, name)
    }

    fn install_requirements(
        &mut self,
        uv: &Path,
        venv: &Path,
        file: &Path,
        name: &str,
    ) -> Result<Duration, InsideError> {
        self.phase(&format!("Installing dependencies from {name} using uv"))?;
        let mut install =
            Tool::new(uv).args(&["pip", "install", "--python"]).arg(venv.join("bin/python")).arg("-r").arg(file);
        for (option, steering) in [("--overrides", OVERRIDES), ("--build-constraints", BUILD_CONSTRAINTS)] {
            if self.has(steering) {
                self.say(&format!("Using {steering}"))?;
                install = install.arg(option).arg(self.app(steering));
            }
        }
        let house = self.wheelhouse(BUILD_CONSTRAINTS);
        if house.is_dir() {
            install = install.arg("--find-links").arg(&house);
        }
        let took = self.run("installing the Python dependencies", &install)?;
        self.keep_wheels(&house).map_err(at("keep wheels in", &house))?;
        Ok(took)
    }

    fn declared(&self) -> Declared {
        let project = || fs::read_to_string(self.app("pyproject.toml")).is_ok_and(|text| text.contains("[project]"));
        if self.has("uv.lock") && self.has("pyproject.toml") {
            Declared::UvLock
        } else if self.has("Pipfile.lock") {
            Declared::PipfileLock
        } else if self.has("requirements.txt") {
            Declared::Requirements
        } else if self.has("poetry.lock") {
            Declared::PoetryLock
        } else if project() {
            Declared::Project
        } else {
            Declared::Nothing
        }
    }

    /// A digest of all that decides what the environment contains: every declaring file in the root and in
    /// `requirements/`, and the interpreter.
    fn python_key(&self, python: &Toolchain) -> String {
        let mut files: Vec<PathBuf> = [self.layout.app.clone(), self.app("requirements")]
            .iter()
            .flat_map(fs::read_dir)
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| {
                path.is_file()
                    && path
                        .extension()
                        .is_some_and(|end| ["txt", "toml", "lock", "cfg", "in"].iter().any(|name| end == *name))
            })
            .collect();
        files.sort();
        let mut digest = Sha256::new();
        digest.update(python.root.as_os_str().as_encoded_bytes());
        digest.update(&python.version);
        digest.update(self.layout.virtual_env().as_os_str().as_encoded_bytes());
        for file in files {
            let text = fs::read(&file).unwrap_or_default();
            digest.update(file.as_os_str().as_encoded_bytes());
            digest.update(text.len().to_le_bytes());
            digest.update(text);
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As Heroku: `manage.py collectstatic` where Django is there, unless `DISABLE_COLLECTSTATIC` is set.
    fn collect_static(&mut self, venv: &Path) -> Result<(), InsideError> {
        if !self.has("manage.py") || !has_package(venv, "django") {
            return Ok(());
        }
        if self.config("DISABLE_COLLECTSTATIC").is_some_and(|value| value != "0") {
            return self.say("Skipping collectstatic: DISABLE_COLLECTSTATIC is set");
        }
        self.phase("$ python manage.py collectstatic --noinput")?;
        let collect = Tool::new(venv.join("bin/python")).arg(self.app("manage.py")).args(&[
            "collectstatic",
            "--noinput",
            "--traceback",
        ]);
        let outcome = self.attempt(&collect)?;
        let said = |text: &str| outcome.tail.iter().any(|line| line.contains(text));
        if outcome.status == 0 {
            return self.say(&format!("Collected in {}", shown(outcome.took)));
        }
        if said("Unknown command: 'collectstatic'") {
            return self.say("Skipping collectstatic: django.contrib.staticfiles is not installed");
        }
        let remedy = if said("STATIC_ROOT") {
            "STATIC_ROOT is not set, so Django does not know where to collect static files.\nAdd to your settings: STATIC_ROOT = BASE_DIR / \"staticfiles\"\nOr skip this step: berth config:set DISABLE_COLLECTSTATIC=1"
        } else {
            "collectstatic failed: see the traceback above.\nRun it locally with the same config vars, or skip it: berth config:set DISABLE_COLLECTSTATIC=1"
        };
        self.explain(&outcome)?;
        Err(InsideError::Refused(remedy.replace('\n', "\n !     ")))
    }

    /// A Django project that brings gunicorn needs no Procfile.
    fn django_default(&mut self, venv: &Path) -> Result<(), InsideError> {
        let manage = fs::read_to_string(self.app("manage.py")).unwrap_or_default();
        let project = manage.split(['"', '\'']).find_map(|word| {
            word.strip_suffix(".settings").or_else(|| word.split_once(".settings.").map(|pair| pair.0))
        });
        if let Some(project) = project.filter(|_| has_package(venv, "gunicorn")) {
            self.default_process("web", &format!("gunicorn {project}.wsgi"));
        }
        Ok(())
    }
}

fn has_package(venv: &Path, name: &str) -> bool {
    let versions = fs::read_dir(venv.join("lib")).into_iter().flatten().filter_map(Result::ok);
    versions.map(|entry| entry.path().join("site-packages").join(name)).any(|path| path.is_dir())
}
