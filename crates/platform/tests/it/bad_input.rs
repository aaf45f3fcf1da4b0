//! What people and programs send by mistake or on purpose: refused with words that help, and nothing breaks.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::api::path_of;
use crate::git_push::Repository;
use crate::http::Connection;
use crate::left_over;
use crate::load::Load;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_until;

#[test]
fn an_upload_that_is_cut_off_counts_for_nothing() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    let announced = platform.ask("POST", "/sources", &Value::Null);
    let url = |name: &str| announced["source_blob"][name].as_str().unwrap().to_owned();
    let mut connection = Connection::open(platform.api_port).unwrap();
    let head =
        format!("PUT {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", path_of(&url("put_url")));
    connection.stream.get_mut().write_all(head.as_bytes()).unwrap();
    connection.stream.get_mut().write_all(&source.tar()).unwrap();
    drop(connection);
    let body = json!({"source_blob": {"url": url("get_url")}});
    let (status, answer) = platform.api("POST", "/apps/shop/builds", &body).unwrap();
    assert_eq!((status, &answer["id"]), (422, &json!("invalid_params")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("not been uploaded"), "{answer}");
    // The same URL takes the whole upload afterwards.
    let put = platform.api_raw("PUT", path_of(&url("put_url")), &[], &source.version("2").tar()).unwrap();
    assert_eq!(put.status, 200, "{}", put.text());
    let build = platform.ask("POST", "/apps/shop/builds", &body);
    assert_eq!(platform.follow("shop", &build).state, "serving");
}

/// Bytes on disk under a directory.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => disk_bytes(&entry.path()),
        // Files come and go while we look.
        Ok(_file) => entry.metadata().map_or(0, |metadata| metadata.blocks() * 512),
        Err(_gone) => 0,
    });
    sizes.sum()
}

/// What uploads and pushes are kept in. Nothing of what was refused may stay there.
fn kept_bytes(platform: &TestPlatform) -> u64 {
    ["sources", "repos"].map(|name| disk_bytes(&platform.data().join(name))).iter().sum()
}

/// A file that does not compress.
fn noise(path: &Path, mebibytes: u64) {
    let mut random = File::open("/dev/urandom").unwrap().take(mebibytes << 20);
    std::io::copy(&mut random, &mut File::create(path).unwrap()).unwrap();
}

