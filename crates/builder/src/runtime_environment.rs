//! What a process of a built app needs besides its config vars: defaults, mounts, and how its command is run. Pure.

use std::collections::BTreeMap;
use std::path::Path;

use wire::build::Manifest;
use wire::shim::Mount;

use crate::dirs::{DataDirs, Layout, is_plain_name};

/// The end of every search path.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Sources the scripts that buildpacks and apps leave, as Heroku does, then becomes the process: `$1` is its command.
///
/// The second shell replaces itself with a simple command, or the last one of an `&&` list. A shell that stayed would
/// cost memory in every dyno, and die of the SIGTERM that its server still has requests to finish after.
const PROFILE: &str = r#"for script in "$HOME"/.profile.d/*.sh; do if [ -r "$script" ]; then . "$script"; fi; done
if [ -r "$HOME/.profile" ]; then . "$HOME/.profile"; fi
unset script
"#;

#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeEnvironment {
    /// Lay the config vars over these.
    pub defaults: BTreeMap<String, String>,
    /// Interpreters, the platform's executable; the slug itself is not among them.
    pub mounts: Vec<Mount>,
}

pub fn runtime_environment(manifest: &Manifest, dirs: &DataDirs, layout: &Layout, berth: &Path) -> RuntimeEnvironment {
    let mut defaults = manifest.environment.clone();
    let path = manifest.path.iter().map(String::as_str).chain([SYSTEM_PATH]).collect::<Vec<_>>().join(":");
    defaults.insert("PATH".to_owned(), path);
    defaults.insert("HOME".to_owned(), layout.app.display().to_string());
    defaults.entry("LANG".to_owned()).or_insert_with(|| "C.UTF-8".to_owned());
    // The manifest was checked when the slug was made; a name that is a path must still never become a mount.
    let runtimes = manifest.runtimes.iter().filter(|id| is_plain_name(id));
    let mut mounts: Vec<Mount> =
        runtimes.map(|id| Mount::ReadOnly { source: dirs.runtimes().join(id), target: layout.runtime(id) }).collect();
    mounts.push(Mount::ReadOnly { source: berth.to_owned(), target: layout.berth.clone() });
    RuntimeEnvironment { defaults, mounts }
}

/// The argument vector that runs `command`, a line of a Procfile or of `heroku run`, with profile scripts before it.
///
/// bash, because profile scripts of buildpacks are written for Heroku's; no `pipefail`, because Procfiles rely on that
/// (`yes | manage.py migrate`). The command is an argument and not part of the script: nothing is quoted.
pub fn shell_command(command: &str) -> Vec<String> {
    let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let script = format!("{PROFILE}exec {shell} -c \"$1\"");
    vec![shell.to_owned(), "-c".to_owned(), script, "sh".to_owned(), command.to_owned()]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_shell_becomes_the_command() {
        for line in ["sleep 30", "cd / && sleep 30"] {
            let arguments = shell_command(line);
            let mut command = Command::new(&arguments[0]);
            let mut child =
                command.args(&arguments[1..]).env("HOME", "/nonexistent").stdin(Stdio::null()).spawn().unwrap();
            let name = format!("/proc/{}/comm", child.id());
            let begun = Instant::now();
            while fs::read_to_string(&name).unwrap() != "sleep\n" {
                assert!(begun.elapsed() < Duration::from_secs(20), "{line:?} still runs under a shell");
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn profile_scripts_are_sourced_and_nothing_is_quoted() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".profile.d")).unwrap();
        fs::write(home.path().join(".profile.d/a.sh"), "export A=\"it's\"\n").unwrap();
        fs::write(home.path().join(".profile"), "export B=2\n").unwrap();
        let arguments = shell_command(r#"echo "$A" '$B' $B | cat"#);
        let output = Command::new(&arguments[0]).args(&arguments[1..]).env("HOME", home.path()).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's $B 2\n");
    }

    #[test]
    fn mounts_are_the_manifests_runtimes_and_nothing_else() {
        let manifest = Manifest {
            runtimes: vec!["cpython-3.12.1-0a".to_owned(), "../../etc".to_owned()],
            path: vec!["/app/.heroku/python/bin".to_owned()],
            ..Manifest::default()
        };
        let dirs = DataDirs::new("/var/lib/berth");
        let environment = runtime_environment(&manifest, &dirs, &Layout::default(), Path::new("/usr/bin/berth"));
        let read_only = |source: &str, target: &str| Mount::ReadOnly { source: source.into(), target: target.into() };
        assert_eq!(
            environment.mounts,
            [
                read_only("/var/lib/berth/runtimes/cpython-3.12.1-0a", "/opt/berth/runtimes/cpython-3.12.1-0a"),
                read_only("/usr/bin/berth", "/opt/berth/bin/berth"),
            ]
        );
        assert_eq!(environment.defaults["PATH"], "/app/.heroku/python/bin:/usr/local/bin:/usr/bin:/bin");
        assert_eq!(environment.defaults["HOME"], "/app");
    }
}
