//! What a process in a sandbox must not be able to do. Each probe says what it could do after all.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use wire::shim::{Mechanism, State};

use crate::harness::{Dyno, needs_root, skip};
use crate::network::isolated;

/// Tries everything that needs only Python; prints one line for each thing that worked.
const PROBES: &str = r#"
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def escaped(name, attempt):
    try:
        if attempt() != -1: print("ESCAPED", name)
    except OSError: pass
def syscall(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments])
def write(path):
    with open(path, "w") as file: file.write("1")
escaped("write /usr", lambda: write("/usr/probe"))
escaped("write /etc", lambda: write("/etc/probe"))
escaped("write /", lambda: write("/probe"))
escaped("write /dev", lambda: write("/dev/probe"))
escaped("read shadow", lambda: open("/etc/shadow").read())
escaped("read kcore", lambda: len(open("/proc/kcore", "rb").read(8)) or -1)
escaped("write /proc/sys", lambda: write("/proc/sys/net/ipv4/ip_forward"))
escaped("write sysrq", lambda: write("/proc/sysrq-trigger"))
escaped("sys", lambda: os.listdir("/sys") and 0)
escaped("trace", lambda: libc.ptrace(0, 0, 0, 0))
escaped("mount", lambda: libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
escaped("umount", lambda: libc.umount2(b"/proc/sys", 2))
escaped("chroot", lambda: libc.chroot(b"/tmp"))
escaped("setuid", lambda: libc.setuid(0))
escaped("setgroups", lambda: libc.setgroups(1, (ctypes.c_uint * 1)(0)))
for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
    escaped("unshare %x" % flag, lambda: libc.unshare(flag))
escaped("setns", lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
escaped("keyctl", lambda: syscall(250, 0, -3, 0))
escaped("add_key", lambda: syscall(248, 0, 0, 0, 0, 0))
escaped("bpf", lambda: syscall(321, 0, 0, 0))
escaped("perf_event_open", lambda: syscall(298, 0, 0, 0, 0, 0))
escaped("userfaultfd", lambda: syscall(323, 0))
escaped("io_uring", lambda: syscall(425, 1, 0))
escaped("vsock", lambda: socket.socket(40, socket.SOCK_STREAM) and 0)
escaped("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and 0)
escaped("mknod", lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(254, 0)))
escaped("descriptors of init", lambda: os.listdir("/proc/1/fd") and 0)
escaped("environment of init", lambda: open("/proc/1/environ").read() and 0)
escaped("abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\0" + os.environ["ABSTRACT"]) or 0)
for number, name in ((435, "clone3"),):
    if syscall(number, 0, 0) != -1 or ctypes.get_errno() != errno.ENOSYS: print("ESCAPED", name)
if libc.unshare(0x10000000) == -1 and ctypes.get_errno() != errno.EPERM: print("ESCAPED unshare errno")
others = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in (1, os.getpid())]
if others: print("ESCAPED sees processes", others)
status = open("/proc/self/status").read()
for line in ("CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
             "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
    if line not in status: print("ESCAPED", line)
if os.getgroups(): print("ESCAPED groups", os.getgroups())
descriptors = sorted(os.listdir("/proc/self/fd"))
if descriptors[:3] != ["0", "1", "2"] or len(descriptors) > 4: print("ESCAPED descriptors", descriptors)
print("done", os.getuid(), os.getgid(), os.uname().nodename, os.path.expanduser("~app"))
"#;

/// What got out, and what is in force.
async fn probe(dyno: Dyno) -> (Vec<String>, State) {
    // Of its own for each test: they may run at the same time.
    let name = format!("berth-probe-{}", dyno.spec.instance);
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut dyno = dyno;
    dyno.environment.insert("ABSTRACT".to_owned(), name);
    let state = dyno.launch().await.unwrap();
    dyno.exit().await;
    let mut lines = dyno.lines("out");
    assert_eq!(lines.pop().as_deref(), Some("done 412345 412345 dyno-host /app"), "{:?}", dyno.lines("err"));
    (lines, state)
}

#[tokio::test]
async fn nothing_gets_out_of_a_sandbox_with_a_network_of_its_own() {
    if skip("nothing_gets_out_of_a_sandbox_with_a_network_of_its_own", needs_root()) {
        return;
    }
    let dyno = isolated(Dyno::command(&["/usr/bin/python3", "-c", PROBES]), 21);
    let (escaped, _) = probe(dyno).await;
    assert!(escaped.is_empty(), "{escaped:?}");
}

#[tokio::test]
async fn nothing_gets_out_of_a_sandbox_in_the_hosts_network_but_what_is_told() {
    if skip("nothing_gets_out_of_a_sandbox_in_the_hosts_network_but_what_is_told", needs_root()) {
        return;
    }
    let (escaped, state) = probe(Dyno::command(&["/usr/bin/python3", "-c", PROBES])).await;
    // Only a Landlock that knows scopes can close them there; without it the state does not claim it.
    let expected: &[&str] =
        if state.in_force.contains(&Mechanism::Landlock) { &[] } else { &["ESCAPED abstract socket"] };
    assert_eq!(escaped, expected);
}

#[tokio::test]
async fn common_programs_work_in_a_sandbox() {
    if skip("common_programs_work_in_a_sandbox", needs_root()) {
        return;
    }
    let script = "set -e
        id -un; getent hosts localhost >/dev/null; test -r /etc/ssl/certs; test -c /dev/null; echo x > /dev/shm/x
        echo to-stdout > /dev/stdout; cat /etc/hostname; mktemp > /dev/null; ls /proc/self/fd > /dev/null
        python3 -c 'import threading, multiprocessing, ssl, asyncio
t = threading.Thread(target=print, args=(\"thread\",)); t.start(); t.join()
with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, [-1, -2])))
asyncio.run(asyncio.sleep(0))'
        if command -v node >/dev/null; then node -e 'setTimeout(() => console.log(\"node\"), 1)'; else echo node; fi";
    let mut dyno = Dyno::shell(script);
    dyno.spec.limits.memory_bytes = Some(1 << 30);
    dyno.spec.limits.processes_max = 256;
    let (exit, lines) = dyno.run().await;
    assert_eq!(exit.status, Some(0), "{lines:?} {:?}", dyno.lines("err"));
    assert_eq!(lines, ["app", "to-stdout", "dyno-host", "thread", "3", "node"]);
}
