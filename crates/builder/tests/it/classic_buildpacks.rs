//! Classic buildpacks that are named by URL: fetched inside the build, from a server whose certificate only the host's
//! own bundle vouches for.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Built, TestApp};

/// Serves a directory over HTTPS, with `python3`.
struct HttpsServer {
    process: Child,
    port: u16,
    certificate: PathBuf,
}

const SERVER: &str = r#"
import functools, http.server, ssl, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

impl HttpsServer {
    fn start(place: &Path, directory: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (place.join("certificate.pem"), place.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut process = Command::new("/usr/bin/python3")
            .args(["-c", SERVER])
            .args([directory, &certificate, &key])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, port: line.trim().parse().unwrap(), certificate }
    }
}

impl Drop for HttpsServer {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).unwrap();
    }
}

fn our_buildpack() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/apps/classic-buildpack/buildpack")
}

/// Builds an app with the buildpack that `file` of a server names; `publish` fills the server's directory.
fn build_from(file: &str, publish: impl FnOnce(&Path)) -> (TestApp, Built) {
    let mut app = TestApp::empty().file("app.txt", "app").config("FLAVOUR", "mint-chocolate");
    let public = app.data.path().join("public");
    fs::create_dir(&public).unwrap();
    publish(&public);
    let server = HttpsServer::start(app.data.path(), &public);
    app.host.environment.insert("SSL_CERT_FILE".to_owned(), server.certificate.display().to_string());
    app.host.environment.insert("NO_PROXY".to_owned(), "localhost".to_owned());
    let app = app.buildpack(&format!("https://localhost:{}/{file}", server.port));
    let built = app.build();
    (app, built)
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_buildpack_is_cloned_from_its_url_at_the_branch_that_it_names() {
    let publish = |public: &Path| {
        let work = public.join("work");
        fs::create_dir_all(work.join("bin")).unwrap();
        git(&work, &["init", "--quiet", "--initial-branch", "main"]);
        for script in ["detect", "compile", "release"] {
            fs::copy(our_buildpack().join("bin").join(script), work.join("bin").join(script)).unwrap();
        }
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--message", "works"]);
        git(&work, &["branch", "stable"]);
        fs::write(work.join("bin/compile"), "#!/bin/sh\nexit 1\n").unwrap();
        git(&work, &["commit", "--quiet", "--all", "--message", "breaks"]);
        git(public, &["clone", "--quiet", "--bare", "work", "shell.git"]);
        // For a server that only serves files.
        git(&public.join("shell.git"), &["update-server-info"]);
    };
    let (app, built) = build_from("shell.git#stable", publish);
    built.says("-----> Fetching buildpack https://localhost:").says("-----> Shell app detected (buildpack https://");
    assert_eq!(app.run_dyno(built.slug(), built.command("web")), "flavour from ENV_DIR only\n");
    let (_app, built) = build_from("shell.git", publish);
    built.fails().says("bin/compile of https://localhost:");
}

#[test]
fn a_buildpack_is_unpacked_from_an_archive_at_its_url() {
    let publish = |public: &Path| {
        let file = File::create(public.join("shell.tgz")).unwrap();
        let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
        archive.append_dir_all("shell-main", our_buildpack()).unwrap();
        archive.into_inner().unwrap().finish().unwrap();
    };
    let (app, built) = build_from("shell.tgz", publish);
    built.says("-----> Fetching buildpack https://localhost:").says("-----> Compiling for heroku-22");
    assert_eq!(app.run_dyno(built.slug(), built.command("web")), "flavour from ENV_DIR only\n");
    let (_app, built) = build_from("missing.tgz", publish);
    built.fails().says("curl failed with status 22");
}
