use domain::config::ConfigChanges;
use domain::id::{BuildId, SourceId};
use domain::name::{AppName, ConfigKey, ProcessType};
use domain::secret::Secret;

use super::*;
use crate::MasterKey;
use crate::build::{NewBuild, SourceLocation};
use crate::slug::Slug;

struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
    app: AppId,
    account: AccountId,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("berth.db"), MasterKey::new([7; 32])).unwrap();
        let account = store.create_account("admin@localhost".to_owned(), at(0)).await.unwrap().id;
        let app = store.create_app(AppName::parse("shop").unwrap(), account, at(0)).await.unwrap().id;
        Self { _dir: dir, store, app, account }
    }

    /// A release of new code.
    async fn build(&self, hold: bool) -> Release {
        let new = NewBuild {
            app: self.app,
            account: self.account,
            source: SourceLocation::Uploaded(SourceId::random()),
            source_version: None,
            buildpacks: Vec::new(),
            hold,
        };
        let build: BuildId = self.store.create_build(new, at(1)).await.unwrap().0.id;
        let slug = Slug {
            id: SlugId::random(),
            app: self.app,
            sha256: Some("aa".to_owned()),
            size_bytes: 3,
            process_types: vec![(ProcessType::web(), "run".to_owned())],
            manifest: "{}".to_owned(),
            stack: "debian-12".to_owned(),
            commit: None,
            language: None,
            created_at: at(1),
        };
        self.store.build_succeeded(build, slug, "Deploy".to_owned(), at(1)).await.unwrap().unwrap()
    }

    async fn configure(&self, value: &str) -> Release {
        let changes = ConfigChanges::from([(ConfigKey::parse("A").unwrap(), Some(Secret::new(value.to_owned())))]);
        self.store.change_config(self.app, self.account, changes, at(2)).await.unwrap().1.unwrap()
    }

    async fn advance(&self, release: &Release, events: &[ReleaseEvent]) {
        for event in events {
            assert!(self.store.advance_release(release.id, *event, None, at(3)).await.unwrap(), "{event:?}");
        }
    }

    async fn serve(&self) -> Release {
        let release = self.build(false).await;
        self.advance(&release, &[ReleaseEvent::CommandSkipped, ReleaseEvent::Ready]).await;
        release
    }

    fn now(&self, release: &Release) -> (Option<SlugId>, ReleaseState) {
        let now = self.store.release(release.id).unwrap().unwrap();
        (now.slug, now.state)
    }
}

#[tokio::test]
async fn a_change_made_during_a_release_that_fails_goes_on_with_the_code_that_serves() {
    let fixture = Fixture::new().await;
    let serving = fixture.serve().await;
    let failing = fixture.build(false).await;
    fixture.advance(&failing, &[ReleaseEvent::CommandStarted]).await;
    let (one, two) = (fixture.configure("1").await, fixture.configure("2").await);
    assert_eq!((one.slug, two.slug), (failing.slug, failing.slug));
    fixture.advance(&failing, &[ReleaseEvent::Failed]).await;
    for change in [one, two] {
        assert_eq!(fixture.now(&change), (serving.slug, ReleaseState::Pending));
    }
    assert_eq!(fixture.configure("3").await.slug, serving.slug);
}

#[tokio::test]
async fn without_code_that_serves_such_a_change_stands_by_itself() {
    let fixture = Fixture::new().await;
    let failing = fixture.build(false).await;
    let (one, two) = (fixture.configure("1").await, fixture.configure("2").await);
    fixture.advance(&failing, &[ReleaseEvent::Failed]).await;
    assert_eq!(fixture.now(&one), (None, ReleaseState::Superseded));
    assert_eq!(fixture.now(&two), (None, ReleaseState::Serving));
    let serving = fixture.store.releases(fixture.app).unwrap();
    assert_eq!(serving.iter().filter(|release| release.state == ReleaseState::Serving).count(), 1);
}

#[tokio::test]
async fn code_that_made_way_before_it_served_is_not_carried_on_with() {
    let fixture = Fixture::new().await;
    let serving = fixture.serve().await;
    let code = fixture.build(false).await;
    fixture.advance(&code, &[ReleaseEvent::CommandSkipped]).await;
    let change = fixture.configure("1").await;
    fixture.advance(&code, &[ReleaseEvent::Replaced]).await;
    fixture.advance(&change, &[ReleaseEvent::CommandSkipped, ReleaseEvent::Failed]).await;
    assert_eq!(fixture.now(&code).1, ReleaseState::Failed, "it never served");
    assert_eq!(fixture.now(&serving).1, ReleaseState::Serving);
    assert_eq!(fixture.configure("2").await.slug, serving.slug);
}

#[tokio::test]
async fn a_held_release_is_not_resumed_beside_a_newer_one() {
    let fixture = Fixture::new().await;
    let held = fixture.build(true).await;
    let newer = fixture.build(false).await;
    let resume = || fixture.store.resume_release(held.id, at(4));
    let refused = |error: StoreError, text: &str| assert!(error.to_string().contains(text), "{error}");
    refused(resume().await.unwrap_err(), "v3 is on its way");
    fixture.advance(&newer, &[ReleaseEvent::CommandStarted]).await;
    refused(resume().await.unwrap_err(), "v3 is on its way");
    fixture.advance(&newer, &[ReleaseEvent::Failed]).await;
    assert_eq!(resume().await.unwrap().state, ReleaseState::Pending);
    refused(resume().await.unwrap_err(), "v2 is not held; it is pending");
}

#[tokio::test]
async fn an_app_whose_code_another_one_serves_can_be_destroyed() {
    let fixture = Fixture::new().await;
    let release = fixture.serve().await;
    let other = fixture.store.create_app(AppName::parse("other").unwrap(), fixture.account, at(4)).await.unwrap().id;
    let slug = release.slug.unwrap();
    let taken = fixture.store.release_slug(other, slug, "Deploy".to_owned(), fixture.account, at(4)).await.unwrap();
    fixture.store.destroy_app(fixture.app, fixture.account, at(5)).await.unwrap();
    assert!(fixture.store.forget_app(fixture.app).await.unwrap());
    assert!(fixture.store.app(fixture.app).unwrap().is_none());
    assert_eq!(fixture.store.slug(slug).unwrap().unwrap().app, other);
    assert_eq!(fixture.now(&taken).0, Some(slug));
}
