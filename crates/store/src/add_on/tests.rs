use domain::add_on::Values;
use domain::config::{ConfigChanges, ConfigVars};
use domain::name::AppName;
use domain::secret::Secret;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    account: AccountId,
    shop: AppId,
    worker: AppId,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("berth.db"), MasterKey::new([7; 32])).unwrap();
    let account = store.create_account("admin@localhost".to_owned(), now()).await.unwrap().id;
    let app = async |name: &str| store.create_app(AppName::parse(name).unwrap(), account, now()).await.unwrap().id;
    let (shop, worker) = (app("shop").await, app("worker").await);
    Fixture { dir, store, account, shop, worker }
}

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(key, value)| (ConfigKey::parse(key).unwrap(), Secret::new((*value).to_owned()))).collect()
}

fn attaching(name: Option<&str>, confirmed: bool) -> Attaching {
    let name = name.map(|name| AttachmentName::parse(name).unwrap());
    Attaching { name, family: Family::POSTGRES, confirmed, random: 7 }
}

fn shown(vars: &ConfigVars) -> Vec<String> {
    vars.iter().map(|(key, value)| format!("{key}={}", value.expose())).collect()
}

impl Fixture {
    async fn create(&self, provision: Provision, attaching: Attaching) -> Result<Attached, StoreError> {
        let new = NewAddOn {
            app: self.shop,
            account: self.account,
            service: "berth-custom".to_owned(),
            plan: "external".to_owned(),
            stem: "custom".to_owned(),
            name: None,
            provision,
            attaching,
        };
        self.store.create_add_on(new, now()).await
    }

    /// An add-on with a URL, attached as `DATABASE`.
    async fn database(&self, url: &str) -> Attached {
        self.create(Provision::Done(values(&[("URL", url)])), attaching(None, false)).await.unwrap()
    }

    async fn attach(&self, add_on: &AddOn, app: AppId, attaching: Attaching) -> Result<Attached, StoreError> {
        self.store.attach(add_on.id, app, self.account, attaching, None, now()).await
    }

    async fn set(&self, app: AppId, pairs: &[(&str, &str)]) -> Result<ConfigVars, StoreError> {
        let changes: ConfigChanges = values(pairs).into_iter().map(|(key, value)| (key, Some(value))).collect();
        Ok(self.store.change_config(app, self.account, changes, now()).await?.0)
    }

    /// Adds values to those that an add-on has.
    async fn change(&self, add_on: &AddOn, pairs: &[(&str, &str)]) -> Result<(AddOn, Vec<Release>), StoreError> {
        let new = values(pairs);
        let change = |current: &Values| Ok(current.clone().into_iter().chain(new).collect());
        self.store.change_values(add_on, change, self.account, now()).await
    }

    fn environment(&self, app: AppId) -> Vec<String> {
        shown(&self.store.environment(app).unwrap())
    }

    fn descriptions(&self, app: AppId) -> Vec<String> {
        self.store.releases(app).unwrap().into_iter().skip(1).map(|release| release.description).collect()
    }
}

#[tokio::test]
async fn an_add_on_gives_each_app_config_vars_of_its_own_names() {
    let fixture = fixture().await;
    let made = fixture.database("postgres://one").await;
    let name = made.add_on.name.to_string();
    assert_eq!(made.attachment.name.as_str(), "DATABASE");
    fixture.attach(&made.add_on, fixture.worker, attaching(Some("PRIMARY"), false)).await.unwrap();
    let second = fixture.database("postgres://two").await;
    assert_eq!(second.attachment.name.as_str(), "HEROKU_POSTGRESQL_COBALT");
    assert_ne!(second.add_on.name, made.add_on.name);
    assert_eq!(
        fixture.environment(fixture.shop),
        ["DATABASE_URL=postgres://one", "HEROKU_POSTGRESQL_COBALT_URL=postgres://two"]
    );
    assert_eq!(fixture.environment(fixture.worker), ["PRIMARY_URL=postgres://one"]);
    assert_eq!(fixture.descriptions(fixture.worker), [format!("Attach PRIMARY (@ref:{name})")]);
    let releases = fixture.store.releases(fixture.shop).unwrap();
    let last = releases.last().unwrap();
    assert_eq!(last.add_on_plans, ["berth-custom:external"], "each once");
    assert_eq!(releases[0].add_on_plans, [""; 0]);
    assert!(fixture.store.release_config(last.id).unwrap().is_empty(), "no release holds a value");
    for file in std::fs::read_dir(fixture.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(14).any(|window| window == b"postgres://one"), "sealed at rest");
    }
}

