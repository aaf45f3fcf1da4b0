use std::collections::BTreeMap;

use domain::access::Scope;
use domain::config::ConfigChanges;
use domain::dyno::{DynoEvent, DynoKind, DynoName, DynoState};
use domain::id::{AccountId, BuildId, SlugId, SourceId, TokenId, WebhookId};
use domain::name::{AppName, ConfigKey, ProcessType};
use domain::release::{ReleaseEvent, ReleaseState};
use domain::rollout::DynoRequest;
use domain::routing::{DynoProtocol, Hsts, RoutingSettings};
use domain::secret::Secret;
use domain::webhook::{Entity, Level};
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::account::{Account, NewToken, TokenPrint};
use crate::app::{App, AppChange};
use crate::audit::AuditEntry;
use crate::build::{BuildStatus, NewBuild, SourceLocation};
use crate::change::{Action, Snapshot};
use crate::dyno::{DynoExit, DynoSelection, NewDyno};
use crate::slug::Slug;
use crate::webhook::Webhook;

mod app_transfer;

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    account: Account,
    app: App,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).unwrap();
    let account = store.create_account("admin@localhost".to_owned(), now()).await.unwrap();
    let app = store.create_app(AppName::parse("shop").unwrap(), account.id, now()).await.unwrap();
    Fixture { dir, store, account, app }
}

fn open(dir: &tempfile::TempDir) -> Result<Store, StoreError> {
    Store::open(&dir.path().join("berth.db"), MasterKey::new([7; 32]))
}

fn set(pairs: &[(&str, &str)]) -> ConfigChanges {
    let change = |(key, value): &(&str, &str)| (ConfigKey::parse(key).unwrap(), Some(Secret::new((*value).to_owned())));
    pairs.iter().map(change).collect()
}

fn slug(fixture: &Fixture, sha256: &str) -> Slug {
    Slug {
        id: SlugId::random(),
        app: fixture.app.id,
        sha256: Some(sha256.to_owned()),
        size_bytes: 3,
        process_types: vec![(ProcessType::web(), "run".to_owned())],
        manifest: "{}".to_owned(),
        stack: "debian-12".to_owned(),
        commit: None,
        language: Some("Python".to_owned()),
        created_at: now(),
    }
}

async fn pending_build(fixture: &Fixture) -> BuildId {
    let new = NewBuild {
        app: fixture.app.id,
        account: fixture.account.id,
        source: SourceLocation::Uploaded(SourceId::random()),
        source_version: None,
        buildpacks: Vec::new(),
        hold: false,
    };
    // Builds are ordered by time, so each needs its own.
    let count = i64::try_from(fixture.store.builds(fixture.app.id).unwrap().len()).unwrap();
    let at = Timestamp::from_second(now().as_second() + count).unwrap();
    fixture.store.create_build(new, at).await.unwrap().0.id
}

#[tokio::test]
async fn an_app_has_a_release_from_the_start_and_its_name_is_taken() {
    let fixture = fixture().await;
    let releases = fixture.store.releases(fixture.app.id).unwrap();
    assert_eq!(releases.len(), 1);
    assert_eq!((releases[0].version, releases[0].description.as_str()), (1, "Initial release"));
    let again = fixture.store.create_app(AppName::parse("shop").unwrap(), fixture.account.id, now()).await;
    assert_eq!(again.unwrap_err().to_string(), "Name shop is already taken");

    fixture.store.destroy_app(fixture.app.id, fixture.account.id, now()).await.unwrap();
    let second = fixture.store.create_app(AppName::parse("shop").unwrap(), fixture.account.id, now()).await.unwrap();
    assert_ne!(second.uid, fixture.app.uid, "uids are never used again");
}

