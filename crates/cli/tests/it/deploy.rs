use std::io::Read as _;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Reply, Server};

const BUILD: &str = "00000000-0000-0000-0000-0000000000b1";
const PROGRESS: &str = "GET /berth/apps/shop/builds/00000000-0000-0000-0000-0000000000b1";
const RELEASE: &str = "GET /berth/apps/shop/releases/7";

fn build(server: &Server) -> Value {
    json!({
        "app": {"id": Uuid::nil()}, "buildpacks": [], "created_at": "2026-11-23T04:30:00Z", "generation": "cedar",
        "id": BUILD, "output_stream_url": format!("{}/output?sig=x", server.url), "release": null, "slug": null,
        "source_blob": {"url": "x"}, "stack": "debian-12", "status": "pending",
        "updated_at": "2026-11-23T04:30:00Z", "user": {"id": Uuid::nil(), "email": "a@b"}
    })
}

fn progress(status: &str, failure: Option<&str>, version: Option<u64>) -> Reply {
    let release = version.map(|_version| Uuid::nil());
    Reply::json(&json!({
        "id": BUILD, "status": status, "failure": failure, "release": release, "release_version": version
    }))
}

fn release(state: &str, failure: Option<&str>) -> Reply {
    Reply::json(&json!({"id": Uuid::nil(), "version": 7, "state": state, "failure": failure}))
}

fn release_resource(output_stream_url: Option<String>) -> Reply {
    Reply::json(&json!({
        "addon_plan_names": [], "app": {"id": Uuid::nil(), "name": "shop"}, "artifacts": [],
        "created_at": "2026-11-23T04:30:00Z", "current": false, "description": "Deploy", "eligible_for_rollback": false,
        "id": Uuid::nil(), "output_stream_url": output_stream_url, "slug": null, "status": "pending",
        "updated_at": "2026-11-23T04:30:00Z", "user": {"id": Uuid::nil(), "email": "a@b"}, "version": 7
    }))
}

/// A server on which everything goes well.
pub(crate) fn server() -> Server {
    let server = Server::start();
    let url = |name: &str| format!("{}/{name}", server.url);
    let source = json!({"source_blob": {"get_url": url("get"), "put_url": url("put")}});
    server
        .on("POST /apps/shop/sources", [Reply::json(&source)])
        .on("PUT /put", [Reply::text("")])
        .on("POST /berth/apps/shop/builds", [Reply::json(&build(&server))])
        .on("GET /output?sig=x", [Reply::text("-----> Building\n")])
        .on(PROGRESS, [progress("pending", None, None), progress("succeeded", None, Some(7))])
        .on(RELEASE, [release("pending", None), release("rolling_out", None), release("serving", None)])
        .on("GET /apps/shop/releases/7", [release_resource(None)]);
    server
}

pub(crate) fn client(server: &Server, args: &[&str]) -> Client {
    server.client(args).file("Procfile", "web: run\n").file("secret.log", "x").file(".gitignore", "*.log\n")
}

#[test]
fn a_directory_is_packed_sent_built_and_followed_until_it_serves() {
    let server = server();
    let ended = client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "-----> Building\nv7: serving\n");
    let [upload] = server.seen("PUT /put").try_into().unwrap();
    // The upload's URL is its own authority; the token stays out of it.
    assert!(!upload.headers.contains_key("authorization"));
    let plain = zstd::decode_all(upload.body.as_slice()).unwrap();
    let mut names = Vec::new();
    for entry in tar::Archive::new(plain.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        names.push((entry.path().unwrap().display().to_string(), content));
    }
    let file = |name: &str, content: &str| (name.to_owned(), content.to_owned());
    assert_eq!(names, [file(".gitignore", "*.log\n"), file("Procfile", "web: run\n")]);
    let [request] = server.seen("POST /berth/apps/shop/builds").try_into().unwrap();
    assert_eq!(request.headers["authorization"], "Bearer s3cret-token");
    let body = request.json();
    assert_eq!(body["hold"], false);
    assert_eq!(body["source_blob"]["url"], format!("{}/get", server.url));
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&upload.body);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(body["source_blob"]["checksum"], format!("SHA256:{digest}"));
}

