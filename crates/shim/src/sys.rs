//! The system calls that no crate wraps safely. Everything here is called from a process with a single thread.

use std::ffi::{CStr, CString, c_int, c_long};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

/// The C library's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a `fork` or `clone3` returned.
pub(crate) enum Side<T> {
    Parent(T),
    Child,
}

/// Forks the calling process. Only for a single-threaded caller: then the child is as free as the parent was.
pub(crate) fn fork() -> io::Result<Side<Pid>> {
    // SAFETY: the caller has one thread, so no lock can be held by a thread that does not exist in the child.
    let pid = unsafe { libc::fork() };
    match Pid::from_raw(pid) {
        None => Ok(Side::Child),
        Some(child) if pid > 0 => Ok(Side::Parent(child)),
        Some(_) => Err(io::Error::last_os_error()),
    }
}

/// Forks into new namespaces (`CLONE_NEW*` in `flags`) and, if given, directly into a cgroup of the v2 tree.
pub(crate) fn clone3(flags: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Side<(Pid, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    let flags = u64::from(flags.cast_unsigned()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    // SAFETY: `clone_args` is a plain structure of integers; all zero is a valid value of it.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.flags = flags;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or_default();
    }
    // SAFETY: without CLONE_VM and without a stack this is a fork: the child continues on a copy of this stack. The
    // structure and `pidfd` outlive the call. The caller has one thread, see `fork`.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, mem::size_of_val(&arguments)) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: with CLONE_PIDFD the kernel has stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(|pid| Side::Parent((pid, pidfd))).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        }
    }
}

/// Makes the caller's cgroups the roots of what it sees.
pub(crate) fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: takes an integer; a cgroup namespace changes no descriptor table or memory that Rust relies on.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }))
}

/// Sets attributes (`MOUNT_ATTR_*`) of a mount, of everything below it if `recursive`, and its id mapping.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: u64,
    recursive: bool,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut request = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(user_namespace) = user_namespace {
        request.attr_set |= libc::MOUNT_ATTR_IDMAP;
        request.userns_fd = u64::try_from(user_namespace.as_raw_fd()).unwrap_or_default();
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure has the size that is passed, both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut request,
            mem::size_of_val(&request),
        )
    };
    check(result)
}

/// Closes every descriptor from 3 on but those in `keep`. The caller must not use the others, nor drop their owners.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.into_iter().chain([RawFd::MAX]) {
        if first < kept {
            // SAFETY: takes three integers. What is closed is never used again: the caller leaves by `exit_now`.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) })?;
        }
        first = first.max(kept.saturating_add(1));
    }
    Ok(())
}

/// Sends a signal to every process of the PID namespace but the caller, its PID 1.
pub(crate) fn signal_everyone(signal: c_int) {
    // SAFETY: takes integers. The only caller is init, so -1 means the processes of its namespace. That there is
    // none left is no error here.
    unsafe { libc::kill(-1, signal) };
}

/// A signal taken by [`wait_for_signal`].
pub(crate) struct TakenSignal {
    pub(crate) number: c_int,
    /// Sent by a process outside of the PID namespace of the receiver, or by the kernel.
    pub(crate) from_outside: bool,
}

/// Blocks all signals, so that [`wait_for_signal`] receives them.
pub(crate) fn block_signals() -> io::Result<()> {
    let set = full_signal_set();
    // SAFETY: the set is initialised, the old one is not asked for.
    check(c_long::from(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) }))
}

pub(crate) fn wait_for_signal() -> io::Result<TakenSignal> {
    let set = full_signal_set();
    // SAFETY: `siginfo_t` is plain data; all zero is a valid value of it.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let number = unsafe { libc::sigwaitinfo(&raw const set, &raw mut info) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the signals asked about carry a sender (SI_USER, SI_QUEUE, SI_TKILL) or have that field zero.
    let sender = unsafe { info.si_pid() };
    Ok(TakenSignal { number, from_outside: sender == 0 })
}

/// Gives the process the signal state that programs expect: nothing blocked, every action the default.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action. SIGKILL, SIGSTOP and the C library's own signals refuse, rightly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: all zero is a valid `sigset_t`, the empty one.
    let empty: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: as in `block_signals`.
    check(c_long::from(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, ptr::null_mut()) }))
}

pub(crate) fn ignore_signal(signal: c_int) {
    // SAFETY: SIG_IGN is a valid action; no handler of ours is ever installed that could be lost.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Replaces the program. Returns only if that failed.
pub(crate) fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers =
        |strings: &[CString]| -> Vec<_> { strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect() };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process without running destructors or exit handlers, which belong to the process it was forked from.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Removes every capability from the bounding set, also those that this program has no name for.
pub(crate) fn drop_bounding_set() -> io::Result<()> {
    for capability in 0..64_u64 {
        // SAFETY: takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if result != 0 {
            let error = io::Error::last_os_error();
            // Behind the last capability that this kernel knows.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Gives unused heap back to the kernel: a supervisor lives as long as its process and its launch used more.
pub(crate) fn trim_heap() {
    // SAFETY: only touches the allocator, by its own interface. A C library without it has no such heap either.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

fn full_signal_set() -> libc::sigset_t {
    // SAFETY: all zero is a valid `sigset_t`.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is valid.
    unsafe { libc::sigfillset(&raw mut set) };
    set
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