/// Pushes what must be refused: git's own report, our words in it, and nothing kept.
fn check_refused_push(platform: &TestPlatform, repository: &Repository<'_>, words: &[&str]) {
    // The first visitor makes the repository.
    repository.git(&["ls-remote", &repository.remote]);
    let (before, releases) = (kept_bytes(platform), platform.releases("shop").len());
    let (pushed, text) = repository.push("main");
    assert!(!pushed, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
    for misleading in ["RPC failed", "unexpected disconnect", "broke", "the build goes on"] {
        assert!(!text.contains(misleading), "{misleading:?} in {text}");
    }
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    assert_eq!(platform.releases("shop").len(), releases);
    wait_until("what was refused is gone", || kept_bytes(platform) <= before + (64 << 10));
}

#[test]
fn a_file_of_two_gigabytes_in_a_push_is_refused_with_the_limit() {
    let Some(platform) = TestPlatform::with_limits("upload_mib = 64") else { return };
    let source = platform.python_web("shop");
    let repository = Repository::new(&platform, "shop");
    // Two megabytes on the wire, and two gigabytes as soon as somebody unpacks it.
    File::create(repository.directory.join("zeros")).unwrap().set_len(2 << 30).unwrap();
    repository.commit(&source.version("2"));
    check_refused_push(&platform, &repository, &["larger than the limit of 64 MiB", "Push rejected", "hook declined"]);
}

#[test]
fn a_pack_over_the_limit_is_refused_in_gits_words() {
    let Some(platform) = TestPlatform::with_limits("push_mib = 1") else { return };
    let source = platform.python_web("shop");
    let repository = Repository::new(&platform, "shop");
    noise(&repository.directory.join("noise"), 64);
    repository.commit(&source.version("2"));
    check_refused_push(&platform, &repository, &["pack exceeds maximum allowed size"]);
}

#[test]
fn an_upload_over_the_limit_is_refused_with_the_limit() {
    let Some(platform) = TestPlatform::with_limits("upload_mib = 2") else { return };
    platform.python_web("shop");
    let before = kept_bytes(&platform);
    let directory = platform.scratch().join("large");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("Procfile"), "web: true\n").unwrap();
    noise(&directory.join("noise"), 64);
    let ended = platform.berth(&["deploy", directory.to_str().unwrap(), "-a", "shop"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    let expect =
        " !    The upload is larger than the limit of 2 MiB. Leave out what the app does not need (.slugignore).\n";
    assert!(ended.stderr.ends_with(expect), "{ended:?}");

    // Clients that send all of it before they listen: with a length, and without one.
    let archive = vec![b'x'; 64 << 20];
    let lengthless = [format!("{:x}\r\n", archive.len()).as_bytes(), &archive, b"\r\n0\r\n\r\n"].concat();
    for (header, body) in [
        (format!("Content-Length: {}", archive.len()), &archive),
        ("Transfer-Encoding: chunked".to_owned(), &lengthless),
    ] {
        let announced = platform.ask("POST", "/sources", &Value::Null);
        let path = path_of(announced["source_blob"]["put_url"].as_str().unwrap()).to_owned();
        let mut connection = Connection::open(platform.api_port).unwrap();
        let stream = connection.stream.get_mut();
        stream.write_all(format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        assert_eq!(connection.head().unwrap().0, 413, "{header}");
    }
    assert!(platform.text("shop", "/").starts_with("version=1 "));
    assert_eq!(platform.releases("shop").len(), 2);
    assert!(kept_bytes(&platform) <= before, "uploads were kept");
}

#[test]
fn archives_that_reach_out_of_the_tree_are_refused() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let entry = |kind: EntryType, name: &str, link: &str, content: &[u8]| {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let outside = platform.scratch().join("escaped");
    let outside_text = outside.to_str().unwrap();
    let up = "../".repeat(12) + &outside_text[1..];
    let link = entry(EntryType::Symlink, "out", platform.scratch().to_str().unwrap(), b"");
    let archives = [
        entry(EntryType::Regular, "../../escaped", "", b"x"),
        entry(EntryType::Regular, &up, "", b"x"),
        entry(EntryType::Regular, outside_text, "", b"x"),
        [link, entry(EntryType::Regular, "out/escaped", "", b"x")].concat(),
        entry(EntryType::Link, "passwd", "/etc/passwd", b""),
        entry(EntryType::Block, "disk", "", b""),
        b"this is no archive at all".to_vec(),
        // A gzip header, and then nothing more of it.
        vec![0x1f, 0x8b, 8, 0, 0, 0],
    ];
    for (number, archive) in archives.into_iter().enumerate() {
        let whole = [archive, entry(EntryType::Regular, "Procfile", "", b"web: true\n"), vec![0; 1024]].concat();
        let build = platform.build("shop", &whole, false);
        let deployed = platform.follow("shop", &build);
        let harmless = deployed.state == "failed" && number == 2;
        assert!(deployed.state == "no release" || harmless, "archive {number}: {deployed:?}");
        assert!(!deployed.failure.is_empty(), "archive {number}");
        assert!(!outside.exists(), "archive {number}");
    }
    assert!(platform.text("shop", "/").starts_with("version=1 "));
}

#[test]
fn a_procfile_from_windows_works() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    let source = Source::app("python-web").file("Procfile", "web: python3 server.py\r\nworker: sleep 100\r\n");
    platform.serve("shop", &source);
    platform.shows("shop", "version=1 ");
    assert_eq!(platform.get("/apps/shop/formation/worker")["command"], "sleep 100");
}

#[test]
fn config_values_have_a_limit_that_is_named() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let huge = json!({"HUGE": "x".repeat(1 << 20)});
    let (status, answer) = platform.api("PATCH", "/apps/shop/config-vars", &huge).unwrap();
    assert_eq!((status, &answer["id"]), (422, &json!("invalid_params")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("HUGE"), "{answer}");
    assert_eq!(platform.releases("shop").len(), 2);
    platform.configure("shop", &json!({"LARGE": "x".repeat(64 * 1024), "WORDS": "naïve \"quotes\"\n$HOME 日本"}));
    wait_until("the new dyno", || platform.text("shop", "/env?name=LARGE").starts_with("65536 "));
    let (output, _status) = platform.run("shop", "printf %s \"$WORDS\"", None);
    assert_eq!(output.trim_end(), "naïve \"quotes\"\n$HOME 日本");
    let (status, answer) = platform.api("PATCH", "/apps/shop/config-vars", &json!({"NOT-A-NAME": "x"})).unwrap();
    assert_eq!(status, 422, "{answer}");
}

#[test]
fn names_that_could_not_be_hosts_are_refused() {
    let Some(platform) = TestPlatform::start() else { return };
    for name in ["ünïcode", "日本", "Shop", "-shop", "a", "shop.example", "../shop", "shop\n", "api", &"x".repeat(31)]
    {
        let (status, answer) = platform.api("POST", "/apps", &json!({"name": name})).unwrap();
        assert_eq!((status, &answer["id"]), (422, &json!("invalid_params")), "{name:?}: {answer}");
    }
    platform.create("shop");
    let (status, answer) = platform.api("POST", "/apps", &json!({"name": "shop"})).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert_eq!(platform.get("/apps").as_array().unwrap().len(), 1);
    for body in [&b"{"[..], b"\xff\xfe", b"{\"name\": 7}"] {
        let token = format!("Bearer {}", platform.token);
        let answer = platform.api_raw("POST", "/apps", &[("Authorization", &token)], body).unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.text());
    }
}

#[test]
fn nobody_gets_in_without_a_token() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("shop");
    for headers in [&[][..], &[("Authorization", "Bearer wrong")], &[("Authorization", "Basic Ondyb25n")]] {
        for (method, path) in
            [("GET", "/apps"), ("DELETE", "/apps/shop"), ("GET", "/shop.git/info/refs?service=git-receive-pack")]
        {
            let answer = platform.api_raw(method, path, headers, &[]).unwrap();
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
        }
    }
    let announced = platform.ask("POST", "/sources", &Value::Null);
    let url = announced["source_blob"]["put_url"].as_str().unwrap();
    let forged = path_of(url).replace("expires=", "expires=9");
    let answer = platform.api_raw("PUT", &forged, &[], b"x").unwrap();
    assert!(matches!(answer.status, 401 | 403), "{}", answer.text());
    assert_eq!(platform.get("/apps").as_array().unwrap().len(), 1);
}

