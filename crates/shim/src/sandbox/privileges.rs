//! Gives up everything that the process does not need, in the order in which it can still be given up.

use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};
use wire::shim::Spec;

use crate::error::{Doing as _, SetupError};
use crate::sys;

/// Added to the out-of-memory score, so that the kernel takes a dyno before a part of the platform.
const OOM_SCORE_ADDED: i32 = 200;
const OOM_SCORE_MAX: i32 = 1000;

/// Sets the limits of the process. Needs a `/proc` that can be written.
pub(super) fn limit(spec: &Spec) -> Result<(), SetupError> {
    raise_oom_score()?;
    limit_resources(spec)
}

/// Drops every capability, group and user id but the app's own. There is no way back.
pub(super) fn drop_all(spec: &Spec, rooted: bool) -> Result<(), SetupError> {
    sys::drop_bounding_set().doing(|| "drop the bounding set of capabilities".to_owned())?;
    clear_ambient_capability_set().doing(|| "clear ambient capabilities".to_owned())?;
    let (uid, gid) = (Uid::from_raw(spec.identity.uid), Gid::from_raw(spec.identity.gid));
    if rooted {
        // A user namespace with one mapped group has no groups to drop, and refuses the call.
        set_thread_groups(&[]).doing(|| "drop supplementary groups".to_owned())?;
    }
    set_thread_res_gid(gid, gid, gid).doing(|| format!("become group {gid:?}"))?;
    set_thread_res_uid(uid, uid, uid).doing(|| format!("become user {uid:?}"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .doing(|| "drop capabilities".to_owned())?;
    set_no_new_privs(true).doing(|| "set no_new_privs".to_owned())?;
    // The app has init's uid. Not dumpable, init can neither be traced nor its descriptors be opened by the app.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "become not dumpable".to_owned())
}

/// Only ever raises it: lowering needs a capability that root does not have everywhere.
fn raise_oom_score() -> Result<(), SetupError> {
    let path = "/proc/self/oom_score_adj";
    let inherited: i32 = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let score = inherited.max(0).saturating_add(OOM_SCORE_ADDED).min(OOM_SCORE_MAX);
    std::fs::write(path, score.to_string()).doing(|| format!("write {path}"))
}

fn limit_resources(spec: &Spec) -> Result<(), SetupError> {
    let inherited = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    // More than inherited needs CAP_SYS_RESOURCE, which root does not have everywhere.
    let files = Some(u64::from(spec.limits.open_files_max).min(inherited));
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).doing(|| "limit open files".to_owned())?;
    // A core dump would fill the disk with secrets.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).doing(|| "forbid core dumps".to_owned())
}
