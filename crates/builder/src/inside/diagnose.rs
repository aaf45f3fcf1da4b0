//! Known causes in the last lines of a failed tool, each with its remedy. Pure; a table more than an algorithm.

use std::ops::Range;

/// A cause is known when every needle stands in one line, in lower case.
const KNOWN: [(&[&str], &str); 18] = [
    (
        &["pg_config executable not found"],
        "psycopg2 is being compiled, which needs PostgreSQL's headers. Require psycopg2-binary (or psycopg[binary]) instead.",
    ),
    (
        &["could not determine postgresql version from"],
        "This psycopg2 is too old for the installed PostgreSQL headers. Raise it to 2.9 or put `psycopg2-binary>=2.9` into uv-overrides.txt.",
    ),
    (
        &["openssl", "deprecated"],
        "An old cryptography release is being compiled against OpenSSL 3. Put `cryptography>=3.4.8` into uv-overrides.txt.",
    ),
    (
        &["use_2to3 is invalid"],
        "An old package needs an old setuptools to build. Put `setuptools<58` into uv-build-constraints.txt.",
    ),
    (
        &["no module named 'pkg_resources'"],
        "An old package needs an older setuptools to build. Put `setuptools<81` into uv-build-constraints.txt.",
    ),
    (
        &["no module named 'distutils'"],
        "distutils is gone from Python 3.12 on. Pin Python 3.11 in .python-version, or raise the package that asks for it.",
    ),
    (
        &["cython", "compile", "error"],
        "An old package does not compile with Cython 3. Put `cython<3` into uv-build-constraints.txt.",
    ),
    (
        &["no solution found when resolving"],
        "The requirements contradict each other or the chosen Python. uv-overrides.txt can force a version.",
    ),
    (
        &["eresolve"],
        "npm cannot satisfy all peer dependencies. Commit a package-lock.json that does, or put `legacy-peer-deps=true` into .npmrc.",
    ),
    (
        &["npm ci", "package.json and package-lock.json", "sync"],
        "package-lock.json does not match package.json. Run `npm install` locally and commit the lock file.",
    ),
    (
        &["gyp err!", "node-gyp"],
        "A native module is being compiled by node-gyp. Its headers come from the Node in use; see above for what is missing, or raise the module to a version with prebuilt binaries for this Node.",
    ),
    (
        &["set `database_url` to use query macros"],
        "sqlx checks queries at compile time. Set DATABASE_URL as a config var, or run `cargo sqlx prepare` and commit .sqlx.",
    ),
    (
        &["type annotations needed for `box<_>`"],
        "The crate `time` before 0.3.35 does not compile from Rust 1.80 on. Run `cargo update -p time` and commit Cargo.lock.",
    ),
    (
        &["requires rustc", "or newer"],
        "A crate needs a newer Rust. Raise or remove the pin in rust-toolchain.toml, or pin the crate in Cargo.lock.",
    ),
    (
        &["lock file version", "requires"],
        "Cargo.lock was written by a newer cargo. Pin a newer Rust in rust-toolchain.toml.",
    ),
    (
        &["error[e0463]", "can't find crate"],
        "A crate for another target is missing. Builds are for this machine's own target only.",
    ),
    (
        &["javascript heap out of memory"],
        "The build needs more memory than Node takes by itself. Set NODE_OPTIONS=--max-old-space-size=3072 as a config var.",
    ),
    (
        &["no space left on device"],
        "The build's disk is full. Remove large files from the source, or clear the build cache.",
    ),
];

/// Words after which a failed look-up or connection names its host.
const HOST_MARKERS: [&str; 9] = [
    "getaddrinfo enotfound ",
    "getaddrinfo eai_again ",
    "could not resolve host: ",
    "couldn't resolve host name: ",
    "could not resolve hostname ",
    "failed to resolve address for ",
    "failed to fetch: `https://",
    "error sending request for url (https://",
    "connect econnrefused ",
];

