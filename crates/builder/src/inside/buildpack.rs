//! Classic buildpacks: `bin/detect`, `bin/compile BUILD_DIR CACHE_DIR ENV_DIR`, `bin/release`, `export`.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wire::build::BuildpackSource;

use super::tool::{Tool, shown};
use super::{Build, InsideError, at, tree_copy};
use crate::archive;

impl Build<'_> {
    pub(super) fn buildpack(&mut self, name: &str, source: &BuildpackSource) -> Result<(), InsideError> {
        let place = self.fetch_buildpack(name, source)?;
        let app = self.layout.app.clone();
        let step = |script: &str| self_contained(&place, script, &app);
        let detect = self.in_buildpack(step("bin/detect"));
        let detected = self.attempt(&detect)?;
        if detected.status != 0 {
            return Err(InsideError::Refused(format!("the buildpack {name} does not apply to this app")));
        }
        let language =
            detected.tail.iter().find(|line| !line.trim().is_empty()).map_or(name, |line| line.trim()).to_owned();
        self.phase(&format!("{language} app detected (buildpack {name})"))?;
        self.manifest.languages.push(language.chars().take(100).collect());
        let digest = Sha256::digest(name.as_bytes());
        let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let cache = self.layout.cache.join("buildpacks").join(tag);
        fs::create_dir_all(&cache).map_err(at("make", &cache))?;
        let environment_dir = self.environment_dir()?;
        let compile = step("bin/compile").arg(&cache).arg(&environment_dir);
        let compile = self.in_buildpack(compile);
        // Buildpacks format their output themselves.
        let outcome = self.attempt_with_indent(&compile, "")?;
        if outcome.status != 0 {
            self.explain(&outcome)?;
            return Err(InsideError::Tool { what: format!("bin/compile of {name}"), status: outcome.status });
        }
        self.say(&format!("Compiled in {}", shown(outcome.took)))?;
        if place.join("bin/release").exists() {
            let release = self.in_buildpack(step("bin/release"));
            let yaml = self.capture("bin/release", &release)?;
            for (name, command) in section(&yaml, "default_process_types") {
                self.default_process(&name, &command);
            }
            for (key, value) in section(&yaml, "config_vars") {
                self.add_default(&key, &value);
            }
        }
        self.read_export(&place.join("export"))
    }

    /// Config vars reach buildpacks in `ENV_DIR` only, so that one named like a variable of theirs does no harm.
    fn in_buildpack(&self, tool: Tool) -> Tool {
        let tool = self.plan.config_keys.iter().fold(tool, |tool, key| tool.without(key));
        tool.env("STACK", &self.plan.stack).env("HOME", &self.layout.app)
    }

    fn fetch_buildpack(&mut self, name: &str, source: &BuildpackSource) -> Result<PathBuf, InsideError> {
        let place = self.layout.temporary.join("buildpacks").join(format!("{}", self.manifest.languages.len()));
        fs::create_dir_all(&place).map_err(at("make", &place))?;
        match source {
            BuildpackSource::Directory { path } => {
                tree_copy::replace(path, &place).map_err(at("copy", path))?;
            }
            BuildpackSource::Git { url, reference } => {
                self.phase(&format!("Fetching buildpack {url}"))?;
                let clone = Tool::new("/usr/bin/env").args(&["git", "clone", "--quiet", "--", url]).arg(&place);
                self.run("git clone", &clone.env("GIT_TERMINAL_PROMPT", "0"))?;
                if let Some(reference) = reference {
                    let checkout = Tool::new("/usr/bin/env").args(&["git", "-C"]).arg(&place);
                    self.run("git checkout", &checkout.args(&["checkout", "--quiet", reference, "--"]))?;
                }
            }
            BuildpackSource::Archive { url } => {
                self.phase(&format!("Fetching buildpack {url}"))?;
                let file = place.with_extension("tgz");
                let fetch = Tool::new("/usr/bin/env")
                    .args(&["curl", "-fsSL", "--retry", "2", "-o"])
                    .arg(&file)
                    .args(&["--", url]);
                self.run("curl", &fetch)?;
                let mut archive = fs::File::open(&file).map_err(at("read", &file))?;
                archive::unpack(&mut archive, &place, &archive::Options::SOURCE)
                    .map_err(|error| InsideError::Refused(format!("buildpack {name}: {error}")))?;
            }
        }
        if place.join("bin/compile").is_file() {
            return Ok(place);
        }
        // An archive of a repository wraps it in one folder.
        let folder = fs::read_dir(&place).ok().and_then(|mut entries| entries.next()?.ok());
        match folder.map(|folder| folder.path()).filter(|folder| folder.join("bin/compile").is_file()) {
            Some(folder) => Ok(folder),
            None => Err(InsideError::Refused(format!("{name} is not a classic buildpack: it has no bin/compile"))),
        }
    }

    /// Writes one file per config var.
    pub(super) fn environment_dir(&self) -> Result<PathBuf, InsideError> {
        let directory = self.layout.temporary.join("env");
        fs::create_dir_all(&directory).map_err(at("make", &directory))?;
        for key in &self.plan.config_keys {
            if let Some(value) = self.environment.get(key) {
                let file = directory.join(key);
                fs::write(&file, value).map_err(at("write", &file))?;
            }
        }
        Ok(directory)
    }

    /// What a buildpack's `export` script sets, for the steps after it.
    fn read_export(&mut self, script: &Path) -> Result<(), InsideError> {
        if !script.is_file() {
            return Ok(());
        }
        let read = Tool::new("/bin/bash").args(&["-c", "set -a; . \"$1\" >&2; env -0", "bash"]).arg(script);
        let variables = self.capture("reading the buildpack's exports", &read)?;
        for (key, value) in variables.split('\0').filter_map(|line| line.split_once('=')) {
            let own = matches!(key, "PWD" | "OLDPWD" | "SHLVL" | "_");
            if !own && !self.plan.config_keys.iter().any(|config| config == key) {
                self.environment.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}

fn self_contained(place: &Path, script: &str, app: &Path) -> Tool {
    Tool::new(place.join(script)).directory(place).arg(app)
}

/// One map of the YAML that `bin/release` prints: two levels, plain or quoted scalars.
fn section(yaml: &str, name: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut entries = Vec::new();
    for line in yaml.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        if !line.starts_with([' ', '\t']) {
            inside = line.trim().trim_end_matches(':') == name && line.trim_end().ends_with(':');
        } else if inside && let Some((key, value)) = line.trim().split_once(':') {
            let value = value.trim();
            let quoted = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            entries.push((key.trim().to_owned(), value.to_owned()));
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_process_types_are_read_from_release_yaml() {
        let yaml = "---\naddons: []\nconfig_vars:\n  A: b\ndefault_process_types:\n  web: bundle exec rails server -p $PORT\n  # note\n  rake: \"bundle exec: rake\"\n";
        let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            section(yaml, "default_process_types"),
            [entry("web", "bundle exec rails server -p $PORT"), entry("rake", "bundle exec: rake")]
        );
        assert_eq!(section(yaml, "config_vars"), [entry("A", "b")]);
        assert_eq!(section(yaml, "addons"), []);
    }
}
