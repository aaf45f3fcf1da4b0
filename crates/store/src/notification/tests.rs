use domain::access::Scope;
use domain::formation::{CONCURRENCY_MAX, Scaling};
use domain::name::{AppName, ProcessType};

use super::*;
use crate::account::NewToken;
use crate::formation::FormationChange;
use crate::sealed::MasterKey;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

async fn store() -> (tempfile::TempDir, Store, AppId) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("berth.db"), MasterKey::new([7; 32])).unwrap();
    let account = store.create_account("admin@localhost".to_owned(), at(0)).await.unwrap();
    let app = store.create_app(AppName::parse("shop").unwrap(), account.id, at(0)).await.unwrap();
    (dir, store, app.id)
}

fn notification(app: AppId, events: &[&str]) -> Notification {
    Notification {
        id: NotificationId::random(),
        app,
        format: Format::Webhook,
        url: Secret::new("https://example.com/secret-path".to_owned()),
        secret: Secret::new("0123456789abcdef".to_owned()),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        created_at: at(0),
    }
}

async fn scale(store: &Store, app: AppId, quantity: u32) {
    let change = FormationChange {
        process_type: ProcessType::web(),
        quantity: Some(Scaling::To(quantity)),
        size: None,
        concurrency: Some(CONCURRENCY_MAX),
    };
    store.scale(app, vec![change], at(1)).await.unwrap();
}

#[tokio::test]
async fn an_event_becomes_a_message_for_whoever_wants_its_kind() {
    let (dir, store, app) = store().await;
    let (wants, other) = (notification(app, &["deploy", "scaling"]), notification(app, &["scaling.x", "crash"]));
    for new in [wants.clone(), other] {
        store.add_notification(new).await.unwrap();
    }
    scale(&store, app, 3).await;
    // What changes nothing is told to nobody.
    scale(&store, app, 3).await;
    let due = store.due_deliveries(at(1), 10).unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].notification, due[0].text.as_str()), (wants.id, "web: 0 to 3"));
    assert_eq!(due[0].url.expose(), "https://example.com/secret-path");
    let database = std::fs::read(dir.path().join("berth.db-wal")).unwrap();
    assert!(!database.windows(11).any(|window| window == b"secret-path"), "sealed at rest");
}

#[tokio::test]
async fn that_the_maximum_is_reached_is_told_once_a_day() {
    let (_dir, store, app) = store().await;
    store.add_notification(notification(app, &[SCALING_MAXIMUM])).await.unwrap();
    scale(&store, app, 1).await;
    let web = || store.formation(app).unwrap().remove(0);
    let day = 24 * 60 * 60;
    for (second, quantity, maximum) in
        [(1, 2, None), (2, 3, Some("first")), (3, 2, None), (day, 3, Some("second")), (day + 2, 3, Some("third"))]
    {
        assert!(store.autoscale(web(), quantity, maximum.map(str::to_owned), at(second)).await.unwrap());
    }
    // Somebody has scaled it by hand since it was looked at.
    let seen = web();
    scale(&store, app, 5).await;
    assert!(!store.autoscale(seen, 3, Some("never".to_owned()), at(3 * day)).await.unwrap());
    assert_eq!(web().entry.quantity, 5);
    let told: Vec<_> =
        store.due_deliveries(at(2 * day), 10).unwrap().into_iter().map(|one| (one.subject, one.text)).collect();
    assert_eq!(told, [("web", "first"), ("web", "third")].map(|(subject, text)| (subject.to_owned(), text.to_owned())));
}

#[tokio::test]
async fn a_message_is_due_again_after_its_pause_until_it_has_arrived_or_is_given_up() {
    let (_dir, store, app) = store().await;
    let wants = notification(app, &KINDS);
    store.add_notification(wants.clone()).await.unwrap();
    scale(&store, app, 2).await;
    scale(&store, app, 3).await;
    let due = store.due_deliveries(at(1), 10).unwrap();
    let retry = Attempt::Retry { at: at(60), error: "it answered 500".to_owned() };
    store.record_delivery(wants.id, due[0].sequence, retry).await.unwrap();
    store.record_delivery(wants.id, due[1].sequence, Attempt::Delivered).await.unwrap();
    assert!(store.due_deliveries(at(59), 10).unwrap().is_empty());
    let again = store.due_deliveries(at(60), 10).unwrap();
    assert_eq!((again.len(), again[0].sequence, again[0].attempts), (1, due[0].sequence, 1));
    let counts = store.delivery_counts(wants.id).unwrap();
    assert_eq!((counts.delivered, counts.pending, counts.last_error.as_deref()), (1, 1, Some("it answered 500")));
    let given_up = Attempt::GivenUp { error: "gone".to_owned() };
    store.record_delivery(wants.id, due[0].sequence, given_up).await.unwrap();
    assert_eq!(store.delivery_counts(wants.id).unwrap().given_up, 1);
    assert!(store.due_deliveries(at(9999), 10).unwrap().is_empty());
}

#[tokio::test]
async fn a_token_of_an_app_carries_its_scope_and_goes_with_the_app() {
    let (_dir, store, app) = store().await;
    let account = store.first_account().unwrap().unwrap();
    let new = |scopes: &[Scope], app| NewToken {
        account: account.id,
        description: "ci".to_owned(),
        expires_at: None,
        scopes: scopes.to_vec(),
        app,
        session: false,
    };
    let both = [Scope::Deploy, Scope::Promote];
    let (_token, text) = store.create_token(new(&both, Some(app)), at(0)).await.unwrap();
    let found = store.authenticate(&text, at(1)).unwrap().unwrap();
    assert_eq!((found.scopes.as_slice(), found.app), (&both[..], Some(app)));
    let token = &store.tokens(account.id).unwrap()[0];
    assert_eq!((token.scopes.as_slice(), token.app), (&both[..], Some(app)));
    store.destroy_app(app, account.id, at(2)).await.unwrap();
    store.forget_app(app).await.unwrap();
    assert_eq!(store.authenticate(&text, at(3)).unwrap(), None);
    // One that has lost its app, or never had one, is good for nothing.
    let (_token, text) = store.create_token(new(&both, None), at(0)).await.unwrap();
    store.authenticate(&text, at(1)).unwrap_err();
}
