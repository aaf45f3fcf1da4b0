//! The mounts of a spec: prepared by the shim on the host's side, opened by the child as detached mounts.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use wire::shim::{Mount, Spec};

use super::idmap;
use super::root::{READ_ONLY, clone_mount, set_attributes};
use crate::error::{Doing as _, SetupError};
use crate::sys;

/// Below the run directory: writable layers and scratch directories of this dyno.
pub(crate) const LAYERS_DIR: &str = "layers";
/// Below the run directory: where the new root is mounted until the pivot, in the sandbox's own mount namespace.
pub(crate) const ROOT_DIR: &str = "root";

const WRITABLE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// One mount of the spec with what only the shim, in the host's namespaces, can prepare for it.
pub(super) struct PlannedMount {
    kind: PlannedKind,
    pub(super) target: PathBuf,
    /// Maps the owner of the source onto the sandbox's uid; none where they are the same or it is not possible.
    id_map: Option<OwnedFd>,
    pub(super) id_map_wanted: bool,
}

enum PlannedKind {
    Bind { source: PathBuf, attributes: u64 },
    Overlay { lower: PathBuf, layer: PathBuf },
}

/// Makes layers and id maps. Runs in the shim, with the run directory as the working directory.
pub(super) fn plan(spec: &Spec, rooted: bool) -> Result<Vec<PlannedMount>, SetupError> {
    let identity = (spec.identity.uid, spec.identity.gid);
    make_layer_dir(Path::new(ROOT_DIR), None)?;
    make_layer_dir(Path::new(LAYERS_DIR), None)?;
    let temporary = Mount::Scratch { target: PathBuf::from("/tmp") };
    let has_temporary = spec.mounts.iter().any(|mount| target_of(mount) == Path::new("/tmp"));
    let mounts = spec.mounts.iter().chain((!has_temporary).then_some(&temporary));
    let mut maps: Vec<((u32, u32), Option<OwnedFd>)> = Vec::new();
    let mut planned = Vec::new();
    for (number, mount) in mounts.enumerate() {
        check_target(target_of(mount))?;
        let layer = Path::new(LAYERS_DIR).join(number.to_string());
        let (kind, source) = match mount {
            Mount::ReadOnly { source, .. } => {
                (PlannedKind::Bind { source: source.clone(), attributes: READ_ONLY }, Some(source))
            }
            Mount::Writable { source, .. } => {
                (PlannedKind::Bind { source: source.clone(), attributes: WRITABLE }, Some(source))
            }
            Mount::Overlay { lower, .. } => {
                make_layer_dir(&layer, None)?;
                make_layer_dir(&layer.join("upper"), rooted.then_some(identity))?;
                make_layer_dir(&layer.join("work"), None)?;
                make_layer_dir(&layer.join("lower"), None)?;
                set_mode(&layer.join("upper"), 0o755)?;
                (PlannedKind::Overlay { lower: lower.clone(), layer }, Some(lower))
            }
            Mount::Scratch { .. } => {
                make_layer_dir(&layer, rooted.then_some(identity))?;
                // As every program expects of /tmp, and no harm elsewhere: the dyno has one user.
                set_mode(&layer, 0o1777)?;
                (PlannedKind::Bind { source: layer, attributes: WRITABLE }, None)
            }
        };
        let mut id_map = None;
        let mut id_map_wanted = false;
        if let (Some(source), true) = (source, rooted) {
            let metadata = fs::metadata(source).doing(|| format!("look at {}", source.display()))?;
            let owner = (metadata.uid(), metadata.gid());
            id_map_wanted = owner != identity;
            if id_map_wanted {
                if !maps.iter().any(|(known, _)| *known == owner) {
                    // A kernel that forbids user namespaces to root cannot map; the mount is then a plain one.
                    maps.push((owner, idmap::mount_map(owner, identity).ok()));
                }
                let map = maps.iter().find(|(known, _)| *known == owner).and_then(|(_, map)| map.as_ref());
                id_map = map.map(OwnedFd::try_clone).transpose().doing(|| "duplicate a descriptor".to_owned())?;
            }
        }
        planned.push(PlannedMount { kind, target: target_of(mount).to_owned(), id_map, id_map_wanted });
    }
    Ok(planned)
}

/// Opens the source as a mount of its own that is not attached anywhere yet. Gives whether its ids are mapped.
pub(super) fn detached(planned: &PlannedMount, rooted: bool) -> Result<(OwnedFd, bool), SetupError> {
    match &planned.kind {
        PlannedKind::Bind { source, attributes } => {
            let mount = clone_mount(source)?;
            let mapped = map_ids(&mount, planned.id_map.as_ref());
            set_attributes(&mount, *attributes, source)?;
            Ok((mount, mapped))
        }
        PlannedKind::Overlay { lower, layer } => {
            if let Some(id_map) = &planned.id_map {
                let mount = clone_mount(lower)?;
                let point = layer.join("lower");
                if map_ids(&mount, Some(id_map)) {
                    // An overlay takes its lower layer by name, so it gets one in this mount namespace.
                    move_mount(&mount, "", CWD, &point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                        .doing(|| format!("attach {}", lower.display()))?;
                    // Kernels before 5.19 refuse a mapped lower layer.
                    if let Ok(overlay) = overlay(&point, layer, rooted) {
                        return Ok((overlay, true));
                    }
                    unmount(&point, UnmountFlags::DETACH).doing(|| format!("detach {}", lower.display()))?;
                }
            }
            let overlay =
                overlay(lower, layer, rooted).doing(|| format!("lay a writable layer over {}", lower.display()))?;
            Ok((overlay, false))
        }
    }
}

fn overlay(lower: &Path, layer: &Path, rooted: bool) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // The option is a list with `:` between its items.
    let lower = lower.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
    fsconfig_set_string(&context, "lowerdir", lower)?;
    fsconfig_set_string(&context, "upperdir", layer.join("upper"))?;
    fsconfig_set_string(&context, "workdir", layer.join("work"))?;
    if !rooted {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn map_ids(mount: &OwnedFd, id_map: Option<&OwnedFd>) -> bool {
    // Not recursive: a file system mounted below may not support it. Unsupported here, it stays a plain mount.
    id_map.is_some_and(|map| sys::mount_setattr(mount.as_fd(), 0, false, Some(map.as_fd())).is_ok())
}

fn target_of(mount: &Mount) -> &Path {
    match mount {
        Mount::ReadOnly { target, .. }
        | Mount::Writable { target, .. }
        | Mount::Overlay { target, .. }
        | Mount::Scratch { target } => target,
    }
}

fn check_target(target: &Path) -> Result<(), SetupError> {
    let clean = target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if target.is_absolute() && clean && target != Path::new("/") {
        return Ok(());
    }
    Err(SetupError::Refused(format!("mount target {} must be an absolute path without `..`", target.display())))
}

/// As [`make_dir`], for a run directory in which an earlier attempt may have left it.
fn make_layer_dir(path: &Path, owner: Option<(u32, u32)>) -> Result<(), SetupError> {
    fs::create_dir_all(path).doing(|| format!("make {}", path.display()))?;
    match owner {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)).doing(|| format!("give {} to the app", path.display())),
        None => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), SetupError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing(|| format!("set the mode of {}", path.display()))
}
