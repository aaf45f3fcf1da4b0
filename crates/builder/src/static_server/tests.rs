use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::*;

struct TestSite {
    address: SocketAddr,
    root: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestSite {
    fn serving(config: SiteConfig, files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("secret"), "secret").unwrap();
        let site = root.path().join("site");
        fs::create_dir(&site).unwrap();
        for (name, text) in files {
            fs::create_dir_all(site.join(name).parent().unwrap()).unwrap();
            fs::write(site.join(name), text).unwrap();
        }
        symlink("../secret", site.join("link-out")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let stopped = async { stopped.await.unwrap_or(()) };
            runtime.block_on(serve(listener, &site, config, stopped)).unwrap();
        });
        Self { address, root, stop: Some(stop), thread: Some(thread) }
    }

    fn plain(files: &[(&str, &str)]) -> Self {
        Self::serving(SiteConfig::default(), files)
    }

    /// Sends one request by hand, so that no client cleans up its path.
    fn request(&self, method: &str, target: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, target: &str) -> String {
        self.request("GET", target, "")
    }

    #[track_caller]
    fn check(&self, target: &str, status: &str, body: &str) {
        let answer = self.get(target);
        let (head, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {head}");
        assert_eq!(got, body, "{target}");
    }
}

impl Drop for TestSite {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        assert!(self.root.path().exists());
    }
}

#[test]
fn files_indexes_and_the_error_page_are_served() {
    let site = TestSite::plain(&[
        ("index.html", "home"),
        ("docs/index.html", "docs"),
        ("a b.css", "css"),
        ("404.html", "lost"),
    ]);
    site.check("/", "200", "home");
    site.check("/docs/", "200", "docs");
    site.check("/a%20b.css?v=1", "200", "css");
    site.check("/none", "404", "lost");
    assert!(site.get("/docs?x=1").contains("location: /docs/?x=1\r\n"));
    assert!(site.get("/a%20b.css").contains("content-type: text/css; charset=utf-8\r\n"));
}

#[test]
fn no_request_leads_out_of_the_root_or_to_a_hidden_file() {
    let site = TestSite::plain(&[
        ("index.html", "home"),
        (".env", "KEY=x"),
        ("Procfile", "web: x"),
        (".well-known/x", "known"),
    ]);
    for target in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "//../secret",
        "/link-out",
        "/.env",
        "/%2eenv",
        "/Procfile",
        "/%00",
        "/%zz",
        "/a/../../secret",
    ] {
        let answer = site.get(target);
        assert!(answer.starts_with("HTTP/1.1 40"), "{target}: {answer}");
        assert!(!answer.contains("secret\n") && !answer.ends_with("secret") && !answer.contains("KEY="), "{target}");
    }
    site.check("/.well-known/x", "200", "known");
}

#[test]
fn a_redirect_never_names_another_host() {
    let site = TestSite::plain(&[("evil.invalid/index.html", "x")]);
    let answer = site.get("//evil.invalid");
    assert!(answer.contains("location: /evil.invalid/\r\n"), "{answer}");
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let site = TestSite::plain(&[("style.css", "h1 {}")]);
    let first = site.get("/style.css");
    let header =
        |name: &str| first.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap().trim().to_owned();
    let by_tag = site.request("GET", "/style.css", &format!("If-None-Match: W/\"x\", {}\r\n", header("etag")));
    assert!(by_tag.starts_with("HTTP/1.1 304") && by_tag.ends_with("\r\n\r\n"), "{by_tag}");
    let by_date = site.request("GET", "/style.css", &format!("If-Modified-Since: {}\r\n", header("last-modified")));
    assert!(by_date.starts_with("HTTP/1.1 304"), "{by_date}");
    let changed = site.request("GET", "/style.css", "If-None-Match: \"other\"\r\n");
    assert!(changed.starts_with("HTTP/1.1 200"), "{changed}");
}

#[test]
fn head_has_the_length_and_no_body_and_other_methods_are_refused() {
    let site = TestSite::plain(&[("index.html", "home")]);
    let head = site.request("HEAD", "/", "");
    assert!(head.contains("content-length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let post = site.request("POST", "/", "Content-Length: 0\r\n");
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD\r\n"), "{post}");
}

#[test]
fn large_files_arrive_whole() {
    let text = "0123456789abcdef".repeat(40_000);
    let site = TestSite::plain(&[("large.txt", &text)]);
    site.check("/large.txt", "200", &text);
}

#[test]
fn a_single_page_app_answers_every_path_and_clean_urls_find_their_page() {
    let config = SiteConfig::parse(br#"{"root":"dist","clean_urls":true,"routes":{"/**":"index.html"}}"#).unwrap();
    assert_eq!(config.root.as_deref(), Some("dist"));
    let site = TestSite::serving(config, &[("index.html", "app"), ("about.html", "about")]);
    site.check("/about", "200", "about");
    site.check("/users/7", "200", "app");
}

#[test]
fn a_config_that_points_outside_is_refused() {
    assert!(matches!(SiteConfig::parse(br#"{"root":"../x"}"#), Err(SiteConfigError::Path(_))));
    assert!(matches!(SiteConfig::parse(b"{"), Err(SiteConfigError::Json(_))));
}

#[test]
fn a_stop_lets_the_request_under_way_end() {
    let mut site = TestSite::plain(&[("index.html", "home")]);
    let mut stream = TcpStream::connect(site.address).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).unwrap();
    drop(site.stop.take());
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200") && rest.ends_with("home"), "{rest}");
    site.thread.take().unwrap().join().unwrap();
}
