//! The `heroku` client and pipelines: staging and production as one thing.

use serde_json::json;

use crate::platform::TestPlatform;
use crate::source::Source;

#[test]
fn heroku_promotes_from_staging_to_production() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.create("shop-staging");
    platform.create("shop");
    platform.heroku("pipelines:create shop -a shop-staging -s staging").shows("done");
    platform.heroku_fails("pipelines:create shop -a shop -s production").shows("already taken");
    platform.heroku("pipelines:add shop -a shop -s production").shows("done");
    platform.heroku_fails("pipelines:add shop -a shop -s staging").shows("already in a pipeline");
    platform.heroku("pipelines").shows("shop");
    platform.heroku("pipelines:info shop").shows("shop-staging").shows("production").shows("admin@localhost");
    platform.heroku("apps:info -a shop").shows("Pipeline:       shop - production");
    platform.heroku_fails("pipelines:promote -a shop-staging").shows("serves no code");

    let source = Source::app("python-web").process("release: echo migrating $GREETING");
    platform.serve("shop-staging", &source);
    platform.configure("shop", &json!({"GREETING": "production"}));
    let promoted = platform.heroku("pipelines:promote -a shop-staging");
    promoted.shows("Promotion successful").shows("shop: succeeded");
    platform.shows("shop", "version=1 ");
    platform.heroku("releases -a shop").shows("Promote shop-staging v2");
    assert!(platform.text("shop", "/env?name=GREETING").starts_with("10 "), "its own config");
    platform.logged("shop", "migrating production");

    // A release phase that fails in production only leaves production as it was.
    let source = source.version("2").file("Procfile", "web: python3 server.py\nrelease: test -z \"$GREETING\"\n");
    platform.serve("shop-staging", &source);
    let failed = platform.heroku_run(&["pipelines:promote", "-a", "shop-staging"]);
    failed.shows("shop: failed").shows("did not serve");
    platform.shows("shop", "version=1 ");
    platform.shows("shop-staging", "version=2 ");

    platform.heroku("pipelines:update -a shop -s staging").shows("done");
    platform.heroku_fails("pipelines:update -a shop -s nowhere");
    platform.heroku("pipelines:rename shop store").shows("done");
    platform.heroku_fails("pipelines:info shop");
    platform.heroku("pipelines:remove -a shop").shows("done");
    let (status, answer) = platform.api("GET", "/apps/shop/pipeline-couplings", &json!(null)).unwrap();
    assert_eq!((status, &answer["id"]), (404, &json!("not_found")));
    let promotion = json!({
        "pipeline": {"id": platform.get("/pipelines")[0]["id"]},
        "source": {"app": {"id": "shop-staging"}},
        "targets": [{"app": {"id": "shop"}}],
    });
    let (status, answer) = platform.api("POST", "/pipeline-promotions", &promotion).unwrap();
    assert_eq!((status, answer["message"].as_str()), (422, Some("shop is not in the pipeline store.")));
    platform.heroku("pipelines:destroy store").shows("done");
    assert_eq!(platform.get("/pipelines"), json!([]));
    platform.shows("shop-staging", "version=2 ");
}

#[test]
fn heroku_and_berth_transfer_a_pipeline_with_its_apps() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    let ada = platform.join("ada@example.com");
    platform.create("shop-staging");
    platform.create("shop");
    platform.create("other");
    platform.heroku("pipelines:create shop -a shop-staging -s staging").shows("done");
    platform.heroku("pipelines:add shop -a shop -s production").shows("done");
    let (status, others) = platform.ask_as(&ada, "POST", "/apps", &json!({"name": "adas"}));
    assert_eq!(status, 201, "{others}");
    let pipeline = platform.get("/pipelines/shop");
    let coupling = json!({"app": "adas", "pipeline": pipeline["id"], "stage": "staging"});
    assert_eq!(platform.ask_as(&ada, "POST", "/pipeline-couplings", &coupling).0, 201);

    // Nobody gives away what is not theirs, and there is nobody but people.
    let refused = platform.berth_as(&ada, &["pipelines:transfer", "ada@example.com", "-p", "shop", "-c", "shop"]);
    assert_eq!(refused.code, Some(1));
    refused.says("shop belongs to somebody else");
    let team = platform.heroku_fails("pipelines:transfer myteam -p shop -c shop");
    team.says("Cannot find a team or account for \"myteam\"");
    let refused = platform.berth(&["pipelines:transfer", "myteam", "-p", "shop", "-c", "shop"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("there are no teams on this server"), "{refused:?}");
    let to_team = json!({"pipeline": {"id": pipeline["id"]}, "new_owner": {"id": pipeline["id"], "type": "team"}});
    let (status, answer) = platform.api("POST", "/pipeline-transfers", &to_team).unwrap();
    assert!(status == 422 && answer["message"].as_str().unwrap().contains("no teams"), "{answer}");
    let refused = platform.berth(&["pipelines:transfer", "bob@example.com", "-p", "shop", "-c", "shop"]);
    assert!(refused.stderr.contains("there is no user bob@example.com"), "{refused:?}");
    let unconfirmed = platform.berth(&["pipelines:transfer", "ada@example.com", "-p", "shop", "-c", "shops"]);
    assert!(unconfirmed.stderr.contains("nothing was transferred"), "{unconfirmed:?}");

    platform.heroku("pipelines:transfer ada@example.com -p shop -c shop").shows("done");
    let owner = |app: &str| platform.get(&format!("/apps/{app}"))["owner"]["email"].clone();
    assert_eq!(
        [owner("shop"), owner("shop-staging"), owner("other")],
        ["ada@example.com", "ada@example.com", "admin@localhost"]
    );
    platform.heroku("pipelines:info shop").shows("owner: ada@example.com");
    platform.heroku("access -a shop").shows("admin@localhost").shows("deploy");
    platform.logged("shop", "Transfer to ada@example.com by user admin@localhost");
    platform.heroku_fails("pipelines:transfer ada@example.com -p shop -c shop").says("The pipeline is theirs already");

    // What belonged to somebody else is as it was.
    assert_eq!(platform.get("/apps/adas/collaborators").as_array().map(Vec::len), Some(1));

    // And back by our own client, as its new owner.
    let done = platform.berth_as(&ada, &["pipelines:transfer", "admin@localhost", "-p", "shop", "--confirm", "shop"]);
    assert_eq!(done.code, Some(0), "{}", done.both());
    done.shows("shop belongs to admin@localhost now.");
    // She is no administrator: the apps wait, each by itself.
    done.says("tell admin@localhost to accept each of the 3 apps with `berth apps:transfers:accept`");
    assert_eq!([owner("shop"), owner("shop-staging"), owner("adas")], ["ada@example.com"; 3]);
    platform.heroku("apps").says("3 apps are offered to you: `berth apps:transfers` lists them.");
    for app in ["shop", "shop-staging", "adas"] {
        platform.must(&["apps:transfers:accept", app]);
    }
    assert_eq!([owner("shop"), owner("shop-staging"), owner("adas")], ["admin@localhost"; 3]);
    let (status, shop) = platform.ask_as(&ada, "GET", "/apps/shop", &json!(null));
    assert_eq!(status, 200, "{shop}: who owned it is a collaborator");
}
