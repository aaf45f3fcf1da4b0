//! Node: install with the lock file's own package manager, build, prune.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wire::build::Toolchain;

use super::package_json::PackageJson;
use super::tool::{Tool, shown};
use super::{Build, InsideError, at, tree_copy};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manager {
    Npm,
    Pnpm,
    Yarn,
    /// Yarn from version 2 on, which knows other options.
    YarnModern,
}

/// The package manager and how it is started.
struct Client {
    manager: Manager,
    node: PathBuf,
    script: PathBuf,
    lock: &'static str,
}

impl Client {
    fn tool(&self, arguments: &[&str]) -> Tool {
        Tool::new(&self.node).arg(&self.script).args(arguments)
    }
}

impl Build<'_> {
    pub(super) fn node(&mut self, node: &Toolchain) -> Result<(), InsideError> {
        self.phase("Node.js app detected")?;
        self.manifest.languages.push("Node.js".to_owned());
        self.manifest.runtimes.extend(node.runtime.clone());
        self.say(&format!("Using Node {}", node.version))?;
        let file = self.app("package.json");
        let text = fs::read_to_string(&file).map_err(at("read", &file))?;
        let package = PackageJson::parse(&text).map_err(InsideError::Refused)?;
        if self.has("node_modules") {
            self.warn("node_modules is part of the source; remove it from git, it is made anew here")?;
        }
        self.node_environment(node);
        let client = self.package_client(node, &package)?;
        self.script(&client, &package, "heroku-prebuild")?;
        self.install_node_packages(&client, node, &text)?;
        if package.has_script("heroku-postbuild") {
            self.script(&client, &package, "heroku-postbuild")?;
        } else {
            self.script(&client, &package, "build")?;
        }
        self.prune(&client)?;
        self.script(&client, &package, "heroku-cleanup")?;
        if package.has_script("start") {
            self.default_process("web", "npm start");
        } else if self.has("server.js") {
            self.default_process("web", "node server.js");
        }
        Ok(())
    }

    fn node_environment(&mut self, node: &Toolchain) {
        let cache = self.layout.cache.clone();
        let mut tools = vec![
            ("npm_config_cache", cache.join("npm").display().to_string()),
            ("npm_config_audit", "false".to_owned()),
            ("npm_config_fund", "false".to_owned()),
            ("npm_config_update_notifier", "false".to_owned()),
            ("npm_config_progress", "false".to_owned()),
            ("YARN_CACHE_FOLDER", cache.join("yarn").display().to_string()),
            ("YARN_ENABLE_TELEMETRY", "0".to_owned()),
            ("COREPACK_ENABLE_STRICT", "0".to_owned()),
        ];
        // node-gyp would otherwise download the headers of the Node in use.
        if node.root.join("include/node/node.h").exists() {
            tools.push(("npm_config_nodedir", node.root.display().to_string()));
        }
        self.environment.extend(tools.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.environment.entry("NODE_ENV".to_owned()).or_insert_with(|| "production".to_owned());
        if node.runtime.is_some() {
            self.add_path(&node.root.join("bin"));
        }
        let binaries = self.app("node_modules/.bin");
        self.add_path(&binaries);
        self.add_default("NODE_ENV", "production");
        self.add_default("NODE_HOME", &node.root.display().to_string());
    }

    fn package_client(&mut self, node: &Toolchain, package: &PackageJson) -> Result<Client, InsideError> {
        let binary = node.root.join("bin/node");
        let npm = node.root.join("lib/node_modules/npm/bin/npm-cli.js");
        let declared = package.package_manager.clone();
        let version_of = |name: &str, default: &str| match &declared {
            Some((declared, version)) if declared == name => version.clone(),
            _ => default.to_owned(),
        };
        let client = |manager, script, lock| Client { manager, node: binary.clone(), script, lock };
        if self.has("pnpm-lock.yaml") {
            let lock = fs::read_to_string(self.app("pnpm-lock.yaml")).unwrap_or_default();
            let old = lock.lines().take(3).any(|line| line.starts_with("lockfileVersion") && !line.contains('9'));
            let version = version_of("pnpm", if old { "8" } else { "9" });
            let script = self.package_tool(&binary, &npm, "pnpm", &version)?.join("bin/pnpm.cjs");
            return Ok(client(Manager::Pnpm, script, "pnpm-lock.yaml"));
        }
        if self.has("yarn.lock") {
            let modern = fs::read_to_string(self.app("yarn.lock")).is_ok_and(|lock| lock.contains("__metadata:"));
            let settings = fs::read_to_string(self.app(".yarnrc.yml")).unwrap_or_default();
            let committed =
                settings.lines().find_map(|line| line.strip_prefix("yarnPath:")).map(|path| self.app(path.trim()));
            return Ok(match (modern, committed) {
                (true, Some(script)) => client(Manager::YarnModern, script, "yarn.lock"),
                (true, None) => {
                    let version = version_of("yarn", "4");
                    let place = self.package_tool(&binary, &npm, "@yarnpkg/cli-dist", &version)?;
                    client(Manager::YarnModern, place.join("bin/yarn.js"), "yarn.lock")
                }
                (false, _) => {
                    let place = self.package_tool(&binary, &npm, "yarn", &version_of("yarn", "1"))?;
                    client(Manager::Yarn, place.join("bin/yarn.js"), "yarn.lock")
                }
            });
        }
        let lock = if self.has("npm-shrinkwrap.json") { "npm-shrinkwrap.json" } else { "package-lock.json" };
        Ok(client(Manager::Npm, npm, lock))
    }

    /// Installs a package manager into the cache with npm; returns its package directory.
    fn package_tool(&mut self, node: &Path, npm: &Path, name: &str, version: &str) -> Result<PathBuf, InsideError> {
        let prefix = self.layout.cache.join("node-tools").join(format!("{}-{version}", name.replace('/', "-")));
        let place = prefix.join("lib/node_modules").join(name);
        if !place.join("package.json").exists() {
            self.phase(&format!("Installing {name} {version}"))?;
            let install = Tool::new(node)
                .arg(npm)
                .args(&["install", "--global", "--ignore-scripts", "--prefix"])
                .arg(&prefix)
                .arg(format!("{name}@{version}"))
                .directory(self.layout.temporary.clone());
            self.run(&format!("installing {name}"), &install)?;
        }
        Ok(place)
    }

    fn install_node_packages(&mut self, client: &Client, node: &Toolchain, package: &str) -> Result<(), InsideError> {
        let lock = fs::read(self.app(client.lock)).ok();
        let modules = self.app("node_modules");
        let kept = self.layout.cache.join("node/modules");
        let key_file = self.layout.cache.join("node/key");
        let mut digest = Sha256::new();
        for part in [
            package.as_bytes(),
            lock.as_deref().unwrap_or_default(),
            node.version.as_bytes(),
            self.layout.app.as_os_str().as_encoded_bytes(),
        ] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        let key: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let warm = lock.is_some() && kept.is_dir() && fs::read_to_string(&key_file).is_ok_and(|found| found == key);
        if warm {
            self.say("Restoring node_modules from the cache")?;
            tree_copy::replace(&kept, &modules).map_err(at("restore", &kept))?;
        }
        let arguments: &[&str] = match (client.manager, lock.is_some()) {
            // Over restored modules `install` only checks them and runs the app's own scripts; `ci` would delete them.
            (Manager::Npm, true) if warm => &["install", "--include=dev", "--prefer-offline"],
            (Manager::Npm, true) => &["ci", "--include=dev"],
            (Manager::Npm, false) => &["install", "--include=dev"],
            (Manager::Pnpm, _) => &["install", "--frozen-lockfile", "--prod=false"],
            (Manager::Yarn, _) => &["install", "--frozen-lockfile", "--production=false", "--non-interactive"],
            (Manager::YarnModern, _) => &["install", "--immutable"],
        };
        let name = client.manager.name();
        self.phase(&format!("Installing dependencies: {name} {}", arguments.join(" ")))?;
        if lock.is_none() {
            self.warn("no lock file: dependencies may differ in every build; commit the package-lock.json that `npm install` writes")?;
        }
        let mut install = client.tool(arguments);
        if client.manager == Manager::Pnpm {
            install = install.arg("--store-dir").arg(self.layout.cache.join("pnpm"));
        }
        let took = self.run(&format!("{name} install"), &install)?;
        self.say(&format!("Installed in {}", shown(took)))?;
        if lock.is_some() && !warm && modules.is_dir() {
            drop(fs::remove_file(&key_file));
            tree_copy::replace(&modules, &kept).map_err(at("keep", &kept))?;
            fs::write(&key_file, &key).map_err(at("write", &key_file))?;
        }
        Ok(())
    }

    fn script(&mut self, client: &Client, package: &PackageJson, name: &str) -> Result<(), InsideError> {
        if !package.has_script(name) {
            return Ok(());
        }
        self.phase(&format!("Running {name} ({})", client.manager.name()))?;
        let took = self.run(&format!("the script {name}"), &client.tool(&["run", name]))?;
        self.say(&format!("Done in {}", shown(took)))
    }

    fn prune(&mut self, client: &Client) -> Result<(), InsideError> {
        let kept = self.config("NODE_ENV").is_some_and(|value| value != "production")
            || ["NPM_CONFIG_PRODUCTION", "YARN_PRODUCTION", "PNPM_SKIP_PRUNING", "YARN2_SKIP_PRUNING"].iter().any(
                |key| {
                    self.config(key).is_some_and(|value| value == if key.contains("SKIP") { "true" } else { "false" })
                },
            );
        if kept || !self.has("node_modules") {
            return Ok(());
        }
        let arguments: &[&str] = match client.manager {
            Manager::Npm => &["prune", "--omit=dev", "--ignore-scripts"],
            Manager::Pnpm => &["prune", "--prod", "--ignore-scripts"],
            Manager::Yarn => &["install", "--production", "--ignore-scripts", "--prefer-offline", "--non-interactive"],
            Manager::YarnModern => &["workspaces", "focus", "--all", "--production"],
        };
        self.phase("Pruning devDependencies")?;
        self.run("pruning", &client.tool(arguments).env("CI", "true"))?;
        Ok(())
    }
}

impl Manager {
    fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn | Self::YarnModern => "yarn",
        }
    }
}
