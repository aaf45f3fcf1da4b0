//! The user's `git`: what it says about the working directory, and the remotes we make in it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::app_selection::Remote;
use crate::shell_words;

/// Runs git quietly; `None` if it fails, which it does outside a repository and where it is not installed.
fn ask(directory: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    output.status.success().then_some(text)
}

fn tell(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments).stdin(Stdio::null());
    let output = command.output().context("cannot run git; is it installed?")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}

pub(crate) fn is_repository(directory: &Path) -> bool {
    ask(directory, &["rev-parse", "--git-dir"]).is_some()
}

pub(crate) fn remotes(directory: &Path) -> Vec<Remote> {
    let listed = ask(directory, &["config", "--get-regexp", r"^remote\..*\.url$"]).unwrap_or_default();
    let remote = |line: &str| {
        let (key, url) = line.split_once(' ')?;
        let name = key.strip_prefix("remote.")?.strip_suffix(".url")?;
        Some(Remote { name: name.to_owned(), url: url.to_owned() })
    };
    listed.lines().filter_map(remote).collect()
}

/// The commit a directory stands on, and its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) commit: String,
    pub(crate) time: u64,
    /// Whether files differ from that commit.
    pub(crate) is_dirty: bool,
}

pub(crate) fn head(directory: &Path) -> Option<Head> {
    let shown = ask(directory, &["log", "-1", "--format=%H %ct"])?;
    let (commit, time) = shown.split_once(' ')?;
    let is_dirty = ask(directory, &["status", "--porcelain", "--", "."])?.lines().next().is_some();
    Some(Head { commit: commit.to_owned(), time: time.parse().ok()?, is_dirty })
}

/// Points a remote to an app, and lets git fetch the token from us for this host only, in this repository only.
pub(crate) fn set_remote(directory: &Path, name: &str, url: &str, authority: Option<&Path>) -> anyhow::Result<()> {
    let exists = remotes(directory).iter().any(|remote| remote.name == name);
    let verb: &[&str] = if exists { &["remote", "set-url", name, url] } else { &["remote", "add", name, url] };
    tell(directory, verb)?;
    let Some((host, _app)) = url.rsplit_once('/') else { return Ok(()) };
    let helper = format!("credential.{host}.helper");
    // The empty value drops the helpers of wider scopes: none of them shall store this token.
    tell(directory, &["config", "--local", "--replace-all", &helper, ""])?;
    tell(directory, &["config", "--local", "--add", &helper, &credential_helper()?])?;
    if let Some(authority) = authority {
        let key = format!("http.{host}/.sslCAInfo");
        tell(directory, &["config", "--local", "--replace-all", &key, &authority.display().to_string()])?;
    }
    Ok(())
}

/// Names this executable by its path: git runs the helper through a shell, and `berth` need not be on its `PATH`.
fn credential_helper() -> anyhow::Result<String> {
    let berth = std::env::current_exe().context("cannot find the running executable")?;
    Ok(format!("!{} git:credentials", shell_words::quote(&berth.display().to_string())))
}

/// Why git will not trust a private authority although its configuration says so, if that is the case here.
pub(crate) fn overridden_authority(authority: Option<&Path>) -> Option<&'static str> {
    let is_overridden = authority.is_some() && std::env::var_os("GIT_SSL_CAINFO").is_some();
    is_overridden.then_some(
        "GIT_SSL_CAINFO is set, and git heeds it before its configuration: `env -u GIT_SSL_CAINFO git push …`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_is_set_twice_and_stands_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_repository(dir.path()));
        tell(dir.path(), &["init", "--quiet"]).unwrap();
        assert!(is_repository(dir.path()));
        for app in ["one", "two"] {
            let url = format!("https://localhost:5000/{app}.git");
            set_remote(dir.path(), "berth", &url, Some(Path::new("/data/ca.pem"))).unwrap();
        }
        let two = Remote { name: "berth".to_owned(), url: "https://localhost:5000/two.git".to_owned() };
        assert_eq!(remotes(dir.path()), [two]);
        let helpers = ask(dir.path(), &["config", "--get-all", "credential.https://localhost:5000.helper"]);
        assert_eq!(helpers, Some(format!("\n{}", credential_helper().unwrap())));
        let authority =
            ask(dir.path(), &["config", "--get-urlmatch", "http.sslCAInfo", "https://localhost:5000/two.git"]);
        assert_eq!(authority.as_deref(), Some("/data/ca.pem"));
    }
}
