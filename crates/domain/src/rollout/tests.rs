use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn name(text: &str) -> DynoName {
    DynoName::parse(text).unwrap()
}

fn release(version: u64) -> ReleaseTarget {
    let process_types = ["web", "worker"].map(|text| ProcessType::parse(text).unwrap()).to_vec();
    ReleaseTarget { version, process_types }
}

fn formation(web: u32, worker: u32) -> Vec<FormationEntry> {
    [("web", web), ("worker", worker)]
        .map(|(process_type, quantity)| FormationEntry {
            process_type: ProcessType::parse(process_type).unwrap(),
            quantity,
            size: "Standard-1X".to_owned(),
            concurrency: None,
        })
        .to_vec()
}

fn dyno(text: &str, release: u64, state: DynoState) -> DynoView {
    DynoView {
        id: DynoId::random(),
        name: name(text),
        release,
        size: "Standard-1X".to_owned(),
        state,
        since: at(0),
        crashes: 0,
        request: DynoRequest::None,
        drain: DrainView::Unknown,
    }
}

fn decide_at(target: &AppTarget, dynos: &[DynoView], second: i64) -> Vec<Action> {
    decide(target, dynos, &TimeLimits::default(), at(second))
}

/// A world that carries out every action at once and perfectly, to see where the decisions lead.
struct World {
    target: AppTarget,
    dynos: Vec<DynoView>,
    second: i64,
}

impl World {
    fn serving(version: u64, web: u32, worker: u32) -> Self {
        let target = AppTarget { serving: Some(release(version)), candidate: None, formation: formation(web, worker) };
        let mut world = Self { target, dynos: Vec::new(), second: 0 };
        world.settle();
        world
    }

    /// One activation; returns how many actions it took.
    fn step(&mut self) -> usize {
        let actions = decide_at(&self.target, &self.dynos, self.second);
        for action in &actions {
            self.carry_out(action);
        }
        self.dynos.retain(|dyno| dyno.state != DynoState::Exited);
        actions.len()
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::Start { name, release, crashes, size, .. } => {
                let mut started = dyno(&name.to_string(), *release, DynoState::Starting);
                started.since = at(self.second);
                started.crashes = *crashes;
                started.size.clone_from(size);
                self.dynos.push(started);
            }
            Action::TakeOut { dyno, .. } => self.set(*dyno, DynoState::Draining),
            Action::Stop { dyno, .. } => self.set(*dyno, DynoState::Exited),
            Action::BootTimedOut { dyno } => self.set(*dyno, DynoState::Crashed),
            Action::Forget { dyno } => self.dynos.retain(|other| other.id != *dyno),
            Action::ReleaseReady { version } => {
                assert_eq!(self.target.candidate.as_ref().map(|release| release.version), Some(*version));
                self.target.serving = self.target.candidate.take();
            }
            Action::ReleaseFailed { .. } => self.target.candidate = None,
        }
    }

    fn set(&mut self, id: DynoId, state: DynoState) {
        let dyno = self.dynos.iter_mut().find(|dyno| dyno.id == id).unwrap();
        dyno.state = state;
        dyno.since = at(self.second);
    }

    fn boot_all(&mut self) {
        for dyno in &mut self.dynos {
            match dyno.state {
                DynoState::Starting => dyno.state = DynoState::Up,
                DynoState::Draining => dyno.drain = DrainView::InFlight(0),
                _other => {}
            }
        }
    }

    fn settle(&mut self) {
        for _round in 0..50 {
            self.boot_all();
            self.second += 1;
            if self.step() == 0 && !self.dynos.iter().any(|dyno| dyno.state == DynoState::Starting) {
                return;
            }
        }
        panic!("does not converge: {:#?}", self.dynos);
    }

    fn up(&self, process_type: &str) -> Vec<(String, u64)> {
        let mut up: Vec<(String, u64)> = self
            .dynos
            .iter()
            .filter(|dyno| dyno.state == DynoState::Up && dyno.name.process_type.as_str() == process_type)
            .map(|dyno| (dyno.name.to_string(), dyno.release))
            .collect();
        up.sort();
        up
    }
}

fn expect_up(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(name, release)| ((*name).to_owned(), *release)).collect()
}

