//! Other clients of Heroku's API than its command line: a library as it is published, and the calls of a provisioner.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::path_of;
use crate::conformance::{Form, complaints, link_of};
use crate::heroku_cli::ran;
use crate::platform::{TestPlatform, skipped};
use crate::source::Source;
use crate::wait::wait_for;

/// What `pip` installs, with every version.
const REQUIREMENTS: &str = include_str!("../clients/requirements.txt");

/// A Python that has the libraries, installed by whoever comes first; later runs need no network.
fn python_with_libraries() -> PathBuf {
    let version = REQUIREMENTS.lines().find_map(|line| line.strip_prefix("heroku3==")).unwrap();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("heroku3-{version}"));
    let (python, complete) = (dir.join("bin/python"), dir.join("complete"));
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let lock = File::create(dir.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if fs::read_to_string(&complete).is_ok_and(|installed| installed == REQUIREMENTS) {
        return python;
    }
    fs::remove_dir_all(&dir).ok();
    let made = ran(Command::new("python3").args(["-m", "venv"]).arg(&dir));
    assert_eq!(made.code, Some(0), "{}", made.both());
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    let installed = ran(install.arg("tests/clients/requirements.txt").stdin(Stdio::null()));
    assert_eq!(installed.code, Some(0), "cannot install the libraries:\n{}", installed.both());
    fs::write(complete, REQUIREMENTS).unwrap();
    python
}

#[test]
fn heroku3_makes_every_call_of_an_apps_life() {
    let has_python = Command::new("python3").arg("--version").output().is_ok_and(|ran| ran.status.success());
    if skipped((!has_python).then_some("needs python3")) {
        return;
    }
    let python = python_with_libraries();
    let Some(platform) = TestPlatform::start() else { return };
    platform.join("grace@example.com");
    let source = platform.scratch().join("source.tar");
    fs::write(&source, Source::app("python-web").tar()).unwrap();
    let mut script = Command::new(python);
    script
        .args(["-W", "ignore", "tests/clients/heroku3_calls.py"])
        .env_clear()
        .env("API_URL", format!("https://localhost:{}", platform.api_port))
        .env("API_TOKEN", &platform.token)
        .env("API_CA", platform.data().join("ca/ca.pem"))
        .env("SOURCE", source)
        .stdin(Stdio::null());
    let called = ran(&mut script);
    assert_eq!(called.code, Some(0), "{}", called.both());
    let did = called.out.lines().filter(|line| line.starts_with("did ")).count();
    assert!(did >= 20, "{did} of twenty:\n{}", called.both());
    assert!(!called.out.contains("Warning"), "{}", called.both());
}

/// Speaks as Terraform's provider does: Basic authentication with an e-mail address and the token, typed answers.
struct Provider<'a> {
    platform: &'a TestPlatform,
    basic: String,
    asked: RefCell<usize>,
}

impl<'a> Provider<'a> {
    fn new(platform: &'a TestPlatform) -> Self {
        let basic = format!("Basic {}", STANDARD.encode(format!("admin@localhost:{}", platform.token)));
        Self { platform, basic, asked: RefCell::default() }
    }

    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let headers = [
            ("Authorization", self.basic.as_str()),
            ("Accept", Form::Three.accept()),
            ("User-Agent", "terraform-provider-heroku heroku-go/v6"),
        ];
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let answer = self.platform.api_raw(method, path, &headers, &bytes).unwrap();
        *self.asked.borrow_mut() += 1;
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// A request that must succeed; its answer must have every field, of its type, or a typed client cannot read it.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.answer(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        let link = link_of(Form::Three, method, path).unwrap_or_else(|| panic!("Heroku has no {method} {path}"));
        assert_eq!(complaints(Form::Three, link, &answer), Vec::<String>::new(), "{method} {path}");
        answer
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null)
    }

    /// Ends something, and looks whether it is gone: that is how the provider knows.
    fn delete(&self, path: &str) {
        self.ask("DELETE", path, &Value::Null);
        self.is_gone(path);
    }

    fn is_gone(&self, path: &str) {
        let (status, answer) = self.answer("GET", path, &Value::Null);
        assert_eq!((status, &answer["id"]), (404, &json!("not_found")), "{path}");
    }
}

fn id(resource: &Value) -> &str {
    resource["id"].as_str().unwrap()
}

