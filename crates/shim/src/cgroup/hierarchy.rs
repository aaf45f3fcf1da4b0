//! Which cgroup trees this machine has, and where in them dynos may live.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The leaf that holds the platform's own processes inside a delegated cgroup.
pub(crate) const SUPERVISOR_LEAF: &str = "supervisor";

/// Controllers that are used where they exist.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) trees: Vec<Tree>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Where the instance's directory goes.
    pub(crate) base: PathBuf,
    pub(crate) is_v2: bool,
    /// The base is a cgroup below the root that the platform was started in.
    pub(crate) is_delegated: bool,
}

impl Hierarchy {
    pub(crate) fn detect() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::from_mounts(&mounts, &own))
    }

    /// `mounts` is `/proc/self/mountinfo`, `own` is `/proc/self/cgroup`.
    fn from_mounts(mounts: &str, own: &str) -> Self {
        let mut trees: Vec<Tree> = Vec::new();
        for line in mounts.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let Some(point) = front.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut back = back.split(' ');
            let (kind, options) = (back.next().unwrap_or_default(), back.nth(1).unwrap_or_default());
            let tree = match kind {
                "cgroup2" => {
                    let base = v2_base(&point, own);
                    Tree { is_delegated: base != point, base, is_v2: true }
                }
                "cgroup" if options.split(',').any(|option| CONTROLLERS.contains(&option)) => {
                    Tree { base: point, is_v2: false, is_delegated: false }
                }
                _ => continue,
            };
            if !trees.contains(&tree) {
                trees.push(tree);
            }
        }
        Self { trees }
    }

    pub(crate) fn has_v1_controllers(&self) -> bool {
        self.trees.iter().any(|tree| !tree.is_v2)
    }
}

impl Tree {
    /// Lets the children of `parent` use controllers: each level from the base down must pass them on.
    ///
    /// What the tree does not offer is not there later either, and is then reported as not in force.
    pub(crate) fn enable_controllers(&self, parent: &Path) {
        let mut level = self.base.clone();
        let below = parent.strip_prefix(&self.base).map(Path::components).into_iter().flatten();
        for next in std::iter::once(None).chain(below.map(Some)) {
            if let Some(next) = next {
                level.push(next);
            }
            for controller in CONTROLLERS {
                drop(fs::write(level.join("cgroup.subtree_control"), format!("+{controller}")));
            }
        }
    }
}

/// The cgroup of the platform itself, without the leaf that its processes live in.
fn v2_base(mount: &Path, own: &str) -> PathBuf {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let path = path.strip_suffix(SUPERVISOR_LEAF).unwrap_or(path).trim_end_matches('/');
    if path.is_empty() { mount.to_owned() } else { mount.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &str, own: &str, expect: &[(&str, bool)]) {
        let seen = Hierarchy::from_mounts(mounts, own);
        let expect: Vec<_> = expect.iter().map(|&(base, is_v2)| (PathBuf::from(base), is_v2)).collect();
        let seen: Vec<_> = seen.trees.into_iter().map(|tree| (tree.base, tree.is_v2)).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn hybrid_hosts_offer_v1_controllers_and_a_bare_v2_tree() {
        let mounts = "\
29 27 0:25 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 27 0:27 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 27 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 27 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
38 27 0:33 / /proc rw,relatime - proc proc rw
";
        let expect =
            [("/sys/fs/cgroup/cpu", false), ("/sys/fs/cgroup/memory", false), ("/sys/fs/cgroup/unified", true)];
        check(mounts, "4:memory:/a/b\n0::/\n", &expect);
    }

    #[test]
    fn under_systemd_dynos_live_beside_the_supervisor_leaf_of_the_unit() {
        let mounts = "25 18 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let base = "/sys/fs/cgroup/system.slice/berth.service";
        check(mounts, "0::/system.slice/berth.service/supervisor\n", &[(base, true)]);
        check(mounts, "0::/system.slice/berth.service\n", &[(base, true)]);
        check(mounts, "0::/\n", &[("/sys/fs/cgroup", true)]);
    }
}