#[test]
fn a_new_release_starts_beside_the_old_one_which_stays_until_all_of_it_is_up() {
    let mut world = World::serving(2, 2, 1);
    world.target.candidate = Some(release(3));
    world.step();
    assert_eq!(world.up("web"), expect_up(&[("web.1", 2), ("web.2", 2)]));
    assert_eq!(world.dynos.iter().filter(|dyno| dyno.release == 3).count(), 2, "web only, both at once");

    // One of two is up: nothing is taken out yet.
    let first = world.dynos.iter_mut().find(|dyno| dyno.release == 3).unwrap();
    first.state = DynoState::Up;
    assert_eq!(world.step(), 0);

    world.settle();
    assert_eq!(world.up("web"), expect_up(&[("web.1", 3), ("web.2", 3)]));
    assert_eq!(world.up("worker"), expect_up(&[("worker.1", 3)]));
    assert_eq!(world.dynos.len(), 3);
}

#[test]
fn a_release_whose_dyno_crashes_before_it_is_ready_fails_and_the_old_one_stays() {
    let mut world = World::serving(2, 1, 0);
    world.target.candidate = Some(release(3));
    world.step();
    let crashed = world.dynos.iter_mut().find(|dyno| dyno.release == 3).unwrap();
    crashed.state = DynoState::Crashed;
    let id = crashed.id;
    assert_eq!(decide_at(&world.target, &world.dynos, 5), [Action::ReleaseFailed { version: 3, dyno: id }]);
    world.settle();
    assert_eq!(world.up("web"), expect_up(&[("web.1", 2)]));
    assert_eq!(world.dynos.len(), 1, "the crashed one is forgotten");
}

#[test]
fn a_worker_never_runs_beside_its_successor() {
    let mut world = World::serving(2, 0, 1);
    world.target.candidate = Some(release(3));
    for _round in 0..10 {
        world.boot_all();
        world.step();
        let workers = world.dynos.iter().filter(|dyno| dyno.state.is_alive()).count();
        assert!(workers <= 1, "{:#?}", world.dynos);
    }
    assert_eq!(world.up("worker"), expect_up(&[("worker.1", 3)]));
}

#[test]
fn a_crash_is_restarted_at_once_and_the_second_one_after_a_delay() {
    let target = AppTarget { serving: Some(release(2)), candidate: None, formation: formation(1, 0) };
    let mut crashed = dyno("web.1", 2, DynoState::Crashed);
    crashed.crashes = 1;
    let actions = decide_at(&target, std::slice::from_ref(&crashed), 0);
    assert!(matches!(&actions[0], Action::Start { crashes: 1, reason: Reason::Crashed, .. }), "{actions:?}");
    assert_eq!(actions[1], Action::Forget { dyno: crashed.id });

    crashed.crashes = 2;
    assert_eq!(decide_at(&target, std::slice::from_ref(&crashed), 9), []);
    assert_eq!(decide_at(&target, &[crashed], 10).len(), 2);
}

#[test]
fn a_boot_that_takes_too_long_is_ended() {
    let target = AppTarget { serving: Some(release(2)), candidate: None, formation: formation(1, 1) };
    let slow = dyno("web.1", 2, DynoState::Starting);
    let worker = dyno("worker.1", 2, DynoState::Starting);
    assert_eq!(decide_at(&target, &[slow.clone(), worker.clone()], 59), []);
    assert_eq!(decide_at(&target, &[slow.clone(), worker], 60), [Action::BootTimedOut { dyno: slow.id }]);
}

#[test]
fn a_draining_dyno_stops_when_it_is_idle_or_out_of_time() {
    let target = AppTarget { serving: Some(release(2)), candidate: None, formation: formation(1, 0) };
    let current = dyno("web.1", 2, DynoState::Up);
    let mut leaving = dyno("web.1", 1, DynoState::Draining);
    let with = |leaving: &DynoView, second| decide_at(&target, &[current.clone(), leaving.clone()], second);
    assert_eq!(with(&leaving, 5), [], "the router has not acknowledged");
    leaving.drain = DrainView::InFlight(1);
    assert_eq!(with(&leaving, 29), []);
    assert_eq!(with(&leaving, 30), [Action::Stop { dyno: leaving.id, reason: Reason::DrainTimedOut }]);
    leaving.drain = DrainView::InFlight(0);
    assert_eq!(with(&leaving, 1), [Action::Stop { dyno: leaving.id, reason: Reason::Drained }]);
}