#[tokio::test]
async fn a_config_change_makes_one_release_and_no_change_makes_none() {
    let fixture = fixture().await;
    let change = |changes| fixture.store.change_config(fixture.app.id, fixture.account.id, changes, now());
    let (vars, release) = change(set(&[("A", "1")])).await.unwrap();
    assert_eq!(vars.len(), 1);
    assert_eq!(release.unwrap().description, "Set A config var");
    assert_eq!(change(set(&[("A", "1")])).await.unwrap().1, None);
    let refused = change(set(&[("PORT", "1")])).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    assert_eq!(fixture.store.releases(fixture.app.id).unwrap().len(), 2);
}

#[tokio::test]
async fn secrets_are_not_in_the_database_file() {
    let fixture = fixture().await;
    let changes = set(&[("SECRET", "correct-horse-battery")]);
    fixture.store.change_config(fixture.app.id, fixture.account.id, changes, now()).await.unwrap();
    let (_token, text) = fixture.store.create_token(token(fixture.account.id, None), now()).await.unwrap();
    for entry in std::fs::read_dir(fixture.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in ["correct-horse-battery", text.expose()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    let found = fixture.store.authenticate(&text, now()).unwrap().unwrap();
    assert_eq!(found.account, fixture.account);
}

#[tokio::test]
async fn revoked_and_expired_tokens_are_refused() {
    let fixture = fixture().await;
    let account = fixture.account.id;
    let soon = Timestamp::from_second(now().as_second() + 60).unwrap();
    let (token, text) = fixture.store.create_token(token(account, Some(soon)), now()).await.unwrap();
    let first = fixture.store.authenticate(&text, now()).unwrap().unwrap();
    assert!(fixture.store.authenticate(&text, soon).unwrap().is_none());
    let other = fixture.store.regenerate_token(account, token.id).await.unwrap();
    assert!(fixture.store.authenticate(&text, now()).unwrap().is_none(), "a rotated token has one text");
    let found = fixture.store.authenticate(&other, now()).unwrap().unwrap();
    assert_eq!(found.token, token.id);
    let holder = |print: &TokenPrint, at| fixture.store.holder(account, Some(print), at).unwrap();
    assert_eq!(holder(&found.print, now()).unwrap().expires_at, Some(soon));
    assert_eq!(TokenPrint::parse(&found.print.to_string()), Some(found.print));
    assert!(holder(&found.print, soon).is_none() && holder(&first.print, now()).is_none());
    assert!(fixture.store.revoke_token(account, token.id, now()).await.unwrap());
    assert!(fixture.store.authenticate(&other, now()).unwrap().is_none());
    assert!(holder(&found.print, now()).is_none());
    fixture.store.regenerate_token(account, token.id).await.unwrap_err();
    assert!(fixture.store.authenticate(&Secret::new(String::new()), now()).unwrap().is_none());
}

#[tokio::test]
async fn a_token_that_is_renewed_is_the_same_until_its_authorization_ends() {
    let fixture = fixture().await;
    let (store, account) = (&fixture.store, fixture.account.id);
    let later = |hours: i64| now() + SignedDuration::from_hours(hours);
    let client =
        store.create_oauth_client(account, "board".to_owned(), "https://x/cb".to_owned(), now()).await.unwrap();
    let grant =
        async || store.grant_token(client.id, TokenId::random(), token(account, Some(later(8))), now()).await.unwrap();
    let granted = grant().await;
    let print = store.authenticate(&granted.text, now()).unwrap().unwrap().print;
    let holder = |print: &TokenPrint, at| store.holder(account, Some(print), at).unwrap();
    let renewed = store.renew_token(client.id, &granted.refresh, later(12)).await.unwrap().unwrap();
    assert!(store.authenticate(&granted.text, now()).unwrap().is_none());
    assert_eq!(store.authenticate(&renewed.2, later(9)).unwrap().unwrap().print, print);
    // Nobody has to renew it in time for what it began to go on.
    assert_eq!(holder(&print, later(24)).unwrap().expires_at, None);
    assert!(store.authenticate(&renewed.2, later(24)).unwrap().is_none());

    let other = grant().await;
    let other_print = store.authenticate(&other.text, now()).unwrap().unwrap().print;
    assert_ne!(print, other_print);
    assert!(store.revoke_token(account, granted.token.id, now()).await.unwrap());
    assert!(holder(&print, now()).is_none() && holder(&other_print, now()).is_some());
    store.remove_oauth_client(client.id).await.unwrap();
    assert!(holder(&other_print, now()).is_none());
}

#[tokio::test]
async fn a_build_ends_once_and_makes_one_release() {
    let fixture = fixture().await;
    let build = pending_build(&fixture).await;
    let release = fixture.store.build_succeeded(build, slug(&fixture, "aa"), "Deploy".to_owned(), now()).await.unwrap();
    assert_eq!(release.unwrap().state, ReleaseState::Pending);
    assert_eq!(fixture.store.build_succeeded(build, slug(&fixture, "aa"), String::new(), now()).await.unwrap(), None);
    fixture.store.end_build(build, BuildStatus::Failed, "late".to_owned(), now()).await.unwrap();
    assert_eq!(fixture.store.build(build).unwrap().unwrap().status, BuildStatus::Succeeded);
    let formation = fixture.store.formation(fixture.app.id).unwrap();
    assert_eq!((formation.len(), formation[0].entry.quantity), (1, 1));
}

#[tokio::test]
async fn a_newer_waiting_build_replaces_an_older_waiting_one_but_not_the_one_under_way() {
    let fixture = fixture().await;
    let (first, second, third) =
        (pending_build(&fixture).await, pending_build(&fixture).await, pending_build(&fixture).await);
    let status = |id| fixture.store.build(id).unwrap().unwrap().status;
    assert_eq!(status(first), BuildStatus::Pending);
    assert_eq!(status(second), BuildStatus::Canceled);
    assert_eq!(status(third), BuildStatus::Pending);
    assert_eq!(fixture.store.current_builds().unwrap().iter().map(|build| build.id).collect::<Vec<_>>(), [first]);
}

#[tokio::test]
async fn a_rollback_restores_code_and_config_as_a_new_release() {
    let fixture = fixture().await;
    let build = pending_build(&fixture).await;
    let old =
        fixture.store.build_succeeded(build, slug(&fixture, "aa"), "Deploy".to_owned(), now()).await.unwrap().unwrap();
    let roll_back = || fixture.store.roll_back(fixture.app.id, old.id, fixture.account.id, false, now());
    assert!(matches!(roll_back().await, Err(StoreError::Refused(_))), "it never ran");
    for event in [ReleaseEvent::CommandSkipped, ReleaseEvent::Ready] {
        assert!(fixture.store.advance_release(old.id, event, None, now()).await.unwrap());
    }
    fixture.store.change_config(fixture.app.id, fixture.account.id, set(&[("A", "1")]), now()).await.unwrap();
    let release = roll_back().await.unwrap();
    assert_eq!((release.version, release.description.as_str()), (4, "Rollback to v2"));
    assert_eq!((release.slug, release.run_command), (old.slug, false));
    assert_eq!(fixture.store.config(fixture.app.id).unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn only_one_release_serves() {
    let fixture = fixture().await;
    for sha in ["aa", "bb"] {
        let build = pending_build(&fixture).await;
        let release = fixture.store.build_succeeded(build, slug(&fixture, sha), String::new(), now()).await.unwrap();
        let id = release.unwrap().id;
        for event in [ReleaseEvent::CommandSkipped, ReleaseEvent::Ready] {
            fixture.store.advance_release(id, event, None, now()).await.unwrap();
        }
    }
    let states: Vec<_> = fixture.store.releases(fixture.app.id).unwrap().iter().map(|release| release.state).collect();
    assert_eq!(states, [ReleaseState::Superseded, ReleaseState::Superseded, ReleaseState::Serving]);
}

#[tokio::test]
async fn dynos_keep_their_slots_apart_and_end_once() {
    let fixture = fixture().await;
    let new = |name: &str| NewDyno {
        app: fixture.app.id,
        kind: DynoKind::Formation,
        name: DynoName::parse(name).unwrap(),
        release: None,
        build: None,
        size: "Standard-1X".to_owned(),
        command: "run".to_owned(),
        env: BTreeMap::new(),
        crashes: 0,
        attach: None,
        time_to_live_s: None,
    };
    let first = fixture.store.create_dyno(new("web.1"), now()).await.unwrap();
    let second = fixture.store.create_dyno(new("web.2"), now()).await.unwrap();
    assert_ne!(first.slot, second.slot);
    fixture.store.advance_dyno(first.id, DynoEvent::Launched, now()).await.unwrap();
    let exit = DynoExit { status: Some(1), reason: "exited".to_owned() };
    let crashed = fixture.store.dyno_exited(first.id, exit.clone(), now()).await.unwrap().unwrap();
    assert_eq!((crashed.state, crashed.crashes, crashed.slot), (DynoState::Crashed, 1, None));
    assert_eq!(fixture.store.dyno_exited(first.id, exit, now()).await.unwrap(), None);

    let asked = |which| fixture.store.request_dynos(fixture.app.id, which, DynoRequest::Restart);
    assert_eq!(asked(DynoSelection::One("web.2".to_owned())).await.unwrap(), 1);
    assert_eq!(asked(DynoSelection::One("web.9".to_owned())).await.unwrap(), 0);
    assert_eq!(asked(DynoSelection::Formation).await.unwrap(), 2);

    let one_off = || NewDyno { kind: DynoKind::OneOff, ..new("run.1234") };
    let mut names = Vec::new();
    for _time in 0..3 {
        names.push(fixture.store.create_dyno(one_off(), now()).await.unwrap().name.to_string());
    }
    assert_eq!(names, ["run.1234", "run.1235", "run.1236"], "nobody stops another one by its name");

    fixture.store.change_routing(fixture.app.id, |to| to.dyno_protocol = DynoProtocol::H2c, now()).await.unwrap();
    let later = fixture.store.create_dyno(new("web.3"), now()).await.unwrap();
    let protocols = [second.id, later.id].map(|id| fixture.store.dyno(id).unwrap().unwrap().protocol);
    assert_eq!(protocols, [DynoProtocol::Http1, DynoProtocol::H2c], "it does not change under a dyno");
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let fixture = fixture().await;
    let path = fixture.dir.path().join("berth.db");
    drop(fixture.store);
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = open(&fixture.dir).unwrap_err();
    assert!(error.to_string().contains("schema 99"), "{error}");
}

#[tokio::test]
async fn writes_wake_those_who_watch() {
    let fixture = fixture().await;
    let mut changes = fixture.store.changes();
    changes.mark_unchanged();
    fixture.store.set_setting("k", "v".to_owned()).await.unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(fixture.store.setting("k").unwrap(), Some("v".to_owned()));
}

#[tokio::test]
async fn a_domain_belongs_to_one_app_and_is_free_when_that_is_gone() {
    let fixture = fixture().await;
    let other = fixture.store.create_app(AppName::parse("other").unwrap(), fixture.account.id, now()).await.unwrap();
    let name = || domain::hostname::Hostname::parse("www.example.com").unwrap();
    let key = Secret::new("-----BEGIN PRIVATE KEY-----".to_owned());
    let chain = "chain".to_owned();
    let endpoint =
        fixture.store.add_sni_endpoint(fixture.app.id, "reef-1".to_owned(), chain, key, now()).await.unwrap();
    let domain = fixture.store.add_domain(fixture.app.id, name(), Some(endpoint.id), now()).await.unwrap();
    let refused = fixture.store.add_domain(other.id, name(), None, now()).await.unwrap_err();
    assert_eq!(refused.to_string(), "www.example.com is already a domain of another app");
    let key = fixture.store.sni_endpoint_key(endpoint.id).unwrap();
    assert_eq!(key.expose(), "-----BEGIN PRIVATE KEY-----");

    fixture.store.remove_sni_endpoint(endpoint.id).await.unwrap();
    let left = fixture.store.domains(fixture.app.id).unwrap();
    assert_eq!((left[0].id, left[0].sni_endpoint), (domain.id, None));
    fixture.store.destroy_app(fixture.app.id, fixture.account.id, now()).await.unwrap();
    fixture.store.add_domain(other.id, name(), None, now()).await.unwrap();
}

#[tokio::test]
async fn routing_settings_are_kept_whole_or_not_at_all() {
    let fixture = fixture().await;
    let (store, app) = (&fixture.store, fixture.app.id);
    assert_eq!(store.routing(app).unwrap(), RoutingSettings::default());
    let wanted = RoutingSettings {
        https_only: true,
        hsts: Hsts::parse("1y,includeSubDomains,preload").ok(),
        compression: true,
        dyno_protocol: DynoProtocol::H2c,
        session_affinity: true,
        request_bytes_max: Some(5),
        timeout: Duration::from_millis(1500),
        idle_timeout: Duration::from_secs(2),
        boot_wait: Duration::ZERO,
        maintenance_page: Some("<p>soon".to_owned()),
        error_page: Some("<p>sorry".to_owned()),
    };
    let new = wanted.clone();
    store.change_routing(app, move |settings| *settings = new, now()).await.unwrap();
    let refused = store.change_routing(app, |settings| settings.timeout = Duration::ZERO, now()).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    let reopened = open(&fixture.dir).unwrap();
    assert_eq!(reopened.routing(app).unwrap(), wanted);
    assert_eq!(reopened.all_routing().unwrap().get(&app), Some(&wanted));
}

#[tokio::test]
async fn a_promotion_copies_the_slug_and_leaves_the_target_its_config() {
    let fixture = fixture().await;
    let target =
        fixture.store.create_app(AppName::parse("production").unwrap(), fixture.account.id, now()).await.unwrap();
    let pipeline = fixture.store.create_pipeline("shop".to_owned(), fixture.account.id, now()).await.unwrap();
    fixture.store.couple(pipeline.id, fixture.app.id, domain::pipeline::Stage::Staging, now()).await.unwrap();
    let again = fixture.store.couple(pipeline.id, fixture.app.id, domain::pipeline::Stage::Production, now()).await;
    assert!(again.unwrap_err().to_string().contains("already in a pipeline"));
    fixture.store.change_config(target.id, fixture.account.id, set(&[("A", "1")]), now()).await.unwrap();
    let build = pending_build(&fixture).await;
    let built =
        fixture.store.build_succeeded(build, slug(&fixture, "aa"), String::new(), now()).await.unwrap().unwrap();
    let new = crate::promotion::NewPromotion {
        pipeline: pipeline.id,
        source_app: fixture.app.id,
        source_release: built.id,
        slug: built.slug.unwrap(),
        account: fixture.account.id,
        description: "Promote shop v2".to_owned(),
    };
    let promotion = fixture.store.promote(new, vec![target.id], now()).await.unwrap();
    let targets = fixture.store.promotion_targets(promotion.id).unwrap();
    let release = fixture.store.release(targets[0].release).unwrap().unwrap();
    assert_eq!((release.app, release.version, release.run_command), (target.id, 3, true));
    let copy = fixture.store.slug(release.slug.unwrap()).unwrap().unwrap();
    assert_eq!((copy.app, copy.sha256.as_deref()), (target.id, Some("aa")));
    assert_eq!(fixture.store.release_config(release.id).unwrap().len(), 1);
    // The source may go: what was promoted stays.
    fixture.store.destroy_app(fixture.app.id, fixture.account.id, now()).await.unwrap();
    assert!(fixture.store.forget_app(fixture.app.id).await.unwrap());
    assert!(fixture.store.slug(copy.id).unwrap().is_some());
    assert!(fixture.store.pipeline_couplings().unwrap().is_empty());
}

#[tokio::test]
async fn what_was_ordered_is_remembered_and_its_secrets_are_sealed() {
    use domain::acme::{Attempt, Outcome};

    use crate::managed_certificate::IssuedCertificate;

    let fixture = fixture().await;
    let store = &fixture.store;
    let host = || domain::hostname::Hostname::parse("www.example.com").unwrap();
    let first = store.begin_acme_order(host(), now()).await.unwrap();
    let later = Timestamp::from_second(now().as_second() + 60).unwrap();
    store.begin_acme_order(host(), later).await.unwrap();
    store.end_acme_order(first, Outcome::Deferred { until: later }).await.unwrap();
    store.interrupt_acme_orders(later).await.unwrap();
    let attempts: Vec<Attempt> =
        store.acme_orders(later).unwrap().into_iter().map(|(_host, attempt)| attempt).collect();
    assert_eq!(
        attempts,
        [
            Attempt { at: now(), outcome: Outcome::Deferred { until: later } },
            Attempt { at: later, outcome: Outcome::Interrupted },
        ]
    );
    let in_eight_days = Timestamp::from_second(now().as_second() + 8 * 24 * 60 * 60).unwrap();
    assert_eq!(store.acme_orders(in_eight_days).unwrap(), []);

    let issued = |chain: &str| IssuedCertificate {
        hostname: host(),
        directory: "https://ca.example/dir".to_owned(),
        certificate_chain: chain.to_owned(),
        key: Secret::new("certificate-key-in-the-clear".to_owned()),
        valid_from: now(),
        valid_until: later,
    };
    store.keep_managed_certificate(issued("one"), now()).await.unwrap();
    let id = store.managed_certificates().unwrap()[0].id;
    store.keep_managed_certificate(issued("two"), later).await.unwrap();
    let kept = store.managed_certificates().unwrap();
    assert_eq!((kept.len(), kept[0].id, kept[0].certificate_chain.as_str()), (1, id, "two"));
    assert_eq!(store.managed_certificate_key(id).unwrap().expose(), "certificate-key-in-the-clear");
    assert!(store.managed_certificates_of(fixture.app.id).unwrap().is_empty(), "no app has the domain");
    let directory = || "https://ca.example/dir".to_owned();
    let account = Secret::new("account-key-in-the-clear".to_owned());
    store.keep_acme_account(directory(), account.clone(), now()).await.unwrap();
    assert_eq!(store.acme_account(&directory()).unwrap(), Some(account));
    for entry in std::fs::read_dir(fixture.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"in-the-clear"));
    }
    store.forget_expired_certificates(in_eight_days).await.unwrap();
    store.forget_acme_account(directory()).await.unwrap();
    assert_eq!((store.managed_certificates().unwrap().len(), store.acme_account(&directory()).unwrap()), (0, None));
}

#[tokio::test]
async fn the_credentials_of_a_dns_zone_come_back_and_are_sealed() {
    use domain::dns::{DnsCredentials, DnsZone};

    let fixture = fixture().await;
    let store = &fixture.store;
    let name = || domain::hostname::Hostname::parse("example.com").unwrap();
    let zone = |credentials| DnsZone { name: name(), endpoint: None, credentials };
    let secret = || Secret::new("dns-secret-in-the-clear".to_owned());
    let cloudflare = zone(DnsCredentials::Cloudflare { token: secret() });
    store.keep_dns_zone(cloudflare.clone(), now()).await.unwrap();
    assert_eq!(store.dns_zones().unwrap(), [cloudflare]);
    let route53 =
        zone(DnsCredentials::Route53 { access_key_id: "AKIDEXAMPLE".to_owned(), secret_access_key: secret() });
    store.keep_dns_zone(route53.clone(), now()).await.unwrap();
    assert_eq!(store.dns_zones().unwrap(), [route53]);
    for entry in std::fs::read_dir(fixture.dir.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"in-the-clear"));
    }
    assert!(store.forget_dns_zone(name()).await.unwrap());
    assert!(!store.forget_dns_zone(name()).await.unwrap());
}