#[test]
fn deploys_at_once_are_built_in_turn_and_the_newest_serves() {
    let Some(platform) = TestPlatform::start() else { return };
    let source = platform.python_web("shop");
    // The first one goes on when somebody ends what it waits for.
    let slow = |version: &str| {
        let hook = format!("#!/bin/sh\n[ {version} != 2 ] || sleep 1006 || true\n");
        source.clone().version(version).file("bin/post_compile", &hook).tar()
    };
    let first = platform.build("shop", &slow("2"), false);
    let waits = || left_over::running(&platform.instance(), "sleep 1006");
    wait_until("the first build runs", || !waits().is_empty());
    let builds = [first, platform.build("shop", &slow("3"), false), platform.build("shop", &slow("4"), false)];
    for pid in waits() {
        crate::platform::kill(pid, rustix::process::Signal::TERM);
    }
    let ended = builds.map(|build| platform.follow("shop", &build));
    assert_eq!(ended[2].state, "serving", "{:?}", ended[2]);
    platform.shows("shop", "version=4 ");
    // The one that waited was replaced by the one after it.
    assert_eq!(ended[1].state, "no release", "{:?}", ended[1]);
    assert!(matches!(ended[0].state.as_str(), "serving" | "superseded"), "{:?}", ended[0]);
}

#[test]
fn a_full_disk_stops_nothing_that_runs() {
    let Some(platform) = TestPlatform::on_a_small_disk(96) else { return };
    let source = platform.python_web("shop");
    let load = Load::quick(&platform, "shop");
    let ballast = platform.data().join("ballast");
    let mut file = File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);

    let so_far = load.requests_so_far();
    platform.text("shop", "/count?lines=100&seconds=1");
    wait_until("more requests", || load.requests_so_far() > so_far + 200);
    let announced = platform.api("POST", "/sources", &Value::Null).unwrap();
    let (status, answer) = if announced.0 == 201 {
        let put = announced.1["source_blob"]["put_url"].as_str().unwrap().to_owned();
        let answer = platform.api_raw("PUT", path_of(&put), &[], &[b'x'; 1 << 20]).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    } else {
        announced
    };
    assert_eq!((status, &answer["id"]), (507, &json!("insufficient_storage")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("berth gc"), "{answer}");
    let (status, answer) =
        platform.api("PATCH", "/apps/shop/config-vars", &json!({"GREETING": "x".repeat(60_000)})).unwrap();
    assert!(status == 507 || status == 200, "{status} {answer}");

    // With a little room an upload begins, and its sender learns in its middle that it cannot end.
    let full = fs::metadata(&ballast).unwrap().len();
    File::options().write(true).open(&ballast).unwrap().set_len(full - (8 << 20)).unwrap();
    let announced = platform.ask("POST", "/sources", &Value::Null);
    let put = path_of(announced["source_blob"]["put_url"].as_str().unwrap()).to_owned();
    let answer = platform.api_raw("PUT", &put, &[], &vec![b'x'; 24 << 20]).unwrap();
    assert_eq!(answer.status, 507, "{}", answer.text());
    let directory = platform.scratch().join("large");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("Procfile"), "web: true\n").unwrap();
    noise(&directory.join("noise"), 24);
    let ended = platform.berth(&["deploy", directory.to_str().unwrap(), "-a", "shop"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(" !    The server's disk is full; nothing was kept."), "{ended:?}");

    fs::remove_file(&ballast).unwrap();
    // What could not be stored meanwhile is told by number.
    wait_until("every line is there or counted", || {
        platform.text("shop", "/say?text=room");
        // Among the router's lines of the load they would soon be older than what is shown.
        let of = |dyno: &str| platform.logs_of("shop", &json!({"lines": 1500, "dyno": dyno}));
        let lines = [of("web.1"), of("logplex")].concat();
        let counted = lines.iter().filter_map(|line| line.split_once("Error L10 (output buffer overflow): "));
        let counted = counted.map(|(_head, rest)| rest.split(' ').next().unwrap().parse::<usize>().unwrap());
        lines.iter().filter(|line| line.contains("app[web.1]: line ")).count() + counted.sum::<usize>() >= 100
    });
    platform.serve("shop", &source.version("2"));
    platform.shows("shop", "version=2 ");
    let seen = load.finish();
    assert_eq!(seen.failures, [""; 0], "{seen:?}");
}
