//! What a machine has and lacks for Berth, and what follows from it.
//!
//! [`look()`] gathers facts and judges nothing; [`judge`] judges facts and looks at nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::output;

mod look;

pub(crate) use look::look;

/// Below this much free disk, builds and logs have no room.
const DISK_FREE_MIN: u64 = 2 << 30;

/// Id-mapped mounts, which let dynos share one copy of a slug.
const KERNEL_IDMAPPED: (u32, u32) = (5, 19);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    V2,
    V1,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Free,
    Taken,
    /// Below 1024, for a user who may not have it.
    Forbidden,
}

#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) is_linux: bool,
    pub(crate) is_root: bool,
    pub(crate) kernel: Option<(u32, u32)>,
    pub(crate) programs: BTreeMap<&'static str, bool>,
    pub(crate) forwards: bool,
    pub(crate) cgroups: Cgroups,
    pub(crate) user_namespaces: bool,
    pub(crate) overlayfs: bool,
    pub(crate) authority: Option<PathBuf>,
    pub(crate) data_dir: PathBuf,
    pub(crate) disk_free: u64,
    pub(crate) ports: Vec<(u16, Port)>,
    /// A running Berth holds its own ports.
    pub(crate) server_runs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grade {
    Good,
    /// Berth works, with less.
    Reduced,
    /// Berth does not work without.
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) grade: Grade,
    pub(crate) detail: String,
    /// What follows, and what to do.
    pub(crate) consequence: Option<String>,
}

/// Judges a machine, the most important first.
pub(crate) fn judge(facts: &Facts) -> Vec<Finding> {
    if !facts.is_linux {
        return vec![finding(
            "system",
            Grade::Missing,
            "this is not Linux",
            "The client works here; the server needs Linux: log in to one with `berth login URL`.",
        )];
    }
    let has = |program: &str| facts.programs.get(program).copied().unwrap_or(false);
    let mut findings = vec![
        if facts.is_root {
            good("user", "root")
        } else {
            let text = "Development mode: user namespaces where they work, one uid, no promise between apps.";
            finding("user", Grade::Reduced, "not root", text)
        },
        judge_kernel(facts.kernel),
        match facts.cgroups {
            Cgroups::V2 => good("cgroups", "version 2"),
            Cgroups::V1 => good("cgroups", "version 1"),
            Cgroups::Absent => {
                let text = "No limits for memory and CPU: one app can take the whole machine. Mount cgroup2.";
                finding("cgroups", Grade::Reduced, "no controllers for memory and CPU", text)
            }
        },
    ];
    if !facts.is_root {
        findings.push(if facts.user_namespaces {
            good("user namespaces", "allowed")
        } else {
            let text = "Without root no dyno can start: allow them (sysctl kernel.unprivileged_userns_clone=1, \
                        kernel.apparmor_restrict_unprivileged_userns=0), or run as root.";
            finding("user namespaces", Grade::Missing, "not allowed for this user", text)
        });
    }
    findings.push(if facts.overlayfs {
        good("overlayfs", "available")
    } else {
        finding(
            "overlayfs",
            Grade::Missing,
            "not in this kernel",
            "Dynos cannot start: load it with `modprobe overlay`.",
        )
    });
    findings.push(if has("git") {
        good("git", "found")
    } else {
        finding("git", Grade::Reduced, "not found", "`git push` cannot deploy; `berth deploy` can. Install git.")
    });
    if facts.is_root {
        findings.push(if has("nft") {
            good("nftables", "found")
        } else {
            let text = "Dynos have no network of their own, or no way out of it. Install nftables.";
            finding("nftables", Grade::Missing, "nft was not found", text)
        });
        findings.push(if facts.forwards {
            good("forwarding", "on")
        } else {
            let text = "Berth turns net.ipv4.ip_forward on when it starts, and says so.";
            Finding { consequence: Some(text.to_owned()), ..good("forwarding", "off") }
        });
    }
    findings.push(match &facts.authority {
        Some(path) => good("certificates", path.display()),
        None => {
            let text = "Builds cannot download packages, and drains cannot connect. Install ca-certificates.";
            finding("certificates", Grade::Missing, "no bundle of certificate authorities", text)
        }
    });
    findings.push(judge_disk(facts));
    findings.extend(facts.ports.iter().map(|&(number, port)| judge_port(number, port, facts.server_runs)));
    findings.push(judge_toolchains(&has));
    findings
}

fn judge_kernel(kernel: Option<(u32, u32)>) -> Finding {
    match kernel {
        None => finding("kernel", Grade::Reduced, "version unknown", "What is missing shows when a dyno starts."),
        Some(version @ (major, minor)) if version < KERNEL_IDMAPPED => {
            let text = "Slugs are copied per app instead of mounted (id-mapped mounts come with 5.19).";
            finding("kernel", Grade::Reduced, format!("{major}.{minor}"), text)
        }
        Some((major, minor)) => good("kernel", format_args!("{major}.{minor}")),
    }
}

