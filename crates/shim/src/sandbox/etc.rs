//! The minimal `/etc`: generated files, and what programs need of the host's own and may be seen by anybody.

use std::net::Ipv4Addr;
use std::path::Path;

use wire::shim::{Network, Spec};

/// Bound read-only from the host's `/etc` where they exist: trust anchors, the linker's cache, tables of names.
/// Nothing that tells about this host's users, services or secrets.
pub(super) const SHARED: [&str; 23] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "ethertypes",
    "fonts",
    "gai.conf",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "mime.types",
    "pki",
    "protocols",
    "rpc",
    "services",
    "ssl",
    "terminfo",
    "timezone",
    "xml",
];

/// Name below `/etc` and content of each generated file.
pub(super) fn generated(spec: &Spec) -> Vec<(&'static str, String)> {
    let identity = &spec.identity;
    let (user, uid, gid) = (&identity.user_name, identity.uid, identity.gid);
    let home = identity.home.display();
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n\
         {user}:x:{uid}:{gid}::{home}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    let group = format!("root:x:0:\ntty:x:5:\n{user}:x:{gid}:\nnogroup:x:65534:\n");
    let mut files = vec![
        ("passwd", passwd),
        ("group", group),
        ("hostname", format!("{}\n", spec.hostname)),
        ("hosts", hosts(spec)),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n".to_owned(),
        ),
        ("shells", "/bin/sh\n/bin/bash\n".to_owned()),
    ];
    files.extend(resolvers(&spec.network).map(|text| ("resolv.conf", text)));
    files
}

fn hosts(spec: &Spec) -> String {
    let (own, gateway) = match spec.network {
        Network::Isolated { address, gateway, .. } => (address, gateway),
        Network::Host { .. } => (Ipv4Addr::new(127, 0, 1, 1), Ipv4Addr::LOCALHOST),
    };
    let hostname = &spec.hostname;
    format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own} {hostname}\n{gateway} host.berth.internal\n"
    )
}

/// In the host's network the host's own file is right.
fn resolvers(network: &Network) -> Option<String> {
    match network {
        Network::Isolated { nameservers, .. } => {
            Some(nameservers.iter().map(|server| format!("nameserver {server}\n")).collect())
        }
        Network::Host { .. } => std::fs::read_to_string(Path::new("/etc/resolv.conf")).ok(),
    }
}
