//! The text of the firewall table, and what the tables of others mean for it.

use super::{HostNetwork, Ipv4Net, Notice};

/// What a dyno must not reach: this machine's neighbours, link-local and cloud metadata addresses, and everything that
/// is not a place on the internet.
const DENIED_NETWORKS: [&str; 9] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

pub(super) fn table(instance: &str) -> String {
    format!("berth_{instance}")
}

/// A script for `nft -f -` that replaces the table as one transaction.
///
/// A dyno's packet is either for the host (`input`) or for elsewhere (`forward`); both chains deny what they do not name.
/// What this machine sends to the address of a dyno that has ended finds no link and would leave by the default route,
/// where a stranger may answer in its place: `output` refuses it.
/// These run before the usual priority, so that an accepting rule of somebody else does not come first; a drop of
/// somebody else still counts.
pub(super) fn ruleset(instance: &str, network: &HostNetwork) -> String {
    let table = table(instance);
    let dynos = format!("\"b{instance}*\"");
    let HostNetwork { range, gateway, .. } = network;
    let dns = if network.dns_on_gateway {
        format!("ip daddr {gateway} meta l4proto {{ tcp, udp }} th dport 53 accept")
    } else {
        String::new()
    };
    let ports = set("tcp dport", &network.host_ports.iter().map(u16::to_string).collect::<Vec<_>>());
    let allowed = set("ip daddr", &network.allowed_networks.iter().map(Ipv4Net::to_string).collect::<Vec<_>>());
    // Resolvers often have private addresses: names must resolve all the same, and nothing else there be reached.
    let resolvers = network.resolvers.iter().map(ToString::to_string).collect::<Vec<_>>();
    let resolvers = set("meta l4proto { tcp, udp } th dport 53 ip daddr", &resolvers);
    let denied = DENIED_NETWORKS.join(", ");
    format!(
        "table inet {table} {{}}
delete table inet {table}
table inet {table} {{
    chain input {{
        type filter hook input priority -10; policy accept;
        iifname != {dynos} accept
        meta nfproto ipv6 drop
        ct state established,related accept
        ip saddr != {range} drop
        icmp type echo-request ip daddr {gateway} accept
        {dns}
        {ports}
        drop
    }}
    chain forward {{
        type filter hook forward priority -10; policy accept;
        iifname {dynos} meta nfproto ipv6 drop
        oifname {dynos} meta nfproto ipv6 drop
        iifname {dynos} oifname {dynos} drop
        oifname {dynos} ct state established,related accept
        oifname {dynos} drop
        iifname != {dynos} accept
        ip saddr != {range} drop
        tcp flags syn tcp option maxseg size set rt mtu
        {resolvers}
        {allowed}
        ip daddr {{ {denied} }} drop
    }}
    chain output {{
        type filter hook output priority -10; policy accept;
        ip daddr {range} oifname != {dynos} oifname != \"lo\" reject with icmp type host-unreachable
    }}
    chain postrouting {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr {range} oifname != {dynos} masquerade
    }}
}}
"
    )
}

/// `<field> { a, b } accept`, or nothing for an empty list, which nft does not know.
fn set(field: &str, items: &[String]) -> String {
    if items.is_empty() { String::new() } else { format!("{field} {{ {} }} accept", items.join(", ")) }
}

/// Reads `nft -j list chains` for base chains of others that drop forwarded packets by policy.
pub(super) fn foreign_drops(listed: &serde_json::Value, instance: &str) -> Vec<Notice> {
    let chains = listed["nftables"].as_array().into_iter().flatten().filter_map(|item| item.get("chain"));
    chains
        .filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop")
        .filter(|chain| chain["table"] != table(instance).as_str() && chain["family"] != "ip6")
        .map(|chain| {
            let text = |name: &str| chain[name].as_str().unwrap_or_default().to_owned();
            let (family, table, name) = (text("family"), text("table"), text("name"));
            let remedy = format!(
                "let dynos through: nft insert rule {family} {table} {name} iifname \"b{instance}*\" accept; \
                 nft insert rule {family} {table} {name} oifname \"b{instance}*\" ct state established,related accept"
            );
            Notice::ForeignForwardDrop { chain: format!("{family} {table} {name}"), remedy }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_chain_that_drops_is_explained() {
        let listed = serde_json::json!({"nftables": [
            {"metainfo": {}},
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "berth_0011aabb", "name": "forward", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
        ]});
        let notices = foreign_drops(&listed, "0011aabb");
        let [Notice::ForeignForwardDrop { chain, remedy }] = notices.as_slice() else { panic!("{notices:?}") };
        assert_eq!(chain, "ip filter FORWARD");
        assert!(remedy.contains("nft insert rule ip filter FORWARD iifname \"b0011aabb*\" accept"), "{remedy}");
    }
}
