//! `poetry.lock` as a requirements file. Pure: Poetry itself is not needed to install what it has locked.

use toml::{Table, Value};

/// The locked packages of the main group. Locks of Poetry 1 do not say which group a package is for: all are taken
/// there, except the optional ones.
pub(super) fn requirements(lock: &str) -> Result<String, String> {
    let lock: Table = lock.parse().map_err(|error| format!("poetry.lock is not valid TOML: {error}"))?;
    let packages = lock.get("package").and_then(Value::as_array).ok_or("poetry.lock holds no packages")?;
    let mut text = String::new();
    for package in packages.iter().filter_map(Value::as_table).filter(|package| is_wanted(package)) {
        let name = package.get("name").and_then(Value::as_str).unwrap_or("without a name");
        let line = requirement(package).ok_or_else(|| format!("poetry.lock: cannot read package {name}"))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

fn is_wanted(package: &Table) -> bool {
    let optional = package.get("optional").and_then(Value::as_bool).unwrap_or(false);
    let groups = package.get("groups").and_then(Value::as_array);
    !optional && groups.is_none_or(|groups| groups.iter().any(|group| group.as_str() == Some("main")))
}

fn requirement(package: &Table) -> Option<String> {
    let name = package.get("name")?.as_str()?;
    let source = package.get("source").and_then(Value::as_table);
    let of_source = |key: &str| source.and_then(|source| source.get(key)).and_then(Value::as_str);
    let mut line = match of_source("type") {
        Some("git") => format!("{name} @ git+{}@{}", of_source("url")?, of_source("resolved_reference")?),
        Some("url") => format!("{name} @ {}", of_source("url")?),
        Some("file" | "directory") => format!("./{}", of_source("url")?),
        _ => format!("{name}=={}", package.get("version")?.as_str()?),
    };
    let markers = match package.get("markers") {
        Some(Value::Table(groups)) => groups.get("main").and_then(Value::as_str),
        markers => markers.and_then(Value::as_str),
    };
    if let Some(markers) = markers {
        line = format!("{line} ; {markers}");
    }
    (!line.contains(['\n', '\r'])).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_becomes_requirements() {
        let lock = r#"
[[package]]
name = "django"
version = "5.2.8"
optional = false
groups = ["main"]
markers = "python_version >= \"3.10\""

[[package]]
name = "pytest"
version = "8.0.0"
optional = false
groups = ["dev"]

[[package]]
name = "tzdata"
version = "2025.1"
optional = false
groups = ["main", "dev"]
markers = {main = "sys_platform == \"win32\"", dev = "python_version < \"4\""}

[[package]]
name = "ours"
version = "0.1.0"
optional = false
groups = ["main"]

[package.source]
type = "git"
url = "https://git.invalid/ours.git"
reference = "main"
resolved_reference = "abc"

[metadata]
lock-version = "2.1"
"#;
        assert_eq!(
            requirements(lock).unwrap(),
            "django==5.2.8 ; python_version >= \"3.10\"\ntzdata==2025.1 ; sys_platform == \"win32\"\nours @ git+https://git.invalid/ours.git@abc\n"
        );
    }

    #[test]
    fn a_lock_of_poetry_1_counts_whole_except_what_is_optional() {
        let lock =
            "[[package]]\nname='a'\nversion='1'\noptional=false\n[[package]]\nname='b'\nversion='2'\noptional=true\n";
        assert_eq!(requirements(lock).unwrap(), "a==1\n");
        assert!(requirements("[metadata]\n").unwrap_err().contains("no packages"));
    }
}
