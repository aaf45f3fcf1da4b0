//! Gathers the facts about this machine.

use std::env;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Cgroups, Facts, Port};

/// Programs that Berth or the builds it does can use.
const PROGRAMS: [&str; 5] = ["git", "nft", "uv", "python3", "node"];

/// Where distributions keep the certificates that builds need.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Looks at this machine.
pub(crate) fn look(data_dir: Option<PathBuf>, ports: &[u16]) -> Facts {
    let is_root = rustix::process::geteuid().is_root();
    let data_dir = data_dir.unwrap_or_else(|| default_data_dir(is_root));
    let path = env::var_os("PATH").unwrap_or_default();
    // nft lives where the PATH of ordinary users does not go.
    let directories: Vec<PathBuf> =
        env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()]).collect();
    Facts {
        is_linux: cfg!(target_os = "linux"),
        is_root,
        kernel: read("/proc/sys/kernel/osrelease").and_then(|text| kernel_version(&text)),
        programs: PROGRAMS
            .map(|program| (program, directories.iter().any(|dir| is_program(&dir.join(program)))))
            .into(),
        forwards: read("/proc/sys/net/ipv4/ip_forward").is_some_and(|text| text.trim() == "1"),
        cgroups: cgroups(&read("/proc/self/mounts").unwrap_or_default(), &|path| read(path)),
        user_namespaces: user_namespaces(&|path| read(path)),
        overlayfs: has_overlayfs(),
        authority: AUTHORITIES.iter().map(PathBuf::from).find(|path| path.is_file()),
        disk_free: disk_free(&data_dir),
        data_dir,
        ports: ports.iter().map(|&port| (port, probe(port))).collect(),
        server_runs: false,
    }
}

fn default_data_dir(is_root: bool) -> PathBuf {
    let user = || {
        let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        data.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/share")))
    };
    match (is_root, user()) {
        (false, Some(data)) => data.join("berth"),
        (true, _) | (false, None) => PathBuf::from("/var/lib/berth"),
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Version 2 counts only with controllers: hybrid systems mount it empty beside version 1.
fn cgroups(mounts: &str, read: &dyn Fn(&str) -> Option<String>) -> Cgroups {
    let mounted = |kind: &str| {
        mounts
            .lines()
            .filter_map(move |line| {
                let fields: Vec<&str> = line.split(' ').collect();
                (fields.get(2) == Some(&kind))
                    .then(|| (fields[1].to_owned(), fields.get(3).copied().unwrap_or("").to_owned()))
            })
            .collect::<Vec<_>>()
    };
    let controls = |(path, _options): &(String, String)| {
        let controllers = read(&format!("{path}/cgroup.controllers")).unwrap_or_default();
        ["cpu", "memory"].iter().all(|wanted| controllers.split_whitespace().any(|name| name == *wanted))
    };
    if mounted("cgroup2").iter().any(controls) {
        return Cgroups::V2;
    }
    let version_1 = mounted("cgroup");
    let has = |wanted: &str| version_1.iter().any(|(_path, options)| options.split(',').any(|name| name == wanted));
    if has("memory") && has("cpu") { Cgroups::V1 } else { Cgroups::Absent }
}

fn user_namespaces(read: &dyn Fn(&str) -> Option<String>) -> bool {
    let number = |path: &str| read(path).and_then(|text| text.trim().parse::<u64>().ok());
    number("/proc/sys/user/max_user_namespaces").is_some_and(|max| max > 0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != Some(1)
}

fn has_overlayfs() -> bool {
    let loaded =
        read("/proc/filesystems").is_some_and(|text| text.lines().any(|line| line.trim_end().ends_with("\toverlay")));
    let module = read("/proc/sys/kernel/osrelease")
        .is_some_and(|release| Path::new("/lib/modules").join(release.trim()).join("kernel/fs/overlayfs").is_dir());
    loaded || module
}

/// Of the nearest directory that exists: the data directory may be still to be made.
fn disk_free(path: &Path) -> u64 {
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    rustix::fs::statvfs(existing).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn probe(port: u16) -> Port {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_listener) => Port::Free,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Port::Forbidden,
        Err(_taken) => Port::Taken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_without_controllers_is_not_version_2() {
        let hybrid = "cgroup /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0\n";
        assert_eq!(cgroups(hybrid, &|_path| Some(String::new())), Cgroups::V1);
        assert_eq!(cgroups("", &|_path| None), Cgroups::Absent);
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let controllers =
            |path: &str| (path == "/sys/fs/cgroup/cgroup.controllers").then(|| "cpu io memory pids".to_owned());
        assert_eq!(cgroups(unified, &controllers), Cgroups::V2);
    }

    #[test]
    fn kernel_versions_have_any_tail() {
        assert_eq!(kernel_version("6.18.0-rc1+deb\n"), Some((6, 18)));
        assert_eq!(kernel_version("5.15"), Some((5, 15)));
        assert_eq!(kernel_version("x"), None);
    }
}
