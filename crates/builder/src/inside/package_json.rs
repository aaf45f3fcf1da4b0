//! What a build reads of `package.json`. Pure.

use serde_json::Value;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PackageJson {
    scripts: Vec<String>,
    /// `packageManager` as (name, version), without its hash.
    pub package_manager: Option<(String, String)>,
}

impl PackageJson {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("package.json is not valid JSON: {error}"))?;
        let scripts = json.get("scripts").and_then(Value::as_object);
        let scripts = scripts.map_or_else(Vec::new, |scripts| scripts.keys().cloned().collect());
        let declared = json.get("packageManager").and_then(Value::as_str);
        let package_manager = declared.and_then(|text| {
            let (name, version) = text.split_once('@')?;
            let version = version.split('+').next().unwrap_or(version);
            let plain = version.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
            plain.then(|| (name.to_owned(), version.to_owned()))
        });
        Ok(Self { scripts, package_manager })
    }

    pub(super) fn has_script(&self, name: &str) -> bool {
        self.scripts.iter().any(|script| script == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_manager_is_read_without_its_hash() {
        let package =
            PackageJson::parse(r#"{"packageManager":"pnpm@9.1.0+sha512.abc","scripts":{"build":"x"}}"#).unwrap();
        assert_eq!(package.package_manager, Some(("pnpm".to_owned(), "9.1.0".to_owned())));
        assert!(package.has_script("build") && !package.has_script("start"));
        assert_eq!(PackageJson::parse(r#"{"packageManager":"pnpm@; rm -rf"}"#).unwrap().package_manager, None);
    }
}