/// What to tell the user, most telling first, each once.
pub(super) fn diagnose(lines: &[&str]) -> Vec<String> {
    let lower: Vec<String> = lines.iter().map(|line| line.to_ascii_lowercase()).collect();
    let mut advice: Vec<String> = KNOWN
        .iter()
        .filter(|(needles, _remedy)| lower.iter().any(|line| needles.iter().all(|needle| line.contains(needle))))
        .map(|(_needles, remedy)| (*remedy).to_owned())
        .collect();
    for host in hosts(&lower) {
        let package = lower.iter().rev().find_map(|line| asking_package(line));
        let asked = package.map_or_else(String::new, |package| format!(" The package that asked: {package}."));
        advice.push(format!("The host {host} cannot be reached from builds.{asked}"));
    }
    let url = lower.iter().zip(lines).find_map(|(lower, line)| line.get(git_url(lower)?));
    if let Some(url) = url {
        advice.push(format!(
            "The git dependency {url} could not be fetched: check its address and that builds may read it."
        ));
    }
    advice
}

fn hosts(lines: &[String]) -> Vec<&str> {
    let mut hosts: Vec<&str> = Vec::new();
    for line in lines {
        for marker in HOST_MARKERS {
            let Some((_before, rest)) = line.split_once(marker) else { continue };
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-').unwrap_or(rest.len());
            let host = rest.get(..end).unwrap_or_default().trim_end_matches('.');
            if !host.is_empty() && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }
    hosts
}

/// npm names the directory of the package whose install script failed.
fn asking_package(line: &str) -> Option<String> {
    let (_before, path) = line.split_once("npm error path ").or_else(|| line.split_once("npm err! path "))?;
    let (_before, name) = path.rsplit_once("node_modules/")?;
    Some(name.trim().to_owned())
}

/// Where in a line, which is in lower case, the address of a git repository stands that could not be fetched.
fn git_url(line: &str) -> Option<Range<usize>> {
    let failed =
        ["git operation failed", "failed to clone", "failed to fetch", "unable to update", "fatal: unable to access"];
    let at = line
        .find("git+http")
        .or_else(|| line.find("git+ssh"))
        .or_else(|| failed.iter().any(|words| line.contains(words)).then(|| line.find("https://")).flatten())?;
    let relevant = failed.iter().any(|words| line.contains(words)) || line.contains("git+");
    // cargo says this of repositories only: its registries have a name.
    let cargo = line.trim_start().starts_with("unable to update https://");
    let rest =
        line.get(at..).filter(|rest| relevant && (cargo || rest.contains(".git") || rest.starts_with("git+")))?;
    let ends = |c: char| c.is_whitespace() || matches!(c, '`' | '\'' | '"' | ')' | ',') || (cargo && "?#".contains(c));
    let end = rest.find(ends).unwrap_or(rest.len());
    Some(at..at + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expect: &str) {
        let advice = diagnose(lines).join("\n");
        assert!(advice.contains(expect), "{lines:?}: {advice:?}");
    }

    #[test]
    fn known_failures_are_recognised() {
        check(&["Error: pg_config executable not found."], "psycopg2-binary");
        check(&["Error: could not determine PostgreSQL version from '15.3'"], "psycopg2-binary>=2.9");
        check(&["error in x setup command: use_2to3 is invalid."], "setuptools<58");
        check(&["npm error ERESOLVE could not resolve"], "legacy-peer-deps");
        check(&["error: set `DATABASE_URL` to use query macros online"], "cargo sqlx prepare");
        check(&["error[E0282]: type annotations needed for `Box<_>`"], "cargo update -p time");
    }

    #[test]
    fn an_install_script_that_downloads_is_named_with_its_host() {
        let lines = [
            "npm error path /app/node_modules/sharp",
            "npm error sharp: Installation error: getaddrinfo ENOTFOUND files.invalid",
        ];
        check(&lines, "The host files.invalid cannot be reached from builds. The package that asked: sharp.");
    }

    #[test]
    fn a_git_dependency_that_fails_is_named_by_url() {
        check(
            &[
                "error: Git operation failed",
                "  failed to clone into: x",
                "ours @ git+https://git.invalid/ours.git@v1`",
            ],
            "git+https://git.invalid/ours.git@v1",
        );
        check(
            &["fatal: unable to access 'https://git.invalid/x.git/': Could not resolve host: git.invalid"],
            "https://git.invalid/x.git/",
        );
        check(
            &["error: failed to get `ours` as a dependency", "  Unable to update https://git.invalid/Team/ours?rev=01"],
            "The git dependency https://git.invalid/Team/ours could",
        );
    }

    #[test]
    fn an_unknown_failure_gets_no_advice() {
        assert_eq!(diagnose(&["SyntaxError: invalid syntax"]), Vec::<String>::new());
    }
}
