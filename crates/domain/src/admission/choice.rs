//! Which dyno takes a request.

use std::cmp::Ordering;

/// A dyno as a choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynoLoad {
    pub in_flight: u32,
    /// Requests it may have at once; `None` is no limit.
    pub limit: Option<u32>,
    /// Its share of the requests beside the other dynos: a dyno of twice the weight gets twice as many. It orders dynos
    /// and never makes one refuse, whatever its limit.
    pub weight: u32,
    /// How much of its weight counts yet, in parts of [`RAMP_FULL`].
    pub ramp: u32,
    pub standing: Standing,
}

/// The ramp of a dyno that has been in the table for a while.
pub const RAMP_FULL: u32 = 256;

impl DynoLoad {
    const fn share(&self) -> u64 {
        let share = self.weight as u64 * self.ramp as u64;
        if share == 0 { 1 } else { share }
    }
}

/// Whether a dyno is offered to a request at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Healthy,
    /// Healthy, and the client's session is there: it is taken if it has room, whatever the others have.
    Wanted,
    /// It refused a connection a moment ago: it is asked only if no healthy one is there.
    Quarantined,
    /// This request has tried it, or it has left the table.
    Excluded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// `half_open` says that every dyno is quarantined and this one is asked to see whether it is back.
    Take { index: usize, in_flight: u32, half_open: bool },
    /// Every dyno that could be asked is at its limit.
    Busy,
    /// There is none to ask.
    None,
}

/// Chooses the dyno with the fewest requests in flight for its weight; `tie` (any number, random) decides between
/// equals, in proportion to their weights.
///
/// Quarantined dynos are asked only where no healthy one exists: the last dyno is never ejected.
pub fn choose(dynos: impl IntoIterator<Item = DynoLoad>, tie: u64) -> Choice {
    let (mut healthy, mut quarantined) = (Best::default(), Best::default());
    for (index, dyno) in dynos.into_iter().enumerate() {
        match dyno.standing {
            Standing::Wanted if dyno.limit.is_none_or(|limit| dyno.in_flight < limit) => {
                return Choice::Take { index, in_flight: dyno.in_flight, half_open: false };
            }
            Standing::Wanted => healthy.offer(index, dyno, tie),
            Standing::Healthy => healthy.offer(index, dyno, tie),
            Standing::Quarantined => quarantined.offer(index, dyno, tie),
            Standing::Excluded => {}
        }
    }
    let (best, half_open) = if healthy.any { (healthy, false) } else { (quarantined, true) };
    match best.free {
        Some(Free { index, dyno, .. }) => Choice::Take { index, in_flight: dyno.in_flight, half_open },
        None if best.any => Choice::Busy,
        None => Choice::None,
    }
}

#[derive(Default)]
struct Best {
    any: bool,
    free: Option<Free>,
}

struct Free {
    index: usize,
    dyno: DynoLoad,
    /// Of all its equals so far, itself among them.
    shares: u64,
}

impl Best {
    fn offer(&mut self, index: usize, dyno: DynoLoad, tie: u64) {
        self.any = true;
        if dyno.limit.is_some_and(|limit| dyno.in_flight >= limit) {
            return;
        }
        let share = dyno.share();
        match &mut self.free {
            None => self.free = Some(Free { index, dyno, shares: share }),
            Some(free) => match compare(&dyno, &free.dyno) {
                Ordering::Less => *free = Free { index, dyno, shares: share },
                Ordering::Equal => {
                    free.shares += share;
                    // The last of several equals is chosen with its part of their shares, and so in the end is each.
                    let drawn = (u128::from(scattered(tie, index)) * u128::from(free.shares)) >> 64;
                    if drawn < u128::from(share) {
                        (free.index, free.dyno) = (index, dyno);
                    }
                }
                Ordering::Greater => {}
            },
        }
    }
}