#[test]
fn a_provisioner_creates_reads_updates_and_deletes_everything_that_it_manages() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.join("grace@example.com");
    let provider = Provider::new(&platform);
    let account = provider.get("/account");

    // heroku_app, with config vars, buildpacks and a feature.
    let region = provider.get("/regions")[0]["name"].clone();
    let made = provider.ask("POST", "/apps", &json!({"name": "terra", "region": region, "stack": "heroku-24"}));
    let app = format!("/apps/{}", id(&made));
    let config = format!("{app}/config-vars");
    provider.ask("PATCH", &config, &json!({"KEPT": "1", "SECRET": "s3cret", "GONE": "soon"}));
    provider.ask("PATCH", &config, &json!({"GONE": null, "KEPT": "2"}));
    assert_eq!(provider.get(&config), json!({"KEPT": "2", "SECRET": "s3cret"}));
    let packs = format!("{app}/buildpack-installations");
    provider.ask("PUT", &packs, &json!({"updates": [{"buildpack": "heroku/python"}]}));
    assert_eq!(provider.get(&packs)[0]["buildpack"]["name"], "heroku/python");
    provider.ask("PUT", &packs, &json!({"updates": []}));
    let feature = format!("{app}/features/http-session-affinity");
    provider.ask("PATCH", &feature, &json!({"enabled": true}));
    assert_eq!(provider.get(&feature)["enabled"], true);
    provider.ask("PATCH", &feature, &json!({"enabled": false}));
    provider.ask("PATCH", &app, &json!({"maintenance": true}));
    assert_eq!(provider.ask("PATCH", &app, &json!({"maintenance": false}))["maintenance"], false);
    assert_eq!(provider.ask("PATCH", &app, &json!({"name": "terrace"}))["name"], "terrace");
    assert_eq!(provider.get(&app)["name"], "terrace");
    assert_eq!(provider.get("/apps").as_array().unwrap().len(), 1);

    // heroku_build: a source with a checksum, followed to its release.
    let archive = Source::app("python-web").tar();
    let source = provider.ask("POST", "/sources", &Value::Null);
    let url = |kind: &str| source["source_blob"][kind].as_str().unwrap().to_owned();
    let put = platform.api_raw("PUT", path_of(&url("put_url")), &[("Content-Type", "")], &archive).unwrap();
    assert_eq!(put.status, 200);
    let checksum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &archive);
    let hex: String = checksum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = |checksum: &str| json!({"source_blob": {"checksum": checksum, "url": url("get_url"), "version": "1"}});
    let builds = format!("{app}/builds");
    let (status, refused) = provider.answer("POST", &builds, &blob(&format!("SHA256:{}", "0".repeat(64))));
    assert_eq!((status, &refused["id"]), (422, &json!("invalid_params")), "{refused}");
    let build = provider.ask("POST", &builds, &blob(&format!("SHA256:{hex}")));
    let path = format!("{builds}/{}", id(&build));
    let output = platform.stream(build["output_stream_url"].as_str().unwrap());
    let built = wait_for("the build ends", || {
        let build = provider.get(&path);
        (build["status"] != "pending").then_some(build)
    });
    assert_eq!(built["status"], "succeeded", "{output}");
    let slug = provider.get(&format!("{app}/slugs/{}", id(&built["slug"])));
    assert!(slug["process_types"]["web"].is_string());
    let release = format!("{app}/releases/{}", id(&built["release"]));
    wait_for("the release serves", || (provider.get(&release)["status"] == "succeeded").then_some(()));

    // heroku_formation
    let web = format!("{app}/formation/web");
    let scaled = provider.ask("PATCH", &web, &json!({"quantity": 2, "size": "Standard-2X"}));
    assert_eq!((&scaled["quantity"], &scaled["size"]), (&json!(2), &json!("Standard-2X")));
    assert_eq!(provider.get(&web), scaled);
    provider.ask("PATCH", &web, &json!({"quantity": 1, "size": "standard-1x"}));
    // An app without add-ons: the provider lists them with every read.
    assert_eq!(provider.get(&format!("{app}/addons")), json!([]));

    // heroku_domain
    let body = json!({"hostname": "terra.example.com", "sni_endpoint": null});
    let domain = provider.ask("POST", &format!("{app}/domains"), &body);
    let path = format!("{app}/domains/{}", id(&domain));
    assert_eq!(provider.get(&path)["hostname"], "terra.example.com");
    assert!(domain["cname"].is_string(), "{domain}");
    provider.ask("PATCH", &path, &json!({"sni_endpoint": null}));
    provider.delete(&path);

    // heroku_drain
    let drains = format!("{app}/log-drains");
    let drain = provider.ask("POST", &drains, &json!({"url": "https://logs.example.com/in"}));
    let path = format!("{drains}/{}", id(&drain));
    assert_eq!(provider.get(&path)["token"], drain["token"]);
    provider.delete(&path);

    // heroku_collaborator
    let people = format!("{app}/collaborators");
    let grace = provider.ask("POST", &people, &json!({"user": "grace@example.com", "silent": true}));
    assert_eq!(provider.get(&people).as_array().unwrap().len(), 2);
    assert_eq!(provider.get(&format!("{people}/grace@example.com"))["id"], grace["id"]);
    provider.delete(&format!("{people}/{}", id(&grace)));

    // heroku_pipeline, heroku_pipeline_coupling
    let owner = json!({"id": account["id"], "type": "user"});
    let made = provider.ask("POST", "/pipelines", &json!({"name": "line", "owner": owner}));
    let pipeline = format!("/pipelines/{}", id(&made));
    assert_eq!(provider.ask("PATCH", &pipeline, &json!({"name": "longer-line"}))["name"], "longer-line");
    let body = json!({"app": app.trim_start_matches("/apps/"), "pipeline": id(&made), "stage": "staging"});
    let coupling = provider.ask("POST", "/pipeline-couplings", &body);
    let path = format!("/pipeline-couplings/{}", id(&coupling));
    assert_eq!(provider.ask("PATCH", &path, &json!({"stage": "production"}))["stage"], "production");
    assert_eq!(provider.get(&path)["stage"], "production");
    assert_eq!(provider.get(&pipeline)["name"], "longer-line");
    provider.delete(&path);
    provider.delete(&pipeline);

    // heroku_app_webhook
    let hooks = format!("{app}/webhooks");
    let hook = json!({"include": ["api:release"], "level": "notify", "url": "https://hooks.example.com/in"});
    let hook = provider.ask("POST", &hooks, &hook);
    let path = format!("{hooks}/{}", id(&hook));
    provider.ask("PATCH", &path, &json!({"level": "sync"}));
    assert_eq!(provider.get(&path)["level"], "sync");
    provider.delete(&path);

    provider.delete(&app);
    assert_eq!(provider.get("/apps"), json!([]));
    assert!(*provider.asked.borrow() > 50);

    // A wrong token is told apart from a missing resource, or the provider would forget what it manages.
    let wrong = Provider { basic: format!("Basic {}", STANDARD.encode("admin@localhost:wrong")), ..provider };
    assert_eq!(wrong.answer("GET", "/account", &Value::Null).0, 401);
}
