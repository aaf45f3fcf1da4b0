//! Landlock, where it adds something: in the host's network, other processes' ports and sockets are within reach.
//!
//! With namespaces of its own a dyno can reach neither, so nothing is restricted there.

use ::landlock::{
    ABI, Access as _, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

/// Allows TCP listeners on `port` and on ports that the kernel chooses, and forbids abstract Unix sockets and signals
/// to processes outside. Gives whether all of it is in force; older kernels know only some.
pub(super) fn restrict(port: Option<u16>) -> Result<bool, RulesetError> {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).scope(Scope::from_all(ABI::V6))?;
    if port.is_some() {
        ruleset = ruleset.handle_access(AccessNet::BindTcp)?;
    }
    let mut created = ruleset.create()?;
    for port in port.into_iter().flat_map(|port| [port, 0]) {
        created = created.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(created.restrict_self()?.ruleset == RulesetStatus::FullyEnforced)
}