fn token(account: AccountId, expires_at: Option<Timestamp>) -> NewToken {
    NewToken {
        account,
        description: "ci".to_owned(),
        expires_at,
        scopes: vec![Scope::Global],
        app: None,
        session: false,
    }
}

#[tokio::test]
async fn what_is_changed_is_written_down_in_the_same_transaction_or_not_at_all() {
    let Fixture { dir: _dir, store, account, app } = fixture().await;
    let maintain = |on| AppChange { maintenance: Some(on), ..AppChange::default() };
    store.update_app(app.id, maintain(true), now()).await.unwrap();
    assert_eq!(store.changes_to_tell(10).unwrap(), [], "nobody wants to know");
    let webhook = Webhook {
        id: WebhookId::random(),
        app: app.id,
        url: Secret::new("https://hooks.example.com/".to_owned()),
        include: vec![Entity::App],
        level: Level::Sync,
        secret: Secret::new("s3cret".to_owned()),
        authorization: None,
        created_at: now(),
        updated_at: now(),
    };
    store.add_webhook(webhook.clone()).await.unwrap();
    assert_eq!(store.webhooks(app.id).unwrap(), [webhook]);
    store.create_app(AppName::parse("taken").unwrap(), account.id, now()).await.unwrap();
    let entry = AuditEntry {
        at: now(),
        account: account.id,
        action: "PATCH /apps/{app}".to_owned(),
        target: "/apps/shop".to_owned(),
        app: Some(app.id),
        origin: "127.0.0.1".to_owned(),
    };
    let acting = Acting::new(account.id, Some(entry.clone()));
    let renamed = AppChange { name: Some(AppName::parse("taken").unwrap()), ..maintain(false) };
    acting.run(store.update_app(app.id, renamed, now())).await.unwrap_err();
    assert_eq!((store.changes_to_tell(10).unwrap(), store.audit(None, 10).unwrap()), (vec![], vec![]));
    assert_eq!(acting.unrecorded(), Some(entry.clone()));

    acting.run(store.update_app(app.id, maintain(false), now())).await.unwrap();
    acting.run(store.set_setting("another", "write".to_owned())).await.unwrap();
    assert_eq!((store.audit(Some(app.id), 10).unwrap(), acting.unrecorded()), (vec![entry], None));
    let changes = store.changes_to_tell(10).unwrap();
    assert_eq!((changes.len(), changes[0].action, changes[0].account), (1, Action::Update, Some(account.id)));
    let maintenance = |snapshot: &Option<Snapshot>| match snapshot {
        Some(Snapshot::App(app)) => app.maintenance,
        other => panic!("{other:?}"),
    };
    assert_eq!((maintenance(&changes[0].before), maintenance(&changes[0].after)), (true, false));
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let Fixture { dir: _dir, store, account, app } = fixture().await;
    let ada = store.invite_account("ada@example.com".to_owned(), false, now()).await.unwrap();
    assert_eq!(store.invite_account("ada@example.com".to_owned(), true, now()).await.unwrap(), ada);
    store.set_administrator(account.id, false).await.unwrap_err();
    store.remove_account(account.id, now()).await.unwrap_err();
    store.set_administrator(ada.id, true).await.unwrap();
    store.remove_account(account.id, now()).await.unwrap();
    assert_eq!(store.first_account().unwrap().unwrap().id, ada.id);
    // What was theirs is still known to be theirs.
    assert_eq!(store.app(app.id).unwrap().unwrap().owner, account.id);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_any_more_is_told_of() {
    let Fixture { dir: _dir, store, app, .. } = fixture().await;
    let mut changes = store.changes();
    let renamed = AppChange { name: Some(AppName::parse("later").unwrap()), ..AppChange::default() };
    // As where a client goes away in the middle of its request.
    tokio::select! {
        biased;
        _written = store.update_app(app.id, renamed, now()) => {}
        () = std::future::ready(()) => {}
    }
    changes.changed().await.unwrap();
    assert_eq!(store.app(app.id).unwrap().unwrap().name.to_string(), "later");
}
