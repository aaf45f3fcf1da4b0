"""Tries to get at what belongs to others. Prints one line for each attempt: `possible NAME` or `denied NAME: why`.

Every attempt must be possible for an ordinary root process on the host and denied inside a dyno.
What the attempts aim at comes in the environment.
"""

import ctypes
import os
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def in_child(attempt):
    """Runs an attempt in a child, so that what it changes of itself ends with it."""

    def run():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                attempt()
                os.write(writer, b"ok")
            except OSError as error:
                os.write(writer, str(error).encode()[:200])
            except MemoryError:
                os.write(writer, b"out of memory")
            os._exit(0)
        os.close(writer)
        answer = os.read(reader, 300).decode()
        os.waitpid(child, 0)
        if answer != "ok":
            raise OSError(answer or "killed")

    return run


def connect(address):
    host, port = address.rsplit(":", 1)
    host = host.strip("[]")
    socket.create_connection((host, int(port)), timeout=1.5).close()


def overwrite(path):
    with open(path, "ab"):
        pass


def make_file(path):
    with open(path, "xb"):
        pass
    os.unlink(path)


def abstract_socket():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + os.environ["ABSTRACT"])


def server_socket():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.environ["API_SOCKET"])


def own_mount():
    check(libc.unshare(0x00020000))
    check(libc.mount(b"none", b"/", None, 0x44000, None))
    check(libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))


def write_sysctl():
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path) as file:
        value = file.read()
    with open(path, "w") as file:
        file.write(value)


def many_children():
    children = []
    try:
        for _ in range(600):
            child = os.fork()
            if child == 0:
                import time

                time.sleep(20)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, 9)
        for child in children:
            os.waitpid(child, 0)


def much_memory():
    block = bytearray(1300 * 1024 * 1024)
    for at in range(0, len(block), 4096):
        block[at] = 1


ATTEMPTS = {
    "see the host's processes": lambda: os.stat(f"/proc/{os.environ['VICTIM_PID']}/cmdline"),
    "signal another app's process": lambda: os.kill(int(os.environ["VICTIM_PID"]), 0),
    "read another app's environment": lambda: open(f"/proc/{os.environ['VICTIM_PID']}/environ").read(),
    "read the platform's database": lambda: open(os.environ["DATABASE"], "rb").read(1),
    "read the master key": lambda: open(os.environ["MASTER_KEY"], "rb").read(1),
    "list other apps' slugs": lambda: os.listdir(os.environ["SLUGS"]),
    "read the host's shadow file": lambda: open("/etc/shadow").read(1),
    "see the files in root's home": lambda: os.stat(os.environ["ROOT_FILE"]),
    "write to a program of the host": lambda: overwrite("/usr/bin/env"),
    "write to the host's configuration": lambda: make_file("/etc/berth-probe"),
    "write to another app's files": lambda: make_file(os.environ["VICTIM_RUN"] + "/probe"),
    "write to the platform's data": lambda: make_file(os.environ["SLUGS"] + "/probe"),
    "connect to the server's socket": server_socket,
    "connect to an abstract socket of the host": abstract_socket,
    "connect to another app's dyno": lambda: connect(os.environ["VICTIM_ADDRESS"]),
    "connect to a server on the host's loopback": lambda: connect(os.environ["LOOPBACK_ADDRESS"]),
    "connect to a server on the host's other addresses": lambda: connect(os.environ["HOST_ADDRESS"]),
    "connect to the Platform API": lambda: connect(os.environ["API_ADDRESS"]),
    "connect to a server on the host's network address": lambda: connect(os.environ["NETWORK_ADDRESS"]),
    "connect to another port of another app's dyno": lambda: connect(os.environ["VICTIM_OTHER_ADDRESS"]),
    "connect to the cloud's metadata over IPv6": lambda: connect(os.environ["METADATA6_ADDRESS"]),
    "connect to a private network of the host": lambda: connect(os.environ["PRIVATE_ADDRESS"]),
    "connect to the cloud's metadata": lambda: connect(os.environ["METADATA_ADDRESS"]),
    "connect to a link-local address": lambda: connect(os.environ["LINK_LOCAL_ADDRESS"]),
    "mount a file system": in_child(own_mount),
    "unshare namespaces": in_child(lambda: check(libc.unshare(0x00020000 | 0x40000000))),
    "trace a process": in_child(lambda: check(libc.ptrace(0, 0, 0, 0))),
    "use the kernel's keyrings": in_child(lambda: check(libc.syscall(250, 0, -3, 0, 0, 0))),
    "become root": in_child(lambda: (check(libc.setgid(0)), check(libc.setuid(0)))),
    "write a kernel setting": write_sysctl,
    "make a device": in_child(lambda: (os.mknod("/tmp/probe-null", 0o20666, os.makedev(1, 3)), os.unlink("/tmp/probe-null"))),
    "start 600 children": in_child(many_children),
    "use 1.3 GB of memory": in_child(much_memory),
}

# The system's refusals are denials; any other failure is a fault of this script and ends it.
for name, attempt in ATTEMPTS.items():
    if name in os.environ.get("SKIP", "").split(", "):
        continue
    try:
        attempt()
        print(f"possible {name}")
    except (OSError, MemoryError) as error:
        print(f"denied {name}: {error or 'out of memory'}")
    sys.stdout.flush()
