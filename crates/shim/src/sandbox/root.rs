//! The file system that the process sees.
//!
//! A small tmpfs is the root; the host's `/usr` is bound read-only, `/etc`, `/dev` and `/proc` are made for it, and the
//! spec's mounts go on top. Their sources are opened as detached mounts *before* the pivot and attached *after* it,
//! resolved below the new root without magic links: a symbolic link in somebody's slug can then only ever point to a
//! place inside the sandbox.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Uid};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, chownat, mkdirat, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{chdir, pivot_root, umask};
use wire::shim::{Mechanism, Spec};

use super::planned_mount::{ROOT_DIR, detached};
use super::{Plan, Reporter, etc};
use crate::error::{Doing as _, SetupError};
use crate::sys;

/// Bound for `/dev/shm`, which counts as memory of the dyno.
const SHM_BYTES_MAX: u64 = 64 * 1024 * 1024;

pub(super) const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "dev/ptmx"),
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
];
/// Parts of `/proc` that may be read but must not be written.
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Parts of `/proc` that tell about the host.
const PROC_HIDDEN: [&str; 8] =
    ["acpi", "kcore", "keys", "latency_stats", "scsi", "sched_debug", "timer_list", "kallsyms"];

/// The new root after the pivot, still writable.
pub(super) struct NewRoot;

/// Builds the root and pivots into it. Runs in the child.
pub(super) fn build(plan: &Plan<'_>, reporter: &mut Reporter) -> Result<NewRoot, SetupError> {
    umask(Mode::from_raw_mode(0o022));
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".to_owned())?;
    let mut all_mapped = true;
    let mut attachments = Vec::new();
    for planned in &plan.mounts {
        let (mount, mapped) = detached(planned, plan.rooted)?;
        all_mapped &= mapped || !planned.id_map_wanted;
        attachments.push((mount, &planned.target));
    }
    if all_mapped && plan.rooted {
        reporter.in_force(Mechanism::IdmappedMounts);
    }
    let root = Path::new(ROOT_DIR);
    mount_tmpfs(root, c"mode=755,size=4m,nr_inodes=4k")?;
    build_userland(root)?;
    build_etc(root, plan.spec)?;
    build_dev(root, plan)?;
    make_dir(&root.join("proc"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", root.join("proc"), "proc", flags, None).doing(|| "mount /proc".to_owned())?;
    for dir in ["tmp", "run", "var", "var/tmp", "home", "root", "opt", "mnt"] {
        make_dir(&root.join(dir))?;
    }

    chdir(root).doing(|| "enter the new root".to_owned())?;
    // The old root lands on top of the new one and is taken away from there; no directory has to be made for it.
    pivot_root(".", ".").doing(|| "change the root".to_owned())?;
    unmount(".", UnmountFlags::DETACH).doing(|| "leave the old root".to_owned())?;
    chdir("/").doing(|| "enter the new root".to_owned())?;

    let owner = plan.rooted.then_some((plan.spec.identity.uid, plan.spec.identity.gid));
    for (mount, target) in attachments {
        attach(mount.as_fd(), target, owner).doing(|| format!("mount {}", target.display()))?;
    }
    Ok(NewRoot)
}

impl NewRoot {
    /// Takes away what only the set-up needed: writing to the root and to `/proc/sys`.
    pub(super) fn seal(self) -> Result<(), SetupError> {
        for name in PROC_READ_ONLY {
            let path = Path::new("/proc").join(name);
            if path.exists() {
                bind(&path, &path, READ_ONLY | libc::MOUNT_ATTR_NOEXEC)?;
            }
        }
        for name in PROC_HIDDEN {
            let path = Path::new("/proc").join(name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => mount_tmpfs(&path, c"mode=555,size=0,nr_inodes=1")?,
                Ok(_) => bind(Path::new("/dev/null"), &path, READ_ONLY & !libc::MOUNT_ATTR_NODEV)?,
                Err(_) => {}
            }
        }
        for dir in ["/dev", "/"] {
            let path = openat2(CWD, dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())
                .doing(|| format!("open {dir}"))?;
            sys::mount_setattr(path.as_fd(), libc::MOUNT_ATTR_RDONLY, false, None)
                .doing(|| format!("make {dir} read-only"))?;
        }
        Ok(())
    }
}

fn build_userland(root: &Path) -> Result<(), SetupError> {
    for name in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let source = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&source) else { continue };
        let target = root.join(name);
        if metadata.is_symlink() {
            let link = fs::read_link(&source).doing(|| format!("read {}", source.display()))?;
            symlink(&link, &target).doing(|| format!("link {}", target.display()))?;
        } else {
            make_dir(&target)?;
            bind(&source, &target, READ_ONLY)?;
        }
    }
    Ok(())
}