#[tokio::test]
async fn a_changed_value_reaches_every_app_and_every_release() {
    let fixture = fixture().await;
    let made = fixture.database("postgres://old").await;
    fixture.attach(&made.add_on, fixture.worker, attaching(None, false)).await.unwrap();
    let before = fixture.store.releases(fixture.worker).unwrap().last().unwrap().id;
    let change = async |url: &str| fixture.change(&made.add_on, &[("URL", url)]).await;
    let (_add_on, releases) = change("postgres://new").await.unwrap();
    assert_eq!(releases.len(), 2);
    assert!(change("postgres://new").await.unwrap().1.is_empty(), "the same again is no change");
    assert_eq!(shown(&fixture.store.release_environment(before).unwrap()), ["DATABASE_URL=postgres://new"]);
    // Another value, whose config var one of the apps has itself.
    fixture.set(fixture.worker, &[("DATABASE_CA", "own")]).await.unwrap();
    let refused = fixture.change(&made.add_on, &[("CA", "pem")]).await.unwrap_err();
    assert!(refused.to_string().contains("worker has another config var DATABASE_CA"), "{refused}");
    assert_eq!(fixture.environment(fixture.shop), ["DATABASE_URL=postgres://new"], "nothing half-done");
}

#[tokio::test]
async fn no_config_var_has_two_meanings() {
    let fixture = fixture().await;
    fixture.set(fixture.shop, &[("DATABASE_URL", "own")]).await.unwrap();
    // A name that is drawn goes around what is there; one that was chosen asks.
    let made = fixture.database("postgres://one").await;
    assert_eq!(made.attachment.name.as_str(), "HEROKU_POSTGRESQL_COBALT");
    let wanted = |confirmed| fixture.attach(&made.add_on, fixture.shop, attaching(Some("DATABASE"), confirmed));
    let asked = wanted(false).await.unwrap_err();
    assert!(matches!(asked, StoreError::Unconfirmed(_)), "{asked}");
    wanted(true).await.unwrap();
    assert!(fixture.environment(fixture.shop).contains(&"DATABASE_URL=postgres://one".to_owned()));
    assert!(fixture.store.config(fixture.shop).unwrap().is_empty(), "what was in the way is gone");
    let refused = fixture.set(fixture.shop, &[("DATABASE_URL", "x"), ("A", "1")]).await.unwrap_err();
    assert!(refused.to_string().starts_with("Cannot overwrite attachment values DATABASE_URL"), "{refused}");
    // `DATABASE` with `POOL_URL` would be what `DATABASE_POOL` has.
    fixture.attach(&made.add_on, fixture.shop, attaching(Some("OTHER_POOL"), false)).await.unwrap();
    let pool = Provision::Done(values(&[("POOL_URL", "x")]));
    let refused = fixture.create(pool, attaching(Some("OTHER"), true)).await.unwrap_err();
    assert!(refused.to_string().contains("OTHER_POOL_URL belongs to"), "{refused}");
    assert_eq!(fixture.store.add_ons().unwrap().len(), 1, "nothing half-done");
}

#[tokio::test]
async fn an_attachment_takes_anothers_place_when_that_is_confirmed() {
    let fixture = fixture().await;
    let first = fixture.database("postgres://one").await;
    let second = fixture.database("postgres://two").await;
    let promote = |confirmed| fixture.attach(&second.add_on, fixture.shop, attaching(Some("DATABASE"), confirmed));
    assert!(matches!(promote(false).await.unwrap_err(), StoreError::Unconfirmed(_)));
    let refused = promote(true).await.unwrap_err();
    assert!(refused.to_string().contains("the last attachment"), "{refused}");
    fixture.attach(&first.add_on, fixture.shop, attaching(Some("OLD"), false)).await.unwrap();
    promote(true).await.unwrap();
    let vars = fixture.environment(fixture.shop);
    assert!(vars.contains(&"DATABASE_URL=postgres://two".to_owned()), "{vars:?}");
    assert!(vars.contains(&"OLD_URL=postgres://one".to_owned()), "{vars:?}");
}

#[tokio::test]
async fn an_add_on_goes_from_everywhere_or_stays() {
    let fixture = fixture().await;
    let made = fixture.database("postgres://one").await;
    let elsewhere = fixture.attach(&made.add_on, fixture.worker, attaching(None, false)).await.unwrap();
    let destroy = |force| fixture.store.destroy_add_on(made.add_on.id, fixture.account, force, true, now());
    let refused = destroy(false).await.unwrap_err();
    assert!(refused.to_string().contains("worker as DATABASE"), "{refused}");
    let refused = fixture.store.detach(&made.attachment, fixture.account, now()).await.unwrap_err();
    assert!(refused.to_string().contains("the last attachment"), "{refused}");
    let (gone, releases) = destroy(true).await.unwrap();
    assert_eq!((gone.state, releases.len()), (AddOnState::Deprovisioned, 2));
    assert_eq!(fixture.environment(fixture.worker), [""; 0]);
    assert_eq!(fixture.descriptions(fixture.worker).last().unwrap(), &format!("Detach DATABASE (@ref:{})", gone.name));
    assert!(matches!(destroy(true).await.unwrap_err(), StoreError::NotFound("add_on")));
    let again = fixture.store.detach(&elsewhere.attachment, fixture.account, now()).await.unwrap_err();
    assert!(matches!(again, StoreError::NotFound("add_on attachment")));
}

