//! Dynos whose places are held by requests that nobody waits for any more: whether to replace one, and which.

use crate::health::{CheckedDyno, all_stand_still};
use crate::id::DynoId;

/// A dyno of the app with requests that have been unanswered for longer than twice the app's timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StuckDyno {
    pub id: DynoId,
    /// Places that are held.
    pub stuck: u32,
    /// Places that there are.
    pub limit: u32,
}

impl StuckDyno {
    /// At least half of the places are gone. One slow export beside seven free workers is no reason to end those seven.
    pub const fn is_wedged(&self) -> bool {
        self.stuck > 0 && self.stuck >= self.limit.div_ceil(2)
    }
}

/// The dyno to replace now, if any: the one with the fewest places left, once everything else stands still.
///
/// Only one that gets requests; never a second one while the first is being replaced.
pub fn replace(dynos: &[CheckedDyno], stuck: &[StuckDyno]) -> Option<DynoId> {
    if !all_stand_still(dynos) {
        return None;
    }
    let of_this_app = stuck.iter().filter(|stuck| dynos.iter().any(|dyno| dyno.id == stuck.id));
    let wedged = of_this_app.filter(|stuck| stuck.is_wedged());
    wedged.min_by_key(|stuck| (stuck.limit.saturating_sub(stuck.stuck), stuck.id)).map(|stuck| stuck.id)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::dyno::DynoState;
    use crate::rollout::DynoRequest;

    fn dyno(number: u128) -> CheckedDyno {
        CheckedDyno {
            id: DynoId::from_uuid(Uuid::from_u128(number)),
            state: DynoState::Up,
            request: DynoRequest::None,
            unhealthy_since: None,
            passed: false,
        }
    }

    fn stuck(dyno: &CheckedDyno, stuck: u32, limit: u32) -> StuckDyno {
        StuckDyno { id: dyno.id, stuck, limit }
    }

    #[test]
    fn half_of_the_places_make_a_wedged_dyno() {
        for (held, limit, wedged) in [
            (0, 0, false),
            (0, 4, false),
            (1, 0, true),
            (1, 1, true),
            (1, 2, true),
            (1, 3, false),
            (2, 3, true),
            (2, 4, true),
            (3, 8, false),
            (9, 8, true),
        ] {
            assert_eq!(stuck(&dyno(1), held, limit).is_wedged(), wedged, "{held} of {limit}");
        }
    }

    #[test]
    fn one_at_a_time_the_worst_first_and_only_what_serves() {
        let [a, b, c] = [1, 2, 3].map(dyno);
        let (half, all) = (stuck(&a, 2, 4), stuck(&b, 4, 4));
        assert_eq!(replace(&[a, b, c], &[half, all]), Some(b.id));
        assert_eq!(replace(&[a, b, c], &[half]), Some(a.id));
        assert_eq!(replace(&[a, b, c], &[stuck(&a, 1, 4)]), None);
        assert_eq!(replace(&[a, b], &[stuck(&c, 4, 4)]), None, "of another app, or replaced by now");
        let starting = CheckedDyno { state: DynoState::Starting, ..c };
        assert_eq!(replace(&[a, b, starting], &[half, all]), None);
        let asked = CheckedDyno { request: DynoRequest::Restart, ..b };
        assert_eq!(replace(&[a, asked, c], &[half, all]), None);
    }
}
