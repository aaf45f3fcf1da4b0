//! The process types of the finished tree: the Procfile's, or the steps' defaults where there is none.

use std::fs;

use super::{Build, InsideError, at};

impl Build<'_> {
    pub(super) fn process_types(&mut self) -> Result<(), InsideError> {
        let path = self.app("Procfile");
        if path.is_file() {
            let text = fs::read_to_string(&path).map_err(at("read", &path))?;
            let entries = domain::procfile::parse(&text).map_err(|error| InsideError::Refused(error.to_string()))?;
            // As on Heroku a Procfile replaces a buildpack's defaults, except for `web` where it names none.
            let web = self.manifest.process_types.remove("web");
            self.manifest.process_types.clear();
            for entry in entries {
                self.manifest.process_types.insert(entry.process_type.to_string(), entry.command);
            }
            if let Some(web) = web {
                self.manifest.process_types.entry("web".to_owned()).or_insert(web);
            }
        }
        self.phase("Discovering process types")?;
        if self.manifest.process_types.is_empty() {
            return self.warn("no process types: add a Procfile with a line such as `web: gunicorn mysite.wsgi`");
        }
        let names = self.manifest.process_types.keys().cloned().collect::<Vec<_>>().join(", ");
        let from = if path.is_file() { "Procfile declares types" } else { "Default types" };
        self.say(&format!("{from} -> {names}"))
    }

    /// A default that a Procfile may replace; the first language to set one keeps it.
    pub(super) fn default_process(&mut self, name: &str, command: &str) {
        self.manifest.process_types.entry(name.to_owned()).or_insert_with(|| command.to_owned());
    }
}
