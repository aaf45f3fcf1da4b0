//! One life of an app, request by request, in both forms of Heroku's API.
//!
//! [`crate::conformance`] looks at every answer. Here it is that every request that is served is made, and that ids in
//! answers lead to what they name.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::conformance::{ALL_LINKS, Form, link_of};
use crate::heroku_domains::certificate;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_for;

struct Client<'a> {
    platform: &'a TestPlatform,
    form: Form,
    asked: RefCell<BTreeSet<String>>,
}

impl Client<'_> {
    /// A request that must succeed.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.platform.api_as(self.form, method, path, body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        let link = link_of(self.form, method, path).unwrap_or_else(|| panic!("Heroku has no {method} {path}"));
        self.asked.borrow_mut().insert(format!("{} {}", link.method, link.path));
        answer
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null)
    }

    /// Asks for a list that must not be empty, and for its first member by id, which must be the same.
    fn list(&self, path: &str) -> Value {
        // What changes meanwhile, like a delivery's attempts, is asked for again.
        wait_for(&format!("{path} and its first member agree"), || {
            let list = self.get(path);
            let first = list.get(0).unwrap_or_else(|| panic!("{path}: nothing in {list}")).clone();
            let one = format!("{path}/{}", text(&first, "id"));
            let agrees = link_of(self.form, "GET", &one).is_none() || self.get(&one) == first;
            agrees.then_some(first)
        })
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

#[test]
fn every_served_request_answers_as_herokus_in_both_forms() {
    // Nobody answers there; what is asked of certificates is asked of this server.
    let acme = "[acme]\nterms_agreed = true\ndirectory = \"https://localhost:9/directory\"\n";
    let Some(platform) = TestPlatform::with_limits(acme) else { return };
    for (form, shop, copy) in [(Form::Three, "shop", "copy"), (Form::Sdk, "shop-sdk", "copy-sdk")] {
        let client = Client { platform: &platform, form, asked: RefCell::default() };
        the_account_and_the_machine(&client);
        the_code(&client, shop);
        the_processes(&client, shop);
        the_addresses(&client, shop);
        the_listeners(&client, shop);
        the_add_ons(&client, shop);
        the_pipeline(&client, shop, copy);
        client.ask("DELETE", &format!("/apps/{copy}"), &Value::Null);

        let page = include_str!("../../../../docs/reference/api.md");
        let served =
            page.lines().filter(|line| line.ends_with("| served |")).map(|line| line.split('`').nth(1).unwrap());
        let links = ALL_LINKS.iter().filter(|link| link.is_of(form));
        let of_form: BTreeSet<String> = links.map(|link| format!("{} {}", link.method, link.path)).collect();
        let asked = client.asked.borrow();
        let left: Vec<&str> = served.filter(|served| of_form.contains(*served) && !asked.contains(*served)).collect();
        assert!(left.is_empty(), "never asked: {left:#?}");
    }
}

fn the_account_and_the_machine(client: &Client<'_>) {
    let account = client.get("/account");
    for same in ["/users/~".to_owned(), format!("/users/{}", text(&account, "email"))] {
        assert_eq!(client.get(&same), account);
    }
    client.get("/account/rate-limits");
    client.get("/account/delinquency");
    client.get("/account/features/dashboard-repositories-api");
    // A key for nobody: made for this test alone.
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3QgdGVzdCB0ZXN0IHRlc3QgdGVzdCB0ZXN0IDEy nobody@nowhere";
    client.platform.ask("POST", "/account/keys", &json!({"public_key": key}));
    let shown = client.list("/account/keys");
    client.platform.ask("DELETE", &format!("/account/keys/{}", text(&shown, "id")), &Value::Null);
    client.list("/stacks");
    client.list("/regions");
    client.list("/generations");
    client.list("/dyno-sizes");
    let made = client.ask("POST", "/oauth/authorizations", &json!({"description": "one", "expires_in": 3600}));
    let path = format!("/oauth/authorizations/{}", text(&made, "id"));
    client.list("/oauth/authorizations");
    client.get(&path);
    assert_eq!(client.ask("PATCH", &path, &json!({"description": "two"}))["description"], "two");
    let again = client.ask("POST", &format!("{path}/actions/regenerate-tokens"), &Value::Null);
    assert_ne!(again["access_token"]["token"], made["access_token"]["token"]);
    client.ask("DELETE", &path, &Value::Null);
    the_clients(client);
}

fn the_clients(client: &Client<'_>) {
    let body = json!({"name": "board", "redirect_uri": "https://board.example.com/callback"});
    let made = client.ask("POST", "/oauth/clients", &body);
    client.list("/oauth/clients");
    let path = format!("/oauth/clients/{}", text(&made, "id"));
    assert_eq!(client.ask("PATCH", &path, &json!({"name": "dashboard"}))["name"], "dashboard");
    let secret = text(&client.ask("POST", &format!("{path}/actions/rotate-credentials"), &Value::Null), "secret");
    let granted = client.ask("POST", "/oauth/authorizations", &json!({"client": made["id"], "scope": ["identity"]}));
    let grant = json!({"code": granted["grant"]["code"], "type": "authorization_code"});
    let tokens = client.ask("POST", "/oauth/tokens", &json!({"client": {"secret": secret}, "grant": grant}));
    assert_eq!(tokens["authorization"]["id"], granted["id"]);
    client.get(&format!("/oauth/authorizations/{}", text(&granted, "id")));
    client.ask("DELETE", &path, &Value::Null);
}

fn the_code(client: &Client<'_>, app: &str) {
    let made = client.ask("POST", "/apps", &json!({"name": app}));
    client.list("/apps");
    client.get("/users/~/apps");
    let filtered = client.ask("POST", "/filters/apps", &json!({"in": {"id": [made["id"]]}}));
    assert_eq!(filtered[0]["name"], app);
    let of = |rest: &str| format!("/apps/{app}{rest}");
    assert_eq!(client.get(&of(""))["id"], made["id"]);
    client.ask("PATCH", &of(""), &json!({"maintenance": false}));
    client.list(&of("/available-stacks"));
    client.list(&of("/available-dyno-sizes"));
    let packs = json!({"updates": [{"buildpack": "heroku/python"}]});
    client.ask("PUT", &of("/buildpack-installations"), &packs);
    client.get(&of("/buildpack-installations"));
    let packs = json!({"updates": []});
    client.ask("PUT", &of("/buildpack-installations"), &packs);
    client.list(&of("/collaborators"));

    client.ask("POST", "/sources", &Value::Null);
    client.ask("POST", &of("/sources"), &Value::Null);
    let url = client.platform.upload(&Source::app("python-web").tar());
    let build = client.ask("POST", &of("/builds"), &json!({"source_blob": {"url": url, "version": "1234567"}}));
    let path = of(&format!("/builds/{}", text(&build, "id")));
    let built = wait_for("the build has made a release", || {
        let build = client.get(&path);
        assert_ne!(build["status"], "failed", "{build}");
        (!build["release"].is_null()).then_some(build)
    });
    client.list(&of("/builds"));
    client.ask("DELETE", &of("/build-cache"), &Value::Null);
    let release = of(&format!("/releases/{}", text(&built["release"], "id")));
    wait_for("the release serves", || (client.get(&release)["current"] == true).then_some(()));
    client.get(&of(&format!("/slugs/{}", text(&built["slug"], "id"))));
    client.ask("POST", &of("/slugs"), &json!({"process_types": {"web": "true"}}));
    client.list(&of("/releases"));
    if client.form == Form::Sdk {
        assert_eq!(client.get(&of("/usage")), json!({"addons": []}));
    }
    client.ask("PATCH", &of("/config-vars"), &json!({"COLOUR": "green"}));
    assert_eq!(client.get(&of("/config-vars"))["COLOUR"], "green");
    client.get(&of("/releases/2/config-vars"));
    let back = client.ask("POST", &of("/releases"), &json!({"release": built["release"]["id"]}));
    client.platform.settled(app, back["version"].as_u64().unwrap());

    let url = client.platform.upload(&Source::app("python-web").version("2").tar());
    let build = client.ask("POST", &of("/builds"), &json!({"source_blob": {"url": url}}));
    client.ask("DELETE", &of(&format!("/builds/{}", text(&build, "id"))), &Value::Null);
}

fn the_processes(client: &Client<'_>, app: &str) {
    let of = |rest: &str| format!("/apps/{app}{rest}");
    client.list(&of("/formation"));
    client.get(&of("/formation/web"));
    client.ask("PATCH", &of("/formation/web"), &json!({"quantity": "1"}));
    client.ask("PATCH", &of("/formation"), &json!({"updates": [{"type": "web", "quantity": 1}]}));
    client.ask("POST", &of("/log-sessions"), &json!({"lines": 10}));
    let web = wait_for("web.1 is there", || client.get(&of("/dynos")).get(0).cloned());
    client.get(&of(&format!("/dynos/{}", text(&web, "name"))));
    let one_off = json!({"command": "sleep 1000", "attach": false});
    let run = client.ask("POST", &of("/dynos"), &one_off);
    client.ask("POST", &of(&format!("/dynos/{}/actions/stop", text(&run, "name"))), &Value::Null);
    client.ask("DELETE", &of("/dynos/web.1"), &Value::Null);
    client.ask("DELETE", &of("/formations/web"), &Value::Null);
    client.ask("POST", &of("/formations/web/actions/stop"), &Value::Null);
    client.ask("DELETE", &of("/dynos"), &Value::Null);
}

fn the_addresses(client: &Client<'_>, app: &str) {
    let of = |rest: &str| format!("/apps/{app}{rest}");
    let host = format!("www.{app}.example");
    client.ask("POST", &of("/acm"), &Value::Null);
    client.ask("PATCH", &of("/acm"), &Value::Null);
    client.ask("DELETE", &of("/acm"), &Value::Null);
    let domain = client.ask("POST", &of("/domains"), &json!({"hostname": host, "sni_endpoint": null}));
    client.get(&of("/domains"));
    let feature = client.list(&of("/features"));
    let path = of(&format!("/features/{}", text(&feature, "name")));
    client.ask("PATCH", &path, &json!({"enabled": true}));
    let path = of(&format!("/domains/{}", text(&domain, "id")));
    assert_eq!(client.get(&path)["hostname"], host.as_str());
    let (chain, key) = certificate(client.platform.scratch(), app, &[&host]);
    let body = json!({
        "certificate_chain": std::fs::read_to_string(chain).unwrap(),
        "private_key": std::fs::read_to_string(key).unwrap(),
    });
    let endpoint = client.ask("POST", &of("/sni-endpoints"), &body);
    client.list(&of("/sni-endpoints"));
    let sni = of(&format!("/sni-endpoints/{}", text(&endpoint, "id")));
    client.get(&sni);
    client.ask("PATCH", &sni, &body);
    assert_eq!(
        client.ask("PATCH", &path, &json!({"sni_endpoint": endpoint["id"]}))["sni_endpoint"]["id"],
        endpoint["id"]
    );
    client.ask("PATCH", &path, &json!({"sni_endpoint": null}));
    client.ask("DELETE", &sni, &Value::Null);
    client.ask("DELETE", &path, &Value::Null);
}

/// Who hears of the app: people, drains, webhooks.
fn the_listeners(client: &Client<'_>, app: &str) {
    let of = |rest: &str| format!("/apps/{app}{rest}");
    let ada = format!("ada@{app}.example");
    client.platform.ask("POST", "/berth/people", &json!({"email": ada}));
    let one = client.ask("POST", &of("/collaborators"), &json!({"user": ada, "permissions": ["view"]}));
    client.ask("DELETE", &of(&format!("/collaborators/{}", text(&one, "id"))), &Value::Null);
    let owner = client.get(&of(""))["owner"].clone();
    let given = client.ask("POST", "/account/app-transfers", &json!({"app": app, "recipient": ada}));
    assert_eq!((&given["owner"], &given["recipient"]), (&owner, &client.get(&of(""))["owner"]));
    client.ask("POST", "/account/app-transfers", &json!({"app": given["app"]["id"], "recipient": owner["id"]}));
    an_offer(client, app, &owner);
    client.ask("POST", &of("/log-drains"), &json!({"url": "https://logs.example.com/"}));
    let drain = client.list(&of("/log-drains"));
    client.ask("DELETE", &of(&format!("/log-drains/{}", text(&drain, "id"))), &Value::Null);

    let body = json!({"url": "https://hooks.example.com/", "include": ["api:release"], "level": "notify"});
    client.ask("POST", &of("/webhooks"), &body);
    let webhook = client.list(&of("/webhooks"));
    client.ask("PATCH", &of("/config-vars"), &json!({"COLOUR": "blue"}));
    for made in ["/webhook-events", "/webhook-deliveries"] {
        wait_for("the release is told", || client.get(&of(made)).get(0).cloned());
        client.list(&of(made));
    }
    let path = of(&format!("/webhooks/{}", text(&webhook, "id")));
    client.ask("PATCH", &path, &json!({"level": "sync"}));
    client.ask("DELETE", &path, &Value::Null);
}

/// What somebody who is no administrator gives away waits for an answer.
fn an_offer(client: &Client<'_>, app: &str, to: &Value) {
    let bob = client.platform.join(&format!("bob@{app}.example"));
    let gift = format!("{app}-gift");
    assert_eq!(client.platform.ask_as(&bob, "POST", "/apps", &json!({"name": gift})).0, 201);
    let offer = || {
        let body = json!({"app": gift, "recipient": to["email"]});
        let (status, offer) = client.platform.ask_as(&bob, "POST", "/account/app-transfers", &body);
        assert_eq!((status, &offer["state"]), (201, &json!("pending")), "{offer}");
        client.list("/account/app-transfers");
        let path = format!("/account/app-transfers/{}", text(&offer, "id"));
        assert_eq!(client.get(&path), offer);
        path
    };
    assert_eq!(client.ask("PATCH", &offer(), &json!({"state": "declined"}))["state"], "declined");
    client.ask("DELETE", &offer(), &Value::Null);
    client.platform.ask("DELETE", &format!("/apps/{gift}"), &Value::Null);
}

fn the_add_ons(client: &Client<'_>, app: &str) {
    let of = |rest: &str| format!("/apps/{app}{rest}");
    let service = client.list("/addon-services");
    let path = format!("/addon-services/{}", text(&service, "name"));
    let plan = client.list(&format!("{path}/plans"));
    assert_eq!(client.get(&format!("/plans/{}", text(&plan, "id"))), plan);
    client.list(&format!("{path}/region-capabilities"));
    client.list("/addon-region-capabilities");
    client.list("/regions/local/addon-region-capabilities");

    let body = json!({"plan": plan["name"], "config": {"url": "postgres://h/d"}});
    let made = client.ask("POST", &of("/addons"), &body);
    assert_eq!(client.list(&of("/addons")), made);
    assert_eq!(client.list("/addons"), made);
    assert_eq!(client.list("/users/~/addons"), made);
    let path = format!("/addons/{}", text(&made, "name"));
    assert_eq!(client.ask("POST", "/actions/addons/resolve", &json!({"addon": "DATABASE", "app": app}))[0], made);
    assert_eq!(client.get(&format!("{path}/config"))[0]["value"], "postgres://h/d");
    let body = json!({"config": [{"name": "URL", "value": "postgres://h/e"}]});
    assert_eq!(client.ask("PATCH", &format!("{path}/config"), &body)[0]["value"], "postgres://h/e");
    for empty in ["log-drains", "webhooks", "webhook-deliveries", "webhook-events"] {
        assert_eq!(client.get(&format!("{path}/{empty}")), json!([]), "{empty}");
    }
    let body = json!({"addon": made["id"], "app": app, "name": "SECOND"});
    let second = client.ask("POST", "/addon-attachments", &body);
    client.list("/addon-attachments");
    client.list(&of("/addon-attachments"));
    client.list(&format!("{path}/addon-attachments"));
    let wanted = json!({"addon_attachment": "SECOND_URL", "app": app});
    assert_eq!(client.ask("POST", "/actions/addon-attachments/resolve", &wanted)[0], second);
    client.ask("DELETE", &format!("/addon-attachments/{}", text(&second, "id")), &Value::Null);
    let path = of(&format!("/addons/{}", text(&made, "id")));
    client.ask("PATCH", &path, &json!({"name": format!("{app}-db")}));
    client.ask("DELETE", &path, &json!({}));
}

fn the_pipeline(client: &Client<'_>, app: &str, copy: &str) {
    client.platform.create(copy);
    let name = format!("line-of-{app}");
    let pipeline = client.ask("POST", "/pipelines", &json!({"name": name}));
    let path = format!("/pipelines/{}", text(&pipeline, "id"));
    let renamed = client.ask("PATCH", &path, &json!({"name": format!("{name}-2")}));
    assert_eq!(client.get(&path), renamed);
    client.list("/pipelines");
    let couple = |app: &str, stage: &str| {
        let body = json!({"app": app, "pipeline": pipeline["id"], "stage": stage});
        client.ask("POST", "/pipeline-couplings", &body)
    };
    let (from, to) = (couple(app, "development"), couple(copy, "production"));
    let coupling = format!("/pipeline-couplings/{}", text(&from, "id"));
    client.ask("PATCH", &coupling, &json!({"stage": "staging"}));
    client.get(&coupling);
    client.list("/pipeline-couplings");
    client.get("/users/~/pipeline-couplings");
    client.get(&format!("{path}/pipeline-couplings"));
    assert_eq!(client.get(&format!("/apps/{app}/pipeline-couplings"))["id"], from["id"]);
    client.get(&format!("{path}/pipeline-stack"));
    let body = json!({
        "pipeline": {"id": pipeline["id"]},
        "source": {"app": {"id": from["app"]["id"]}},
        "targets": [{"app": {"id": to["app"]["id"]}}],
    });
    let promotion = client.ask("POST", "/pipeline-promotions", &body);
    let promoted = format!("/pipeline-promotions/{}", text(&promotion, "id"));
    wait_for("the promotion ends", || {
        let targets = client.get(&format!("{promoted}/promotion-targets"));
        assert_ne!(targets[0]["status"], "failed", "{targets}");
        (targets[0]["status"] == "succeeded").then_some(())
    });
    client.get(&promoted);
    for of_all in ["latest-builds", "latest-deployments", "latest-releases"] {
        assert_ne!(client.get(&format!("{path}/{of_all}")), json!([]), "{of_all}");
    }
    client.ask("DELETE", &format!("/pipeline-couplings/{}", text(&to, "id")), &Value::Null);
    let email = format!("heir-of-{app}@example.com");
    client.platform.join(&email);
    let heir = client.get(&format!("/users/{email}"));
    let body = json!({"pipeline": {"id": pipeline["id"]}, "new_owner": {"id": heir["id"], "type": "user"}});
    assert_eq!(client.ask("POST", "/pipeline-transfers", &body)["new_owner"], body["new_owner"]);
    client.ask("DELETE", &path, &Value::Null);
}
