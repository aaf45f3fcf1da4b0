//! The namespaces of a sandbox that runs, for somebody who comes later.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wire::shim::{Network, Spec, State};

use crate::error::{Doing as _, SetupError};
use crate::process_ref;

/// The mount namespace is the last: behind it, nothing outside has a name any more.
const OTHERS: [(&str, LinkNameSpaceType); 4] = [
    ("cgroup", LinkNameSpaceType::ControlGroup),
    ("ipc", LinkNameSpaceType::InterProcessCommunication),
    ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
    ("mnt", LinkNameSpaceType::Mount),
];

#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Of a sandbox without root.
    user: Option<OwnedFd>,
    processes: OwnedFd,
    others: Vec<(OwnedFd, LinkNameSpaceType)>,
}

impl Namespaces {
    /// Opens those of the process in `state`.
    pub(crate) fn open(spec: &Spec, state: &State, rooted: bool) -> Result<Self, SetupError> {
        let pid = if rooted { state.init.pid } else { first_child(state.init.pid)? };
        let open = |name: &str| {
            File::open(format!("/proc/{pid}/ns/{name}"))
                .map(OwnedFd::from)
                .doing(|| format!("open the {name} namespace of the dyno"))
        };
        // The host's own network cannot be entered without root, and is where the visitor is already.
        let network = matches!(spec.network, Network::Isolated { .. }).then_some(("net", LinkNameSpaceType::Network));
        let others = network.into_iter().chain(OTHERS).map(|(name, kind)| Ok((open(name)?, kind)));
        let namespaces = Self {
            user: (!rooted).then(|| open("user")).transpose()?,
            processes: open("pid")?,
            others: others.collect::<Result<_, SetupError>>()?,
        };
        // What was opened by number was the dyno's if that is still its number.
        match process_ref::open(state.init) {
            Some(_pidfd) => Ok(namespaces),
            None => Err(SetupError::Refused("the dyno has just ended".to_owned())),
        }
    }

    /// Has the caller's next children be processes of the sandbox; the caller itself stays where it is.
    pub(crate) fn enter_for_children(&self) -> Result<(), SetupError> {
        if let Some(user) = &self.user {
            move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))
                .doing(|| "enter the user namespace of the dyno".to_owned())?;
        }
        move_into_link_name_space(self.processes.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .doing(|| "enter the process namespace of the dyno".to_owned())
    }

    pub(crate) fn enter(&self) -> Result<(), SetupError> {
        for (namespace, kind) in &self.others {
            move_into_link_name_space(namespace.as_fd(), Some(*kind))
                .doing(|| "enter a namespace of the dyno".to_owned())?;
        }
        Ok(())
    }
}

/// The app's first process: without root, init itself is closed to its own user.
fn first_child(init: i32) -> Result<i32, SetupError> {
    let path = format!("/proc/{init}/task/{init}/children");
    let children = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
    let first = children.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok());
    first.ok_or_else(|| SetupError::Refused("the dyno has no process any more".to_owned()))
}
