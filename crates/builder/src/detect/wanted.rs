//! Which version of its language a source asks for, and where.

use serde_json::Value;

use super::DetectError;
use crate::source_tree::SourceTree;
use crate::version::Wanted;

pub(super) const PYTHON_DEFAULT: &str = "3.13";
pub(super) const NODE_DEFAULT: &str = "24";

/// Heroku's order: `.python-version`, `runtime.txt`, `Pipfile.lock`, then `requires-python`, then the default.
pub(super) fn python(tree: &SourceTree) -> Wanted {
    let version_file = || {
        let line = first_line(tree.text(".python-version")?)?;
        Some(Wanted::parse(line.trim_start_matches("python-").trim_start_matches("cpython-"), ".python-version"))
    };
    let runtime_file = || {
        let line = first_line(tree.text("runtime.txt")?)?;
        Some(Wanted::parse(line.strip_prefix("python-")?, "runtime.txt"))
    };
    let pipfile = || {
        let lock: Value = serde_json::from_str(tree.text("Pipfile.lock")?).ok()?;
        let requires = lock.get("_meta")?.get("requires")?;
        let version = requires.get("python_full_version").or_else(|| requires.get("python_version"))?;
        Some(Wanted::parse(version.as_str()?, "Pipfile.lock"))
    };
    let project = || {
        let project: toml::Table = tree.text("pyproject.toml")?.parse().ok()?;
        let requires = project.get("project")?.get("requires-python")?.as_str()?;
        let wanted = Wanted::parse(requires, "pyproject.toml");
        // A range that leaves room for the default gets the default, not the newest there is.
        let default = Wanted::parse(PYTHON_DEFAULT, "");
        let admits_default = (0..40).any(|patch| wanted.admits(crate::version::Version::new(3, 13, patch)));
        Some(if admits_default && wanted.series().is_none() { default } else { wanted })
    };
    version_file()
        .or_else(runtime_file)
        .or_else(pipfile)
        .or_else(project)
        .unwrap_or_else(|| Wanted::parse(PYTHON_DEFAULT, ""))
}

/// `engines.node`, else the default.
pub(super) fn node(tree: &SourceTree) -> Result<Wanted, DetectError> {
    let Some(text) = tree.text("package.json") else { return Ok(Wanted::parse(NODE_DEFAULT, "")) };
    let package: Value = serde_json::from_str(text).map_err(|error| DetectError::PackageJson(error.to_string()))?;
    let engines = package.get("engines").and_then(|engines| engines.get("node")).and_then(Value::as_str);
    Ok(engines.map_or_else(|| Wanted::parse(NODE_DEFAULT, ""), |range| Wanted::parse(range, "package.json engines")))
}

/// The channel of `rust-toolchain.toml` or the older `rust-toolchain`.
pub(super) fn rust(tree: &SourceTree) -> Result<Option<String>, DetectError> {
    let (file, text) = match (tree.text("rust-toolchain.toml"), tree.text("rust-toolchain")) {
        (Some(text), _) => ("rust-toolchain.toml", text),
        (None, Some(text)) => ("rust-toolchain", text),
        (None, None) => return Ok(None),
    };
    let table: Option<toml::Table> = text.parse().ok();
    let channel = table
        .as_ref()
        .and_then(|table| table.get("toolchain")?.get("channel")?.as_str())
        .or_else(|| if file == "rust-toolchain" { first_line(text) } else { None });
    match channel {
        Some(channel) if crate::dirs::is_plain_name(channel) => Ok(Some(channel.to_owned())),
        Some(channel) => Err(DetectError::RustToolchain(file, channel.to_owned())),
        None => Ok(None),
    }
}

/// The `go` line of `go.mod`: the oldest version that will do.
pub(super) fn go(tree: &SourceTree) -> Wanted {
    let line = tree.text("go.mod").and_then(|text| text.lines().find_map(|line| line.trim().strip_prefix("go ")));
    match line {
        Some(version) => Wanted::parse(&format!(">={}", version.trim()), "go.mod"),
        None => Wanted::parse("*", ""),
    }
}

fn first_line(text: &str) -> Option<&str> {
    text.trim_start_matches('\u{feff}').lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}
