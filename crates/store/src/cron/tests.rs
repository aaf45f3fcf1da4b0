use domain::dyno::{DynoKind, DynoName};
use domain::name::{AppName, ProcessType};
use jiff::SignedDuration;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn definition(name: &str, command: &str) -> JobDefinition {
    JobDefinition {
        name: JobName::parse(name).unwrap(),
        schedule: "* * * * *".to_owned(),
        zone: "UTC".to_owned(),
        command: command.to_owned(),
        size: "Basic".to_owned(),
        policy: Policy::default(),
    }
}

fn new(name: &str, command: &str) -> NewJob {
    NewJob { definition: definition(name, command), next_at: Some(at(60)) }
}

async fn app() -> (tempfile::TempDir, Store, AppId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("berth.db"), MasterKey::new([7; 32])).unwrap();
    let account = store.create_account("admin@localhost".to_owned(), at(0)).await.unwrap();
    let app = store.create_app(AppName::parse("shop").unwrap(), account.id, at(0)).await.unwrap();
    (dir, store, app.id)
}

fn dyno(app: AppId) -> NewDyno {
    NewDyno {
        app,
        kind: DynoKind::OneOff,
        name: DynoName { process_type: ProcessType::parse("scheduler").unwrap(), index: 1234 },
        release: None,
        build: None,
        size: "Basic".to_owned(),
        command: "true".to_owned(),
        env: std::collections::BTreeMap::new(),
        crashes: 0,
        attach: None,
        time_to_live_s: None,
    }
}

fn start(job: &CronJob, next: i64) -> CronStep {
    let key = RunKey { tick: at(60), attempt: 1 };
    let start = RunChange::Start { key, dyno: Box::new(dyno(job.app)) };
    CronStep {
        job: job.id,
        decided_with: job.next_at,
        next_at: Some(at(next)),
        changes: vec![RunChange::Add { key, not_before: at(60) }, start],
        events: Vec::new(),
    }
}

#[tokio::test]
async fn a_tick_that_was_decided_about_is_not_decided_about_again() {
    let (_dir, store, app) = app().await;
    let job = store.create_cron_job(app, new("a", "true"), true, false, at(0)).await.unwrap();
    assert_eq!(store.current_cron_jobs(at(59)).unwrap(), []);
    assert_eq!(store.current_cron_jobs(at(60)).unwrap().len(), 1);
    assert!(store.apply_cron_step(start(&job, 120), at(60)).await.unwrap());
    assert!(!store.apply_cron_step(start(&job, 120), at(60)).await.unwrap(), "decided with an old state");
    assert_eq!(store.dynos(app).unwrap().len(), 1);
    // Even a decision that knows the new state cannot start the same tick: nothing of it is written.
    let again = CronStep { decided_with: Some(at(120)), ..start(&job, 180) };
    store.apply_cron_step(again, at(60)).await.unwrap_err();
    assert_eq!(store.dynos(app).unwrap().len(), 1);
    assert_eq!(store.cron_jobs(app).unwrap()[0].next_at, Some(at(120)));
    let runs = store.cron_runs(job.id, 10).unwrap();
    assert_eq!((runs.len(), runs[0].number, runs[0].state), (1, 1, RunState::Running));
    assert_eq!(runs[0].dyno, Some(store.dynos(app).unwrap()[0].id));
}

#[tokio::test]
async fn runs_are_forgotten_but_their_numbers_go_on() {
    let (_dir, store, app) = app().await;
    let job = store.create_cron_job(app, new("a", "true"), true, false, at(0)).await.unwrap();
    let mut decided_with = job.next_at;
    for minute in 1..=i64::from(RUNS_KEPT) + 5 {
        let key = RunKey { tick: at(minute * 60), attempt: 1 };
        let next_at = Some(at(minute * 60 + 60));
        let changes = vec![RunChange::Record { key, state: RunState::Missed, reason: "away".to_owned() }];
        let event = NewEvent { app, kind: "cron.missed", subject: "a".to_owned(), text: "away".to_owned() };
        let step = CronStep { job: job.id, decided_with, next_at, changes, events: vec![event] };
        assert!(store.apply_cron_step(step, key.tick).await.unwrap());
        decided_with = next_at;
    }
    let runs = store.cron_runs(job.id, 1000).unwrap();
    assert_eq!((runs.len(), runs[0].number), (100, 105));
    let events = store.events_after(100, 1000).unwrap();
    assert_eq!((events.len(), events[0].kind.as_str(), events[0].app), (5, "cron.missed", app));
}

#[tokio::test]
async fn the_jobs_of_a_release_replace_those_of_the_one_before_and_nobody_elses() {
    let (_dir, store, app) = app().await;
    store.create_cron_job(app, new("mine", "true"), true, false, at(0)).await.unwrap();
    let release = ReleaseId::random();
    let jobs = vec![new("mine", "false"), new("a", "1"), new("b", "2")];
    let adopted = store.adopt_cron_jobs(app, release, jobs, at(0)).await.unwrap();
    assert_eq!((adopted.added.len(), adopted.refused.len()), (2, 1));
    assert_eq!(store.cron_sources().unwrap().get(&app), Some(&release));
    let a = store.cron_jobs(app).unwrap().remove(0);
    store.pause_cron_job(a.id, true, a.next_at, at(1)).await.unwrap();
    let later = NewJob { next_at: Some(at(90)), ..new("a", "3") };
    let adopted = store.adopt_cron_jobs(app, ReleaseId::random(), vec![later], at(30)).await.unwrap();
    assert_eq!((adopted.changed.len(), adopted.removed.len(), adopted.refused.len()), (1, 1, 0));
    let jobs = store.cron_jobs(app).unwrap();
    let names: Vec<&str> = jobs.iter().map(|job| job.definition.name.as_str()).collect();
    assert_eq!(names, ["a", "mine"]);
    assert_eq!((jobs[0].definition.command.as_str(), jobs[0].paused), ("3", true));
    assert_eq!(jobs[0].next_at, Some(at(60)), "the same schedule goes on where it was");
    assert_eq!(jobs[1].definition.command, "true");
}

#[tokio::test]
async fn a_name_that_nobody_chose_is_made_unique_and_a_chosen_one_is_refused() {
    let (_dir, store, app) = app().await;
    for expect in ["a", "a-2", "a-3"] {
        let job = store.create_cron_job(app, new("a", "true"), false, false, at(0)).await.unwrap();
        assert_eq!(job.definition.name.as_str(), expect);
    }
    let refused = store.create_cron_job(app, new("a-2", "true"), true, false, at(0)).await.unwrap_err();
    assert!(refused.to_string().contains("There is a job a-2 already"), "{refused}");
}

#[tokio::test]
async fn a_resumed_job_makes_up_for_nothing() {
    let (_dir, store, app) = app().await;
    let job = store.create_cron_job(app, new("a", "true"), true, true, at(0)).await.unwrap();
    assert_eq!(store.current_cron_jobs(at(3600)).unwrap(), []);
    let next = at(3600).checked_add(SignedDuration::from_secs(60)).unwrap();
    store.pause_cron_job(job.id, false, Some(next), at(3600)).await.unwrap();
    assert_eq!(store.current_cron_jobs(at(3600)).unwrap(), []);
    // To resume what is not paused changes nothing.
    store.pause_cron_job(job.id, false, Some(at(9999)), at(3600)).await.unwrap();
    assert_eq!(store.current_cron_jobs(next).unwrap()[0].next_at, Some(next));
}