fn build_etc(root: &Path, spec: &Spec) -> Result<(), SetupError> {
    let etc = root.join("etc");
    make_dir(&etc)?;
    for name in etc::SHARED {
        let (source, target) = (Path::new("/etc").join(name), etc.join(name));
        let Ok(metadata) = fs::metadata(&source) else { continue };
        if metadata.is_dir() {
            make_dir(&target)?;
        } else {
            fs::write(&target, "").doing(|| format!("make {}", target.display()))?;
        }
        bind(&source, &target, READ_ONLY)?;
    }
    symlink("../usr/lib/os-release", etc.join("os-release")).doing(|| "link /etc/os-release".to_owned())?;
    symlink("/proc/self/mounts", etc.join("mtab")).doing(|| "link /etc/mtab".to_owned())?;
    for (name, content) in etc::generated(spec) {
        fs::write(etc.join(name), content).doing(|| format!("write /etc/{name}"))?;
    }
    Ok(())
}

fn build_dev(root: &Path, plan: &Plan<'_>) -> Result<(), SetupError> {
    let dev = root.join("dev");
    make_dir(&dev)?;
    mount_tmpfs(&dev, c"mode=755,size=64k,nr_inodes=64")?;
    for name in DEVICES {
        let target = dev.join(name);
        fs::write(&target, "").doing(|| format!("make {}", target.display()))?;
        // Binding works without the right to make device nodes.
        bind(&Path::new("/dev").join(name), &target, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)?;
    }
    for (content, link) in LINKS {
        symlink(content, root.join(link)).doing(|| format!("link {link}"))?;
    }
    let pts = dev.join("pts");
    make_dir(&pts)?;
    // Without root the group `tty` is not mapped, and terminals get the caller's group.
    let options =
        if plan.rooted { c"newinstance,ptmxmode=0666,mode=620,gid=5" } else { c"newinstance,ptmxmode=0666,mode=620" };
    mount("devpts", &pts, "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
        .doing(|| "mount /dev/pts".to_owned())?;
    let shm = dev.join("shm");
    make_dir(&shm)?;
    let bytes = plan.spec.limits.memory_bytes.map_or(SHM_BYTES_MAX, |bytes| SHM_BYTES_MAX.min(bytes / 2));
    let options = std::ffi::CString::new(format!("mode=1777,size={bytes}"))
        .map_err(|_error| SetupError::Refused("a number contained a zero byte".to_owned()))?;
    mount_tmpfs(&shm, &options)
}

/// Attaches a detached mount below `/`, making what is missing of its target.
fn attach(mount: BorrowedFd<'_>, target: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let is_dir =
        rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(mount)?.st_mode) == rustix::fs::FileType::Directory;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |path: &Path, flags| openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    let mut place = open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
    let mut path = PathBuf::from("/");
    let names: Vec<_> = target.components().filter_map(normal).collect();
    for (at, name) in names.iter().enumerate() {
        path.push(name);
        let is_last_file = !is_dir && at + 1 == names.len();
        let flags = if is_last_file { OFlags::PATH } else { OFlags::PATH | OFlags::DIRECTORY };
        place = match open(&path, flags) {
            Err(error) if error == rustix::io::Errno::NOENT => {
                if is_last_file {
                    rustix::fs::openat(
                        &place,
                        *name,
                        OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
                        Mode::from_raw_mode(0o644),
                    )?;
                } else {
                    mkdirat(&place, *name, Mode::from_raw_mode(0o755))?;
                }
                if let Some((uid, gid)) = owner {
                    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                    chownat(&place, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                }
                open(&path, flags)?
            }
            result => result?,
        };
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", &place, "", flags)?)
}

fn bind(source: &Path, target: &Path, attributes: u64) -> Result<(), SetupError> {
    let mount = clone_mount(source)?;
    set_attributes(&mount, attributes, source)?;
    move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(|| format!("mount {}", target.display()))
}

pub(super) fn clone_mount(source: &Path) -> Result<OwnedFd, SetupError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, source, flags).doing(|| format!("open {} for mounting", source.display()))
}

pub(super) fn set_attributes(mount: &OwnedFd, attributes: u64, source: &Path) -> Result<(), SetupError> {
    sys::mount_setattr(mount.as_fd(), attributes, true, None)
        .doing(|| format!("protect the mount of {}", source.display()))
}

fn mount_tmpfs(target: &Path, options: &std::ffi::CStr) -> Result<(), SetupError> {
    mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .doing(|| format!("mount {}", target.display()))
}

fn normal(component: Component<'_>) -> Option<&Path> {
    match component {
        Component::Normal(name) => Some(Path::new(name)),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    }
}

fn make_dir(path: &Path) -> Result<(), SetupError> {
    fs::create_dir(path).doing(|| format!("make {}", path.display()))
}