#[test]
fn a_broken_output_stream_is_resumed_where_it_broke() {
    let server = server();
    let replies = [Reply::text("-----> Bu").cut(), Reply::text("-----> Building\nlast\n")];
    server.on("GET /output?sig=x", replies);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, "-----> Building\nlast\nv7: serving\n");
}

#[test]
fn a_failed_build_is_a_failed_command_with_the_reason() {
    let server = server();
    server.on(PROGRESS, [progress("failed", Some("no Procfile was found"), None)]);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.ends_with(" !    the build failed: no Procfile was found\n"), "{ended:?}");
}

#[test]
fn a_release_that_does_not_get_ready_is_a_failed_command_with_its_last_lines() {
    let server = server();
    server.on(RELEASE, [release("rolling_out", None), release("failed", Some("Error R10\nweb.1: no such module"))]);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("web.1: no such module\n"), "{ended:?}");
    assert!(ended.stderr.ends_with(" !    v7 failed; what served before goes on serving\n"), "{ended:?}");
}

#[test]
fn the_release_phase_is_shown_while_it_runs() {
    let server = server();
    server
        .on(RELEASE, [release("preparing", None), release("serving", None)])
        .on("GET /apps/shop/releases/7", [release_resource(Some(format!("{}/phase", server.url)))])
        .on("GET /phase", [Reply::text("migrating\n")]);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "-----> Building\nmigrating\nv7: serving\n"));
}

#[test]
fn a_release_phase_that_is_over_in_a_moment_is_shown_all_the_same() {
    let server = server();
    server
        .on("GET /apps/shop/releases/7", [release_resource(Some(format!("{}/phase", server.url)))])
        .on("GET /phase", [Reply::text("migrated\n")]);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "-----> Building\nmigrated\nv7: serving\n"));
}

#[test]
fn a_held_release_is_not_waited_for() {
    let server = server();
    let ended = client(&server, &["deploy", "--hold"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("berth releases:resume -a shop v7"), "{ended:?}");
    assert_eq!(server.seen("POST /berth/apps/shop/builds")[0].json()["hold"], true);
    assert!(server.seen(RELEASE).is_empty());
}

#[test]
fn a_refused_upload_says_why() {
    let server = server();
    server.on("PUT /put", [Reply::error(413, "invalid_params", "The upload is larger than the limit of 1 GiB.")]);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.ends_with(" !    The upload is larger than the limit of 1 GiB.\n"), "{ended:?}");
    assert!(server.seen("POST /berth/apps/shop/builds").is_empty());
}

#[test]
fn what_the_server_would_refuse_is_not_sent_at_all() {
    let server = server();
    server.on("PUT /put", [Reply::error(507, "insufficient_storage", "The server's disk is full.").early()]);
    let ended = client(&server, &["deploy"]).file("large", &"x".repeat(1 << 20)).end();
    assert_eq!((ended.code, server.seen("PUT /put").len()), (Some(1), 1), "{ended:?}");
    assert!(ended.stderr.ends_with(" !    The server's disk is full.\n"), "{ended:?}");
}

#[test]
fn an_upload_that_breaks_off_is_not_taken_for_a_server_that_is_down() {
    let server = server();
    server.on("PUT /put", [Reply::text("").never()]);
    let ended = client(&server, &["deploy"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains(" broke off after ") && ended.stderr.contains("nothing was built"), "{ended:?}");
    assert!(!ended.stderr.contains("berth up"), "{ended:?}");
}

#[test]
fn json_is_the_only_thing_on_stdout() {
    let server = server();
    let ended = client(&server, &["deploy", "--json"]).end();
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &printed["release_version"]), (Some(0), &json!(7)));
    assert!(ended.stderr.contains("-----> Building\n"));
}

#[test]
fn an_empty_directory_is_refused_before_anything_is_sent() {
    let server = server();
    let ended = server.client(&["deploy"]).end();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("there is nothing to deploy"), "{ended:?}");
    assert!(server.seen("POST /apps/shop/sources").is_empty());
}
