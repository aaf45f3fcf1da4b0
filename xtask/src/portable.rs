//! The command line client builds on macOS: what it and its crates use must exist there.
//!
//! The compiler proves it where the target's standard library is installed (`ci` runs it there); this looks at the
//! names of what cannot work, on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What must build wherever people develop.
const PORTABLE: [&str; 3] = ["cli", "domain", "wire"];

/// Packages for Linux alone. (`linux-raw-sys` is not among them: rustix asks for it on Linux only.)
const LINUX_PACKAGES: [&str; 14] = [
    "caps",
    "cgroups-rs",
    "inotify",
    "io-uring",
    "landlock",
    "libseccomp",
    "netlink-packet-core",
    "netlink-sys",
    "nftables",
    "procfs",
    "rtnetlink",
    "seccompiler",
    "tokio-uring",
    "tokio-vsock",
];

/// Features of rustix and nix whose modules exist on Linux alone.
const LINUX_FEATURES: [&str; 8] =
    ["io_uring", "linux_4_11", "linux_5_1", "linux_5_11", "linux_latest", "mount", "sched", "personality"];

/// Code for Linux alone, which a file may hold only if it also says where it is compiled.
const LINUX_CODE: [&str; 6] =
    ["os::linux", "rustix::mount", "rustix::io_uring", "rustix::thread", "nix::mount", "nix::sched"];

pub(crate) fn check(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock is missing")?;
    let graph = dependencies(&lock)?;
    for name in PORTABLE {
        for (package, by) in reached(&graph, name) {
            if LINUX_PACKAGES.contains(&package.as_str()) {
                faults.push(format!("{name} must build on macOS, but {by} brings in {package}"));
            }
        }
        let folder = root.join("crates").join(name);
        check_features(name, &fs::read_to_string(folder.join("Cargo.toml"))?, faults)?;
        let mut files = Vec::new();
        rust_files(&folder.join("src"), &mut files)?;
        for file in files {
            check_code(
                &file.strip_prefix(root).unwrap_or(&file).display().to_string(),
                &fs::read_to_string(&file)?,
                faults,
            );
        }
    }
    Ok(())
}

/// Which packages each package asks for, by name.
fn dependencies(lock: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let lock: toml::Table = toml::from_str(lock)?;
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        let Some(name) = package.get("name").and_then(toml::Value::as_str) else { continue };
        let wanted = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        // A name that stands for several versions is followed by one of them.
        let names = wanted.filter_map(|text| text.as_str()?.split(' ').next()).map(str::to_owned);
        graph.entry(name.to_owned()).or_default().extend(names);
    }
    Ok(graph)
}

/// Everything below a package, each with the first package that asks for it.
fn reached(graph: &BTreeMap<String, Vec<String>>, from: &str) -> Vec<(String, String)> {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut found = Vec::new();
    let mut waiting = vec![from.to_owned()];
    while let Some(by) = waiting.pop() {
        for package in graph.get(&by).into_iter().flatten() {
            if seen.insert(package.clone()) {
                found.push((package.clone(), by.clone()));
                waiting.push(package.clone());
            }
        }
    }
    found
}

/// Looks at what is asked for on every system; a table `[target.'cfg(…)'.dependencies]` may ask for anything.
fn check_features(name: &str, manifest: &str, faults: &mut Vec<String>) -> Result<()> {
    let manifest: toml::Table = toml::from_str(manifest)?;
    let tables = ["dependencies", "dev-dependencies"].into_iter().filter_map(|table| manifest.get(table)?.as_table());
    for (dependency, value) in tables.flatten() {
        let features = value.get("features").and_then(toml::Value::as_array).into_iter().flatten();
        for feature in features.filter_map(toml::Value::as_str).filter(|feature| LINUX_FEATURES.contains(feature)) {
            faults.push(format!("{name} must build on macOS, but wants the feature {feature} of {dependency}"));
        }
    }
    Ok(())
}

fn check_code(shown: &str, text: &str, faults: &mut Vec<String>) {
    if text.contains("cfg(target_os = \"linux\")") {
        return;
    }
    for code in LINUX_CODE.into_iter().filter(|code| text.contains(code)) {
        faults.push(format!("{shown}: must build on macOS, but uses {code}; put it behind cfg(target_os = \"linux\")"));
    }
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_alone_has_is_found_however_deep() {
        let lock = "[[package]]\nname = \"cli\"\ndependencies = [\"terminal\"]\n[[package]]\nname = \"terminal\"\n\
                    dependencies = [\"inotify 0.11.0\"]\n[[package]]\nname = \"inotify\"\n";
        let graph = dependencies(lock).unwrap();
        assert!(reached(&graph, "cli").contains(&("inotify".to_owned(), "terminal".to_owned())));

        let mut faults = Vec::new();
        let manifest = "[dependencies]\nrustix = { workspace = true, features = [\"fs\", \"mount\"] }\n";
        check_features("cli", manifest, &mut faults).unwrap();
        let elsewhere = "[target.'cfg(target_os = \"linux\")'.dependencies]\nrustix = { features = [\"mount\"] }\n";
        check_features("cli", elsewhere, &mut faults).unwrap();
        check_code("crates/cli/src/a.rs", "use std::os::linux::fs::MetadataExt as _;", &mut faults);
        check_code("crates/cli/src/b.rs", "#[cfg(target_os = \"linux\")]\nuse std::os::linux::fs::X;", &mut faults);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }
}
