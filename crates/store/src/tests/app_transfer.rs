use domain::access::{Permission, Permissions};
use domain::app_transfer::{Answer, TransferState};
use domain::pipeline::Stage;

use super::*;
use crate::app_transfer::{AppTransfer, Giving};

/// The fixture's app belongs to bob, who offers it to ada.
struct Offered {
    fixture: Fixture,
    ada: AccountId,
    bob: AccountId,
    offer: AppTransfer,
}

async fn offered() -> Offered {
    let fixture = fixture().await;
    let Fixture { store, app, .. } = &fixture;
    let ada = store.invite_account("ada@example.com".to_owned(), false, now()).await.unwrap().id;
    let bob = store.invite_account("bob@example.com".to_owned(), false, now()).await.unwrap().id;
    store.give_app(app.id, bob, now()).await.unwrap();
    let offer = store.offer_app(app.id, bob, ada, now()).await.unwrap();
    Offered { fixture, ada, bob, offer }
}

impl Offered {
    fn owner(&self) -> AccountId {
        self.fixture.store.app(self.fixture.app.id).unwrap().unwrap().owner
    }

    fn found(&self) -> Option<AppTransfer> {
        self.fixture.store.find_app_transfer("shop").unwrap()
    }
}

#[tokio::test]
async fn an_app_changes_hands_once_its_recipient_accepts() {
    let offered = offered().await;
    let (store, app) = (&offered.fixture.store, &offered.fixture.app);
    assert_eq!((offered.owner(), offered.offer.state), (offered.bob, TransferState::Pending));
    for part in [offered.ada, offered.bob] {
        assert_eq!(store.app_transfers_of(part).unwrap(), std::slice::from_ref(&offered.offer));
    }
    assert_eq!(store.app_transfers_of(offered.fixture.account.id).unwrap(), [], "it is no longer theirs to hear of");
    let by_id = |id: String| store.find_app_transfer(&id).unwrap();
    assert_eq!([by_id(offered.offer.id.to_string()), by_id(app.id.to_string())], [offered.found(), offered.found()]);

    let accepted = store.answer_app_transfer(&offered.offer, Answer::Accept, now()).await.unwrap();
    assert_eq!((accepted.state, offered.owner()), (TransferState::Accepted, offered.ada));
    assert_eq!(offered.found(), Some(accepted));
    let app = store.app(app.id).unwrap().unwrap();
    assert_eq!(store.permissions(offered.bob, &app).unwrap(), Permissions::COLLABORATOR);
    assert!(store.permissions(offered.ada, &app).unwrap().contains(Permission::Manage));
    // What was said is said.
    let again = store.answer_app_transfer(&offered.offer, Answer::Decline, now()).await.unwrap_err();
    assert_eq!(again.to_string(), "The transfer is accepted already");
    store.withdraw_app_transfer(&offered.offer).await.unwrap_err();
    // The next one takes its place.
    let back = store.offer_app(app.id, offered.ada, offered.bob, now()).await.unwrap();
    assert_eq!(offered.found(), Some(back));
}

#[tokio::test]
async fn an_app_that_is_declined_stays_and_can_be_offered_again() {
    let offered = offered().await;
    let store = &offered.fixture.store;
    let declined = store.answer_app_transfer(&offered.offer, Answer::Decline, now()).await.unwrap();
    assert_eq!((declined.state, offered.owner()), (TransferState::Declined, offered.bob));
    store.answer_app_transfer(&offered.offer, Answer::Accept, now()).await.unwrap_err();
    assert_eq!(offered.owner(), offered.bob);
    store.offer_app(offered.fixture.app.id, offered.bob, offered.ada, now()).await.unwrap();
}

#[tokio::test]
async fn an_app_is_offered_once_by_its_owner_to_somebody_who_is_there() {
    let offered = offered().await;
    let (store, app) = (&offered.fixture.store, offered.fixture.app.id);
    let offer = |sender, recipient| async move {
        store.offer_app(app, sender, recipient, now()).await.unwrap_err().to_string()
    };
    assert!(offer(offered.bob, offered.ada).await.contains("shop is offered to ada@example.com already"));
    assert_eq!(offer(offered.bob, offered.bob).await, "The app is theirs already");
    assert_eq!(offer(offered.ada, offered.fixture.account.id).await, "The app belongs to somebody else by now");
    let eve = store.invite_account("eve@example.com".to_owned(), false, now()).await.unwrap().id;
    store.remove_account(eve, now()).await.unwrap();
    assert_eq!(offer(offered.bob, eve).await, "user not found");
    let gift = store.give_app(app, offered.bob, now()).await.unwrap_err();
    assert_eq!(gift.to_string(), "The app is theirs already");
    assert_eq!(offered.found(), Some(offered.offer.clone()));

    store.withdraw_app_transfer(&offered.offer).await.unwrap();
    assert_eq!(offered.found(), None);
    let late = store.answer_app_transfer(&offered.offer, Answer::Accept, now()).await.unwrap_err();
    assert_eq!((late.to_string(), offered.owner()), ("app transfer not found".to_owned(), offered.bob));
}

#[tokio::test]
async fn the_apps_of_a_pipeline_are_offered_with_it_or_none_is() {
    let offered = offered().await;
    let Fixture { store, app, account, .. } = &offered.fixture;
    let pipeline = store.create_pipeline("line".to_owned(), offered.bob, now()).await.unwrap();
    store.couple(pipeline.id, app.id, Stage::Staging, now()).await.unwrap();
    let transfer = || store.transfer_pipeline(pipeline.id, account.id, Giving::Offered, now());
    let refused = transfer().await.unwrap_err().to_string();
    assert!(refused.starts_with("shop is offered to ada@example.com already"), "{refused}");
    let owner = || store.find_pipeline("line").unwrap().unwrap().owner;
    assert_eq!((owner(), offered.found()), (offered.bob, Some(offered.offer.clone())));
    store.withdraw_app_transfer(&offered.offer).await.unwrap();
    transfer().await.unwrap();
    let found = offered.found().unwrap();
    assert_eq!((owner(), offered.owner()), (account.id, offered.bob), "the app waits, the pipeline does not");
    assert_eq!((found.recipient, found.state), (account.id, TransferState::Pending));
}

#[tokio::test]
async fn an_offer_ends_with_the_app_with_either_person_and_with_the_ownership() {
    for ending in ["app", "sender", "recipient", "gift", "pipeline"] {
        let offered = offered().await;
        let Fixture { store, app, account, .. } = &offered.fixture;
        match ending {
            "app" => store.destroy_app(app.id, offered.bob, now()).await.unwrap(),
            "sender" => store.remove_account(offered.bob, now()).await.unwrap(),
            "recipient" => store.remove_account(offered.ada, now()).await.unwrap(),
            "gift" => {
                store.give_app(app.id, account.id, now()).await.unwrap();
            }
            _pipeline => {
                let pipeline = store.create_pipeline("line".to_owned(), offered.bob, now()).await.unwrap();
                store.couple(pipeline.id, app.id, Stage::Staging, now()).await.unwrap();
                store.transfer_pipeline(pipeline.id, account.id, Giving::AtOnce, now()).await.unwrap();
            }
        }
        let owner = offered.owner();
        store.answer_app_transfer(&offered.offer, Answer::Accept, now()).await.expect_err(ending);
        assert_eq!((offered.owner(), store.app_transfers_of(offered.ada).unwrap()), (owner, vec![]), "{ending}");
    }
}
