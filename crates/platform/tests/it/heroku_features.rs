//! The `heroku` client's features: session affinity, and what it does to requests.

use crate::http::{Connection, Response};
use crate::platform::TestPlatform;
use crate::wait::wait_until;

impl TestPlatform {
    fn visit_with(&self, cookie: Option<&str>) -> Response {
        let cookie = cookie.map(|cookie| ("Cookie", cookie));
        let headers: Vec<(&str, &str)> =
            [("Host", "shop.localhost"), ("Connection", "close")].into_iter().chain(cookie).collect();
        Connection::open(self.http_port).unwrap().request("GET", "/", &headers, &[]).unwrap()
    }
}

/// The cookie that an answer brings, as a client sends it back.
fn cookie(answer: &Response) -> Option<String> {
    let cookie = answer.header("set-cookie")?.split(';').next()?.to_owned();
    assert!(cookie.starts_with("heroku-session-affinity="), "{cookie}");
    Some(cookie)
}

/// `web.1`
fn dyno(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    text.split("dyno=").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn heroku_enables_session_affinity_and_visitors_stay_on_their_dyno() {
    let Some(platform) = TestPlatform::for_heroku() else { return };
    platform.python_web("shop");
    platform.scale_and_wait("shop", 3);
    platform.heroku("features -a shop").shows("[ ] http-session-affinity");
    platform.heroku("features:info http-session-affinity -a shop").shows("session-affinity");
    assert_eq!(cookie(&platform.visit_with(None)), None);
    platform.heroku("features:enable http-session-affinity -a shop").shows("done");
    platform.heroku_fails("features:enable http-session-affinity -a shop").shows("already enabled");
    platform.heroku("features -a shop").shows("[+] http-session-affinity");
    assert!(platform.must(&["routing", "-a", "shop"]).contains("session-affinity: on\n"));

    wait_until("cookies are given", || cookie(&platform.visit_with(None)).is_some());
    let first = platform.visit_with(None);
    let (mine, session) = (dyno(&first), cookie(&first).unwrap());
    for _visit in 0..20 {
        let answer = platform.visit_with(Some(&format!("a=b; {session}")));
        assert_eq!((dyno(&answer), cookie(&answer)), (mine.clone(), None));
    }
    // Others do not follow.
    wait_until("somebody is elsewhere", || dyno(&platform.visit_with(None)) != mine);

    // A dyno that is gone is replaced by another one, and so is the cookie.
    platform.ask("DELETE", &format!("/apps/shop/dynos/{mine}"), &serde_json::Value::Null);
    wait_until("the dyno is replaced", || cookie(&platform.visit_with(Some(&session))).is_some());
    let moved = platform.visit_with(Some(&session));
    let (next, session) = (dyno(&moved), cookie(&moved).unwrap());
    for _visit in 0..10 {
        let answer = platform.visit_with(Some(&session));
        assert_eq!((dyno(&answer), cookie(&answer)), (next.clone(), None));
    }

    platform.heroku("features:disable http-session-affinity -a shop").shows("done");
    wait_until("no cookies are given", || cookie(&platform.visit_with(None)).is_none());
    platform.heroku_fails("features:info no-such-feature -a shop");
}
