//! The rules of the repository that no compiler checks: who may depend on whom, what may not be written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{portable, root};

/// Which of our crates each crate may depend on. Add an edge here and say in the commit why the boundary is right.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("wire", &["domain"]),
    ("certificate", &["domain"]),
    ("store", &["domain"]),
    ("telemetry", &["domain", "wire"]),
    ("router", &["domain", "wire"]),
    ("shim", &["domain", "wire"]),
    ("builder", &["domain", "wire", "shim"]),
    ("api", &["certificate", "domain", "wire", "store", "telemetry", "shim"]),
    ("delivery", &["domain", "wire", "store", "telemetry"]),
    ("reconciler", &["certificate", "domain", "wire", "store", "telemetry", "router", "shim", "builder"]),
    ("cli", &["domain", "wire"]),
    (
        "platform",
        &[
            "api",
            "builder",
            "certificate",
            "cli",
            "delivery",
            "domain",
            "reconciler",
            "router",
            "shim",
            "store",
            "telemetry",
            "wire",
        ],
    ),
    ("xtask", &[]),
];

/// Packages that must not come in, even through others.
const BANNED: [&str; 4] = ["openssl", "openssl-sys", "native-tls", "async-std"];

/// Only this crate may lift the ban on `unsafe`.
const UNSAFE_CRATE: &str = "shim";

pub(crate) fn run() -> Result<()> {
    let faults = faults(&root())?;
    if faults.is_empty() {
        println!("tidy: everything is in order");
        return Ok(());
    }
    for fault in &faults {
        println!("tidy: {fault}");
    }
    bail!("{} faults", faults.len());
}

fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    check_dependencies(root, &mut faults)?;
    check_lock_file(root, &mut faults)?;
    portable::check(root, &mut faults)?;
    let mut files = Vec::new();
    source_files(root, &mut files)?;
    for path in &files {
        let Ok(text) = fs::read_to_string(path) else { continue };
        let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
        check_text(&shown, &text, &mut faults);
        if shown.ends_with(".md") {
            check_links(root, path, &shown, &text, &mut faults);
        }
    }
    check_glossary(root, &mut faults)?;
    Ok(faults)
}

fn check_dependencies(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let table: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("crates"))?.flatten().map(|entry| entry.path()).collect();
    folders.push(root.join("xtask"));
    for folder in folders {
        let manifest = folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        let parsed: toml::Table = toml::from_str(&text)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let package = parsed.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        if package != Some(name.as_str()) {
            faults.push(format!("{name}: the folder must be named as the package"));
        }
        let Some(allowed) = table.get(name.as_str()) else {
            faults.push(format!("{name}: a new crate needs a row in xtask/src/tidy.rs"));
            continue;
        };
        let dependencies = parsed.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flatten().map(|(key, _value)| key.as_str()) {
            if table.contains_key(dependency) && !allowed.contains(&dependency) {
                faults.push(format!("{name} must not depend on {dependency}"));
            }
        }
        let main = ["src/lib.rs", "src/main.rs"].iter().find_map(|file| fs::read_to_string(folder.join(file)).ok());
        if !main.is_some_and(|text| text.starts_with("//!")) {
            faults.push(format!("{name}: its lib.rs or main.rs must begin with what the crate is for"));
        }
    }
    Ok(())
}

fn check_lock_file(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let lock: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.lock"))?)?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let names = packages.filter_map(|package| package.get("name")?.as_str());
    faults.extend(names.filter(|name| BANNED.contains(name)).map(|name| format!("Cargo.lock: {name} is banned")));
    Ok(())
}

fn check_text(shown: &str, text: &str, faults: &mut Vec<String>) {
    if shown.ends_with("/mod.rs") {
        faults.push(format!("{shown}: name the module's file after the module (foo.rs and foo/)"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) {
            faults.push(format!("{shown}:{number}: white space at the end"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        faults.push(format!("{shown}: no line end at the end"));
    }
    let lifts_unsafe = text.contains("expect(unsafe_code") || text.contains("allow(unsafe_code");
    if lifts_unsafe && !shown.starts_with(&format!("crates/{UNSAFE_CRATE}/")) && !shown.starts_with("xtask/") {
        faults.push(format!("{shown}: unsafe code belongs in crates/{UNSAFE_CRATE} only"));
    }
}

/// Relative links in documents must lead somewhere.
fn check_links(root: &Path, path: &Path, shown: &str, text: &str, faults: &mut Vec<String>) {
    for piece in text.split("](").skip(1) {
        let Some(target) = piece.split(')').next() else { continue };
        let target = target.split('#').next().unwrap_or_default();
        if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let base = if target.starts_with('/') { root } else { path.parent().unwrap_or(root) };
        if !base.join(target.trim_start_matches('/')).exists() {
            faults.push(format!("{shown}: the link to {target} leads nowhere"));
        }
    }
}

/// Every word of the glossary stands there once.
fn check_glossary(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("docs/glossary.md")).context("docs/glossary.md is missing")?;
    let mut seen = Vec::new();
    for word in text.lines().filter_map(|line| line.strip_prefix("- **")?.split("**").next()) {
        if seen.contains(&word) {
            faults.push(format!("docs/glossary.md: {word} is explained twice"));
        }
        seen.push(word);
    }
    if seen.len() < 20 {
        faults.push("docs/glossary.md: it must hold a line for each word of the project".to_owned());
    }
    Ok(())
}

fn source_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            let skipped = name.starts_with("target") || matches!(name.as_str(), ".git" | "node_modules" | "testdata");
            if !skipped {
                source_files(&path, files)?;
            }
        } else if [".rs", ".md", ".toml", ".sh", ".sql", ".py"].iter().any(|end| name.ends_with(end)) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        assert_eq!(faults(&root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn faults_are_found() {
        let mut faults = Vec::new();
        check_text("crates/api/src/mod.rs", "#![expect(unsafe_code)] \nx", &mut faults);
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
