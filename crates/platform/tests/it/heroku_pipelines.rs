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
