//! `Pipfile.lock` as a requirements file. Pure.

use serde_json::Value;

/// The `default` packages, pinned as locked. Without their hashes: uv wants one for every package or for none, and git has none.
pub(super) fn requirements(lock: &str) -> Result<String, String> {
    let lock: Value = serde_json::from_str(lock).map_err(|error| format!("Pipfile.lock is not valid JSON: {error}"))?;
    let mut lines = Vec::new();
    let sources = lock.pointer("/_meta/sources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, source) in sources.iter().enumerate() {
        let url = source.get("url").and_then(Value::as_str).unwrap_or_default();
        // The public index is the default anyway, and a mirror that the machine is set to must win over it.
        let public = source.get("name").and_then(Value::as_str) == Some("pypi");
        if !url.is_empty() && !public && !url.contains(char::is_whitespace) {
            lines.push(format!("{} {url}", if index == 0 { "--index-url" } else { "--extra-index-url" }));
        }
    }
    let packages = lock.get("default").and_then(Value::as_object).ok_or("Pipfile.lock has no packages in `default`")?;
    for (name, package) in packages {
        lines.push(requirement(name, package).ok_or_else(|| format!("Pipfile.lock: cannot read package {name}"))?);
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

fn requirement(name: &str, package: &Value) -> Option<String> {
    let text = |key: &str| package.get(key).and_then(Value::as_str);
    let extras: Vec<&str> = package
        .get("extras")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |extras| extras.iter().filter_map(Value::as_str).collect());
    let extras = if extras.is_empty() { String::new() } else { format!("[{}]", extras.join(",")) };
    let mut line = if let Some(version) = text("version") {
        format!("{name}{extras}{version}")
    } else if let Some(repository) = text("git") {
        format!("{name}{extras} @ git+{repository}@{}", text("ref")?)
    } else if let Some(path) = text("path") {
        let editable = package.get("editable").and_then(Value::as_bool).unwrap_or(false);
        format!("{}{path}{extras}", if editable { "-e " } else { "" })
    } else {
        format!("{name}{extras} @ {}", text("file")?)
    };
    if let Some(markers) = text("markers") {
        line.push_str(&format!(" ; {markers}"));
    }
    (!line.contains(['\n', '\r'])).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_becomes_requirements() {
        let lock = r#"{"_meta":{"sources":[{"name":"pypi","url":"https://public.invalid/simple"}]},"default":{
            "django":{"version":"==5.2","markers":"python_version >= '3.10'","hashes":["sha256:00"]},
            "psycopg":{"version":"==3.2.1","extras":["binary"]},
            "ours":{"git":"https://git.invalid/ours.git","ref":"abc"}},"develop":{"pytest":{"version":"==8"}}}"#;
        assert_eq!(
            requirements(lock).unwrap(),
            "django==5.2 ; python_version >= '3.10'\nours @ git+https://git.invalid/ours.git@abc\npsycopg[binary]==3.2.1\n"
        );
    }

    #[test]
    fn a_lock_that_is_none_is_refused() {
        assert!(requirements("{}").unwrap_err().contains("default"));
        assert!(requirements("no").unwrap_err().contains("JSON"));
    }
}