fn judge_disk(facts: &Facts) -> Finding {
    let detail = format!("{} free at {}", output::bytes(facts.disk_free), facts.data_dir.display());
    if facts.disk_free >= DISK_FREE_MIN {
        return good("disk", detail);
    }
    let text = "Builds will soon fail for lack of room. `berth gc` shows what can be deleted.";
    finding("disk", Grade::Reduced, detail, text)
}

fn judge_port(number: u16, port: Port, server_runs: bool) -> Finding {
    match port {
        Port::Free => good("port", format_args!("{number} is free")),
        Port::Taken if server_runs => good("port", format_args!("{number} is taken, Berth runs")),
        Port::Taken => {
            let text = format!(
                "`berth up` needs another one (--api-port, --http-port), or end what listens: ss -ltnp 'sport = :{number}'"
            );
            finding("port", Grade::Missing, format!("{number} is taken"), text)
        }
        Port::Forbidden => {
            let text = "Ports below 1024 need root.";
            finding("port", Grade::Missing, format!("{number} is not allowed for this user"), text)
        }
    }
}

fn judge_toolchains(has: &dyn Fn(&str) -> bool) -> Finding {
    let found: Vec<&str> = ["uv", "python3", "node"].into_iter().filter(|program| has(program)).collect();
    if found.is_empty() {
        let text = "Fetched on first use instead, which needs the network.";
        return Finding { consequence: Some(text.to_owned()), ..good("toolchains", "none on this machine") };
    }
    good("toolchains", found.join(", "))
}

fn good(name: &'static str, detail: impl ToString) -> Finding {
    Finding { name, grade: Grade::Good, detail: detail.to_string(), consequence: None }
}

fn finding(name: &'static str, grade: Grade, detail: impl Into<String>, consequence: impl Into<String>) -> Finding {
    Finding { name, grade, detail: detail.into(), consequence: Some(consequence.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Facts {
        Facts {
            is_linux: true,
            is_root: true,
            kernel: Some((6, 1)),
            programs: ["git", "nft", "uv", "python3", "node"].map(|program| (program, true)).into(),
            forwards: true,
            cgroups: Cgroups::V2,
            user_namespaces: true,
            overlayfs: true,
            authority: Some("/etc/ssl/cert.pem".into()),
            data_dir: "/var/lib/berth".into(),
            disk_free: 50 << 30,
            ports: vec![(5000, Port::Free), (8080, Port::Free)],
            server_runs: false,
        }
    }

    /// The findings that are not good.
    fn check(change: impl FnOnce(&mut Facts), expect: &[(&str, Grade)]) {
        let mut facts = whole();
        change(&mut facts);
        let findings = judge(&facts);
        let bad: Vec<_> = findings.iter().filter(|finding| finding.grade != Grade::Good).collect();
        assert!(bad.iter().all(|finding| finding.consequence.is_some()), "{bad:?}");
        assert_eq!(bad.iter().map(|finding| (finding.name, finding.grade)).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_whole_machine_has_nothing_to_complain_about() {
        check(|_facts| {}, &[]);
    }

    #[test]
    fn each_lack_is_named_with_what_follows() {
        check(|facts| facts.is_linux = false, &[("system", Grade::Missing)]);
        check(|facts| facts.is_root = false, &[("user", Grade::Reduced)]);
        check(|facts| facts.kernel = Some((5, 15)), &[("kernel", Grade::Reduced)]);
        check(|facts| facts.cgroups = Cgroups::Absent, &[("cgroups", Grade::Reduced)]);
        check(|facts| facts.overlayfs = false, &[("overlayfs", Grade::Missing)]);
        check(|facts| facts.authority = None, &[("certificates", Grade::Missing)]);
        check(|facts| facts.disk_free = 1 << 30, &[("disk", Grade::Reduced)]);
        check(|facts| facts.ports[0].1 = Port::Taken, &[("port", Grade::Missing)]);
        check(|facts| facts.programs.clear(), &[("git", Grade::Reduced), ("nftables", Grade::Missing)]);
    }

    #[test]
    fn what_only_root_or_only_a_user_needs_is_asked_of_them_alone() {
        check(|facts| facts.user_namespaces = false, &[]);
        check(
            |facts| (facts.is_root, facts.user_namespaces) = (false, false),
            &[("user", Grade::Reduced), ("user namespaces", Grade::Missing)],
        );
        check(|facts| (facts.is_root, facts.forwards) = (false, false), &[("user", Grade::Reduced)]);
    }

    #[test]
    fn a_running_berth_may_hold_its_ports() {
        check(|facts| (facts.server_runs, facts.ports[0].1) = (true, Port::Taken), &[]);
    }
}