#[test]
fn a_restart_brings_the_successor_up_first() {
    let mut world = World::serving(2, 2, 0);
    for dyno in &mut world.dynos {
        dyno.request = DynoRequest::Restart;
    }
    let old: Vec<DynoId> = world.dynos.iter().map(|dyno| dyno.id).collect();
    world.step();
    assert_eq!(world.up("web").len(), 2, "the old ones still serve");
    world.settle();
    assert_eq!(world.up("web"), expect_up(&[("web.1", 2), ("web.2", 2)]));
    assert!(world.dynos.iter().all(|dyno| !old.contains(&dyno.id)));
}

#[test]
fn scaling_down_takes_the_highest_numbers_even_if_another_place_is_crashed() {
    let mut world = World::serving(2, 3, 0);
    world.dynos[0].state = DynoState::Crashed;
    world.dynos[0].crashes = 5;
    let third = world.dynos.iter().find(|dyno| dyno.name == name("web.3")).unwrap().id;
    world.target.formation = formation(2, 0);
    assert_eq!(
        decide_at(&world.target, &world.dynos, world.second),
        [Action::TakeOut { dyno: third, reason: Reason::Scaled }]
    );
}

#[test]
fn a_process_type_that_the_new_release_lacks_goes_away() {
    let mut world = World::serving(2, 1, 1);
    let mut without_worker = release(3);
    without_worker.process_types.pop();
    world.target.candidate = Some(without_worker);
    world.settle();
    assert_eq!(world.dynos.iter().map(|dyno| dyno.name.to_string()).collect::<Vec<_>>(), ["web.1"]);
}

proptest! {
    /// Whatever the mixture of dynos, the decisions lead to exactly the formation, on the serving release.
    #[test]
    fn every_world_converges(
        web in 0_u32..4,
        worker in 0_u32..3,
        candidate in proptest::bool::ANY,
        strays in proptest::collection::vec((0_u8..2, 1_u32..5, 1_u64..4, 0_u8..6, 0_u8..3), 0..8),
    ) {
        let mut world = World::serving(2, 1, 1);
        world.target.formation = formation(web, worker);
        world.target.candidate = candidate.then(|| release(3));
        for (kind, index, version, state, request) in strays {
            let process_type = if kind == 0 { "web" } else { "worker" };
            let states = [
                DynoState::Requested, DynoState::Starting, DynoState::Up,
                DynoState::Draining, DynoState::Stopping, DynoState::Crashed,
            ];
            let mut stray = dyno(&format!("{process_type}.{index}"), version, states[usize::from(state)]);
            stray.request = [DynoRequest::None, DynoRequest::Restart, DynoRequest::Stop][usize::from(request)];
            stray.crashes = 1;
            world.dynos.push(stray);
        }
        for _round in 0..60 {
            for dyno in &mut world.dynos {
                match dyno.state {
                    DynoState::Requested => dyno.state = DynoState::Starting,
                    DynoState::Stopping => dyno.state = DynoState::Exited,
                    _other => {}
                }
            }
            world.dynos.retain(|dyno| dyno.state != DynoState::Exited);
            world.boot_all();
            world.second += 1;
            world.step();
        }
        let version = world.target.serving.as_ref().unwrap().version;
        let expect = |process_type: &str, count: u32| -> Vec<(String, u64)> {
            (1..=count).map(|index| (format!("{process_type}.{index}"), version)).collect()
        };
        prop_assert_eq!(world.up("web"), expect("web", web));
        prop_assert_eq!(world.up("worker"), expect("worker", worker));
        prop_assert_eq!(world.dynos.len(), (web + worker) as usize);
    }

    /// Deciding twice on the same facts gives the same plan.
    #[test]
    fn deciding_is_a_function_of_its_input(web in 0_u32..4, seconds in 0_i64..120) {
        let mut world = World::serving(2, 2, 1);
        world.target.formation = formation(web, 0);
        let first = decide_at(&world.target, &world.dynos, seconds);
        prop_assert_eq!(first, decide_at(&world.target, &world.dynos, seconds));
    }
}