#[tokio::test]
async fn an_app_takes_its_add_ons_with_it() {
    let fixture = fixture().await;
    let made = fixture.database("postgres://one").await;
    fixture.attach(&made.add_on, fixture.worker, attaching(None, false)).await.unwrap();
    fixture.store.destroy_app(fixture.shop, fixture.account, now()).await.unwrap();
    assert_eq!(fixture.store.add_ons().unwrap(), []);
    assert_eq!(fixture.environment(fixture.worker), [""; 0]);
    assert_eq!(fixture.descriptions(fixture.worker).len(), 2, "attached, and told that it is gone");
    assert!(fixture.store.forget_app(fixture.shop).await.unwrap());
    assert_eq!(fixture.store.app(fixture.shop).unwrap(), None);
}

#[tokio::test]
async fn what_has_to_be_made_first_gives_nothing_until_it_is_there() {
    let fixture = fixture().await;
    let later = || Provision::Later { order: values(&[("VERSION", "16")]), values: &["URL"] };
    let made = fixture.create(later(), attaching(None, false)).await.unwrap();
    assert_eq!((made.add_on.state, made.attachment.name.as_str()), (AddOnState::Provisioning, "DATABASE"));
    assert_eq!(fixture.environment(fixture.shop), [""; 0]);
    // The name is taken all the same.
    let refused = fixture.set(fixture.shop, &[("DATABASE_URL", "x")]).await.unwrap_err();
    assert!(refused.to_string().contains("Cannot overwrite"), "{refused}");
    let url = || Ok(values(&[("URL", "postgres://one")]));
    let there = fixture.store.provisioned(made.add_on.id, url(), now()).await.unwrap().unwrap();
    assert_eq!(there.state, AddOnState::Provisioned);
    assert_eq!(fixture.environment(fixture.shop), ["DATABASE_URL=postgres://one"]);
    let told = format!("@ref:{} completed provisioning, setting DATABASE_URL", there.name);
    assert_eq!(fixture.descriptions(fixture.shop).last().unwrap(), &told);
    assert_eq!(fixture.store.provisioned(made.add_on.id, url(), now()).await.unwrap(), None, "once");

    let broken = fixture.create(later(), attaching(None, false)).await.unwrap().add_on;
    let failed = fixture.store.provisioned(broken.id, Err("no room".to_owned()), now()).await.unwrap().unwrap();
    assert_eq!((failed.state, failed.failure.as_deref()), (AddOnState::Deprovisioned, Some("no room")));
    let refused = fixture.attach(&broken, fixture.worker, attaching(None, false)).await.unwrap_err();
    assert!(refused.to_string().contains("it is deprovisioned"), "{refused}");

    // What somebody has to take down is gone for apps at once, and is forgotten when it is down.
    let destroy = fixture.store.destroy_add_on(made.add_on.id, fixture.account, false, false, now());
    assert_eq!(destroy.await.unwrap().0.state, AddOnState::Deprovisioning);
    assert_eq!(fixture.environment(fixture.shop), [""; 0]);
    fixture.store.destroy_app(fixture.shop, fixture.account, now()).await.unwrap();
    assert!(!fixture.store.forget_app(fixture.shop).await.unwrap(), "its add-on is still being taken down");
    for id in [made.add_on.id, broken.id] {
        fixture.store.forget_add_on(id).await.unwrap();
    }
    assert!(fixture.store.forget_app(fixture.shop).await.unwrap());
    assert!(fixture.store.app(fixture.shop).unwrap().is_none());
}

#[tokio::test]
async fn a_rollback_brings_no_config_var_back_that_an_add_on_has_taken() {
    let fixture = fixture().await;
    fixture.set(fixture.shop, &[("DATABASE_URL", "own"), ("A", "1")]).await.unwrap();
    let old = fixture.store.releases(fixture.shop).unwrap().pop().unwrap();
    let url = Provision::Done(values(&[("URL", "postgres://one")]));
    fixture.create(url, attaching(Some("DATABASE"), true)).await.unwrap();
    assert_eq!(
        shown(&fixture.store.release_environment(old.id).unwrap()),
        ["A=1", "DATABASE_URL=postgres://one"],
        "the old code finds what is there now"
    );
    assert_eq!(fixture.environment(fixture.shop), ["A=1", "DATABASE_URL=postgres://one"]);
}

#[tokio::test]
async fn nothing_happens_to_an_app_that_is_being_destroyed() {
    let fixture = fixture().await;
    let made = fixture.database("postgres://one").await;
    let app = fixture.worker;
    fixture.store.destroy_app(app, fixture.account, now()).await.unwrap();
    let is_gone = |error: &StoreError| matches!(error, StoreError::NotFound("app"));
    assert!(is_gone(&fixture.attach(&made.add_on, app, attaching(None, false)).await.unwrap_err()));
    assert!(is_gone(&fixture.set(app, &[("A", "1")]).await.unwrap_err()));
    assert!(is_gone(&fixture.store.destroy_app(app, fixture.account, now()).await.unwrap_err()));
    assert_eq!(fixture.descriptions(app), [""; 0], "no release was made");
}
