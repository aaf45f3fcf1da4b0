//! Why a dyno has ended that somebody is in, in words for them.
//!
//! Its state says that it ends, and the order in which it came to that has been forgotten. What the app wants to run now
//! tells as much: a dyno that fits in is replaced by one like it.

use crate::dyno::{DynoKind, DynoName, DynoState};
use crate::formation::FormationEntry;
use crate::id::ReleaseId;
use crate::rollout::DynoRequest;

/// A dyno as it is known now.
#[derive(Debug, Clone, Copy)]
pub struct Visited<'a> {
    pub name: &'a DynoName,
    pub kind: DynoKind,
    pub state: DynoState,
    pub request: DynoRequest,
    pub release: Option<ReleaseId>,
    pub size: &'a str,
}

/// What its app is to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The release that serves, and its version.
    pub serving: Option<(ReleaseId, u64)>,
    /// The dyno's part of the formation.
    pub entry: Option<&'a FormationEntry>,
}

/// Exit codes of programs that were ended by the signals that end all of a dyno: SIGKILL and SIGTERM.
const ENDED_WITH_DYNO: [u32; 2] = [KILLED, 128 + 15];
pub const KILLED: u32 = 128 + 9;

/// Whether a program that ended so may have been ended with its dyno, rather than by itself.
pub fn may_have_ended_with_dyno(status: u32) -> bool {
    ENDED_WITH_DYNO.contains(&status)
}

/// Says why the dyno ends, and what to do; `None` if it does not.
pub fn departure(dyno: &Visited<'_>, wanted: &Wanted<'_>) -> Option<String> {
    let name = dyno.name;
    match dyno.state {
        DynoState::Requested | DynoState::Starting | DynoState::Up | DynoState::Draining => return None,
        DynoState::Crashed => return Some(format!("{name} has crashed; {AGAIN} once another one is up")),
        DynoState::Stopping | DynoState::Exited => {}
    }
    if dyno.kind != DynoKind::Formation {
        return Some(format!("{name} has ended"));
    }
    let quantity = wanted.entry.map_or(0, |entry| entry.quantity);
    let is_another = |(release, _version): &(ReleaseId, u64)| Some(*release) != dyno.release;
    Some(if dyno.request == DynoRequest::Stop {
        format!("{name} was stopped; {AGAIN} for the dyno that takes its place")
    } else if name.index > quantity {
        format!("{name} was taken away: {} was scaled to {quantity}", name.process_type)
    } else if let Some((_release, version)) = wanted.serving.filter(is_another) {
        format!("{name} was replaced by release v{version}; {AGAIN} for the new dyno")
    } else if let Some(entry) = wanted.entry.filter(|entry| entry.size != dyno.size) {
        format!("{name} was replaced by one of size {}; {AGAIN} for the new dyno", entry.size)
    } else {
        format!("{name} was restarted; {AGAIN} for the new dyno")
    })
}

const AGAIN: &str = "run the command again";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ProcessType;

    fn check(change: impl FnOnce(&mut Visited<'_>, &mut FormationEntry, &mut ReleaseId), expect: Option<&str>) {
        let name = DynoName::parse("web.2").unwrap();
        let mut serving = ReleaseId::random();
        let process_type = ProcessType::parse("web").unwrap();
        let mut entry = FormationEntry { process_type, quantity: 2, size: "Basic".to_owned(), concurrency: None };
        let mut dyno = Visited {
            name: &name,
            kind: DynoKind::Formation,
            state: DynoState::Stopping,
            request: DynoRequest::None,
            release: Some(serving),
            size: "Basic",
        };
        change(&mut dyno, &mut entry, &mut serving);
        let wanted = Wanted { serving: Some((serving, 12)), entry: Some(&entry) };
        assert_eq!(departure(&dyno, &wanted).as_deref(), expect);
    }

    #[test]
    fn who_is_in_a_dyno_that_ends_is_told_why() {
        let again = "web.2 was restarted; run the command again for the new dyno";
        check(|_dyno, _entry, _serving| (), Some(again));
        check(|dyno, _entry, _serving| dyno.state = DynoState::Exited, Some(again));
        check(
            |_dyno, _entry, serving| *serving = ReleaseId::random(),
            Some("web.2 was replaced by release v12; run the command again for the new dyno"),
        );
        check(
            |_dyno, entry, _serving| entry.size = "Standard-2X".to_owned(),
            Some("web.2 was replaced by one of size Standard-2X; run the command again for the new dyno"),
        );
        check(|_dyno, entry, _serving| entry.quantity = 1, Some("web.2 was taken away: web was scaled to 1"));
        check(
            |dyno, _entry, _serving| dyno.request = DynoRequest::Stop,
            Some("web.2 was stopped; run the command again for the dyno that takes its place"),
        );
        check(
            |dyno, _entry, _serving| dyno.state = DynoState::Crashed,
            Some("web.2 has crashed; run the command again once another one is up"),
        );
        check(|dyno, _entry, _serving| dyno.kind = DynoKind::OneOff, Some("web.2 has ended"));
    }

    #[test]
    fn a_dyno_that_goes_on_is_no_reason() {
        for state in [DynoState::Starting, DynoState::Up, DynoState::Draining] {
            check(|dyno, _entry, _serving| dyno.state = state, None);
        }
        assert!(may_have_ended_with_dyno(137) && may_have_ended_with_dyno(143));
        // What a program says itself, and what Ctrl-C and the end of a terminal make of it.
        assert!(![0, 1, 129, 130, 255].into_iter().any(may_have_ended_with_dyno));
    }
}
