//! `bin/pre_compile` and `bin/post_compile`, as Heroku's Python buildpack runs them, here for every language.

use super::tool::Tool;
use super::{Build, InsideError};

impl Build<'_> {
    pub(super) fn hook(&mut self, path: &str) -> Result<(), InsideError> {
        let script = self.app(path);
        if !script.is_file() {
            return Ok(());
        }
        self.phase(&format!("Running {path} hook"))?;
        let app = self.layout.app.clone();
        let cache = self.layout.cache.join("buildpack");
        let environment_dir = self.environment_dir()?;
        // Through bash: hooks are committed without their executable bit as often as with it.
        let shell = if script_has_interpreter(&script) && super::tool::executable(&script) {
            Tool::new(script)
        } else {
            Tool::new("/bin/bash").arg(script)
        };
        let tool =
            shell.env("BUILD_DIR", &app).env("CACHE_DIR", &cache).env("ENV_DIR", &environment_dir).env("HOME", &app);
        self.run(&format!("{path} hook"), &tool)?;
        Ok(())
    }
}

fn script_has_interpreter(script: &std::path::Path) -> bool {
    std::fs::read(script).is_ok_and(|bytes| bytes.starts_with(b"#!"))
}
