//! Go: every command of the module into `bin/`.

use std::fs;

use wire::build::Toolchain;

use super::tool::{Tool, shown};
use super::{Build, InsideError, at};

impl Build<'_> {
    pub(super) fn go(&mut self, go: &Toolchain) -> Result<(), InsideError> {
        self.phase("Go app detected")?;
        self.manifest.languages.push("Go".to_owned());
        self.say(&format!("Using Go {}", go.version))?;
        let bin = self.app("bin");
        fs::create_dir_all(&bin).map_err(at("make", &bin))?;
        let cache = self.layout.cache.join("go");
        let tools = [
            ("GOROOT", go.root.display().to_string()),
            ("GOPATH", cache.display().to_string()),
            ("GOCACHE", cache.join("build").display().to_string()),
            ("GOBIN", bin.display().to_string()),
            // The version was chosen outside; go must not download another in the middle of the build.
            ("GOTOOLCHAIN", "local".to_owned()),
        ];
        self.environment.extend(tools.map(|(key, value)| (key.to_owned(), value)));
        let module = fs::read_to_string(self.app("go.mod")).unwrap_or_default();
        // Heroku's way to name the packages: a comment in go.mod.
        let named = module.lines().find_map(|line| line.trim().strip_prefix("// +heroku install "));
        let packages: Vec<&str> = named.unwrap_or("./...").split_whitespace().collect();
        self.phase(&format!("go install {}", packages.join(" ")))?;
        let install = Tool::new(go.root.join("bin/go")).args(&["install", "-trimpath"]).args(&packages);
        let took = self.run("go install", &install)?;
        self.say(&format!("Built in {}", shown(took)))?;
        let mut names: Vec<String> = fs::read_dir(&bin)
            .map_err(at("read", &bin))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        if let [only] = names.as_slice() {
            self.default_process("web", &format!("./bin/{only}"));
        }
        Ok(())
    }
}