/// The better one is less: by requests in flight for its share; and a new dyno that has nothing to do is not as good as an
/// old one that has nothing to do.
fn compare(one: &DynoLoad, other: &DynoLoad) -> Ordering {
    let loads = (u128::from(one.in_flight) * u128::from(other.share()))
        .cmp(&(u128::from(other.in_flight) * u128::from(one.share())));
    loads.then((one.ramp < RAMP_FULL).cmp(&(other.ramp < RAMP_FULL)))
}

/// A number that depends on every bit of both, without any order between neighbours.
fn scattered(tie: u64, index: usize) -> u64 {
    let mut mixed = tie ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(in_flight: u32, limit: Option<u32>, standing: Standing) -> DynoLoad {
        DynoLoad { in_flight, limit, weight: 100, ramp: RAMP_FULL, standing }
    }

    fn any_load() -> impl Strategy<Value = DynoLoad> {
        let standing = prop_oneof![Just(Standing::Healthy), Just(Standing::Quarantined), Just(Standing::Excluded)];
        (0_u32..6, proptest::option::of(0_u32..6), standing)
            .prop_map(|(in_flight, limit, standing)| load(in_flight, limit, standing))
    }

    fn taken(dynos: [DynoLoad; 2]) -> Option<usize> {
        match choose(dynos, 0) {
            Choice::Take { index, .. } => Some(index),
            Choice::Busy | Choice::None => None,
        }
    }

    proptest! {
        #[test]
        fn the_choice_is_free_allowed_and_the_least_loaded(
            dynos in proptest::collection::vec(any_load(), 0..8),
            tie in any::<u64>(),
        ) {
            let free = |dyno: &DynoLoad| dyno.limit.is_none_or(|limit| dyno.in_flight < limit);
            let healthy = dynos.iter().any(|dyno| dyno.standing == Standing::Healthy);
            let wanted = if healthy { Standing::Healthy } else { Standing::Quarantined };
            let asked: Vec<&DynoLoad> = dynos.iter().filter(|dyno| dyno.standing == wanted).collect();
            match choose(dynos.iter().copied(), tie) {
                Choice::Take { index, in_flight, half_open } => {
                    let taken = &dynos[index];
                    prop_assert_eq!(taken.standing, wanted);
                    prop_assert_eq!(taken.in_flight, in_flight);
                    prop_assert_eq!(half_open, !healthy);
                    prop_assert!(free(taken));
                    prop_assert!(asked.iter().filter(|dyno| free(dyno)).all(|dyno| dyno.in_flight >= taken.in_flight));
                }
                Choice::Busy => prop_assert!(!asked.is_empty() && asked.iter().all(|dyno| !free(dyno))),
                Choice::None => prop_assert!(asked.is_empty()),
            }
        }

        #[test]
        fn ties_are_broken_evenly(count in 1_usize..6) {
            let dynos = vec![load(1, None, Standing::Healthy); count];
            let mut taken = vec![0; count];
            for tie in 0..6_000_u64 {
                if let Choice::Take { index, .. } = choose(dynos.iter().copied(), tie) {
                    taken[index] += 1;
                }
            }
            let even = 6_000 / count;
            prop_assert!(taken.iter().all(|&times| times > even * 9 / 10 && times < even * 11 / 10 + 1), "{:?}", taken);
        }

        #[test]
        fn a_new_dyno_gets_less_but_takes_what_others_cannot(in_flight in 1_u32..50) {
            let old = load(in_flight, Some(in_flight + 1), Standing::Healthy);
            let new = DynoLoad { ramp: RAMP_FULL / 8, ..old };
            prop_assert_eq!(taken([new, old]), Some(1));
            let full = DynoLoad { limit: Some(in_flight), ..old };
            prop_assert_eq!(taken([new, full]), Some(0));
        }
    }

    proptest! {
        /// Requests that stay are spread so that none would have been better off elsewhere when it came.
        #[test]
        fn what_is_in_flight_is_in_proportion_to_the_weights(
            weights in proptest::collection::vec(1_u32..2_000, 1..7),
            requests in 0_u64..300,
            seed in any::<u64>(),
        ) {
            let mut dynos: Vec<DynoLoad> =
                weights.iter().map(|&weight| DynoLoad { weight, ..load(0, None, Standing::Healthy) }).collect();
            for request in 0..requests {
                let Choice::Take { index, .. } = choose(dynos.iter().copied(), seed ^ request) else { panic!("busy") };
                dynos[index].in_flight += 1;
            }
            for one in dynos.iter().filter(|dyno| dyno.in_flight > 0) {
                for other in &dynos {
                    let before = u64::from(one.in_flight - 1) * u64::from(other.weight);
                    prop_assert!(before <= u64::from(other.in_flight) * u64::from(one.weight), "{:?}", dynos);
                }
            }
        }

        /// So that requests which are over before the next one comes are spread like those that are not.
        #[test]
        fn equals_are_chosen_in_proportion_to_their_weights(weights in proptest::collection::vec(1_u32..9, 1..6)) {
            const REQUESTS: u32 = 20_000;
            let idle = |&weight: &u32| DynoLoad { weight, ..load(0, None, Standing::Healthy) };
            let mut taken = vec![0_u32; weights.len()];
            for tie in 0..REQUESTS {
                if let Choice::Take { index, .. } = choose(weights.iter().map(idle), u64::from(tie)) {
                    taken[index] += 1;
                }
            }
            let all: u32 = weights.iter().sum();
            for (taken, weight) in taken.iter().zip(&weights) {
                let due = REQUESTS * weight / all;
                prop_assert!(taken.abs_diff(due) < REQUESTS / 50, "{} instead of {}", taken, due);
            }
        }

        /// Only the proportion counts, and equal weights are none.
        #[test]
        fn a_weight_that_all_have_changes_nothing(
            dynos in proptest::collection::vec((any_load(), 1_u32..=RAMP_FULL), 0..8),
            weight in 1_u32..10_000,
            tie in any::<u64>(),
        ) {
            let with = |weight: u32| dynos.iter().map(move |&(dyno, ramp)| DynoLoad { weight, ramp, ..dyno });
            prop_assert_eq!(choose(with(1), tie), choose(with(weight), tie));
        }
    }

    #[test]
    fn a_weight_makes_no_dyno_take_more_than_its_limit() {
        let heavy = DynoLoad { weight: 1_000, ..load(2, Some(2), Standing::Healthy) };
        let light = DynoLoad { weight: 1, ..load(9, Some(10), Standing::Healthy) };
        assert_eq!(taken([heavy, light]), Some(1));
        assert_eq!(choose([heavy], 0), Choice::Busy);
    }

    #[test]
    fn a_quarantined_dyno_waits_behind_a_busy_healthy_one() {
        let dynos = [load(1, Some(1), Standing::Healthy), load(0, Some(1), Standing::Quarantined)];
        assert_eq!(choose(dynos, 0), Choice::Busy);
    }

    #[test]
    fn a_session_stays_where_it_is_unless_there_is_no_room() {
        let with = |wanted: DynoLoad| [load(0, Some(9), Standing::Healthy), wanted, load(0, None, Standing::Healthy)];
        let taken = |wanted| match choose(with(wanted), 0) {
            Choice::Take { index, half_open: false, .. } => Some(index),
            Choice::Take { .. } | Choice::Busy | Choice::None => None,
        };
        assert_eq!(taken(load(8, Some(9), Standing::Wanted)), Some(1));
        assert_ne!(taken(load(9, Some(9), Standing::Wanted)), Some(1));
        let alone = [load(1, Some(1), Standing::Wanted), load(0, None, Standing::Quarantined)];
        assert_eq!(choose(alone, 0), Choice::Busy, "a full dyno is no reason to ask one that refuses connections");
    }

    #[test]
    fn the_last_dyno_is_never_ejected() {
        let dynos = [load(0, None, Standing::Quarantined)];
        assert_eq!(choose(dynos, 0), Choice::Take { index: 0, in_flight: 0, half_open: true });
    }
}
