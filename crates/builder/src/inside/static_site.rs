//! A static site: nothing to build, served by the platform's own executable.

use super::{Build, InsideError};
use crate::static_server::SiteConfig;

/// Where site generators leave their result, in the order in which the first with an `index.html` counts.
const ROOTS: [&str; 6] = ["public", "dist", "build", "_site", "site", "."];

impl Build<'_> {
    pub(super) fn static_site(&mut self) -> Result<(), InsideError> {
        self.phase("Static site detected")?;
        self.manifest.languages.push("Static".to_owned());
        let config = SiteConfig::read(&self.layout.app).map_err(|error| InsideError::Refused(error.to_string()))?;
        let found = ROOTS.iter().find(|root| self.app(root).join("index.html").is_file());
        let root = match (config.root, found) {
            (Some(root), _) => root,
            (None, Some(root)) => (*root).to_owned(),
            (None, None) => return Err(InsideError::Refused("the site has no index.html".to_owned())),
        };
        if !self.app(&root).is_dir() {
            return Err(InsideError::Refused(format!("static.json names the root {root:?}, which is not there")));
        }
        self.say(&format!("Serving {}", if root == "." { "the whole source" } else { &root }))?;
        let command = format!("{} static-server {}", self.plan.berth.display(), quoted(&root));
        self.default_process("web", &command);
        Ok(())
    }
}

/// For a shell, whatever the name holds.
fn quoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'));
    if plain && !text.is_empty() { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
