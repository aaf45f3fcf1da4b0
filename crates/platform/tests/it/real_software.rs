//! Software of other people, from the registries, as they published it: a dependency file and a `Procfile` are all that
//! is written here.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::platform::TestPlatform;
use crate::source::Source;
use crate::wait::wait_for;

#[test]
fn registry_a_django_application_migrates_stores_and_shows() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("paste");
    // The settings that its own settings module reads from the environment.
    let settings = json!({
        "DJANGO_SETTINGS_MODULE": "xelpaste.settings",
        "XELPASTE_APP_MODE": "dev",
        "XELPASTE_APP_DEBUG": "off",
        "XELPASTE_DB_NAME": "/tmp/xelpaste.sqlite",
        "XELPASTE_SITE_ALLOWED_HOSTS": "paste.localhost",
    });
    platform.ask("PATCH", "/apps/paste/config-vars", &settings);
    let source =
        Source::procfile("release: django-admin migrate\nweb: django-admin migrate && gunicorn xelpaste.wsgi\n")
            .file("requirements.txt", "xelpaste==3.3.3\ngunicorn==23.0.0\n");
    platform.serve("paste", &source);
    platform.logged("paste", "app[release.3]:   Applying libpaste.0001_initial... OK");
    let page = platform.text("paste", "/");
    assert!(page.contains("<textarea") && page.contains("csrfmiddlewaretoken"), "{page}");

    let headers =
        [("Host", "paste.localhost"), ("Content-Type", "application/x-www-form-urlencoded"), ("Connection", "close")];
    let body = b"content=from+the+registry&lexer=text";
    let made = Connection::open(platform.http_port).unwrap().request("POST", "/api/", &headers, body).unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    let address = made.text();
    let id = address.trim().trim_matches('"').trim_end_matches('/').rsplit('/').next().unwrap().to_owned();
    let snippet = platform.text("paste", &format!("/{id}/raw/"));
    assert!(snippet.contains("from the registry"), "{address}: {snippet}");
}

#[test]
fn registry_an_asgi_application_answers() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("data");
    let source = Source::procfile("web: datasette serve --memory --host 0.0.0.0 --port $PORT\n")
        .file("requirements.txt", "datasette==0.65.5\n");
    platform.serve("data", &source);
    let page = platform.text("data", "/");
    assert!(page.contains("<title>Datasette"), "{page}");
    let answer = platform.text("data", "/_memory.json?sql=select+6*7+as+answer&_shape=array");
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), json!([{"answer": 42}]));
}

#[test]
fn registry_a_node_application_exchanges_messages_over_websockets() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.create("peers");
    let package = json!({"name": "peers", "version": "1.0.0", "private": true, "dependencies": {"peer": "1.0.2"}});
    let source = Source::procfile("web: peerjs --port $PORT --path /\n").file("package.json", &package.to_string());
    platform.serve("peers", &source);
    let page: Value = serde_json::from_str(&platform.text("peers", "/")).unwrap();
    assert_eq!(page["name"], "PeerJS Server");

    let mut ann = Peer::connect(&platform, "ann");
    let mut ben = Peer::connect(&platform, "ben");
    ann.send(&json!({"type": "OFFER", "dst": "ben", "payload": "hello through the router"}));
    let offer = ben.receive("OFFER");
    assert_eq!((&offer["src"], &offer["payload"]), (&json!("ann"), &json!("hello through the router")));
    ben.send(&json!({"type": "ANSWER", "dst": "ann", "payload": "hello yourself"}));
    assert_eq!(ann.receive("ANSWER")["payload"], "hello yourself");
}

/// A browser's side of the signalling server.
struct Peer {
    connection: Connection,
}

impl Peer {
    fn connect(platform: &TestPlatform, id: &str) -> Self {
        let mut connection = Connection::open(platform.http_port).unwrap();
        let headers = [
            ("Host", "peers.localhost"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let path = format!("/peerjs?key=peerjs&id={id}&token=secret-of-{id}");
        connection.send("GET", &path, &headers, &[]).unwrap();
        let (status, headers) = connection.head().unwrap();
        assert_eq!(status, 101, "{headers:?}");
        let mut peer = Self { connection };
        peer.receive("OPEN");
        peer
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        let length = u8::try_from(text.len()).ok().filter(|&length| length < 126).expect("a short message");
        // FIN and text; masked as RFC 6455 asks of clients, with a mask of zeros.
        let frame = [&[0x81, 0x80 | length, 0, 0, 0, 0][..], text.as_bytes()].concat();
        self.connection.stream.get_mut().write_all(&frame).unwrap();
    }

    /// The next message of this type; others are passed over.
    fn receive(&mut self, kind: &str) -> Value {
        wait_for(&format!("a message {kind}"), || {
            let message = self.next_message();
            (message["type"] == kind).then_some(message)
        })
    }

    fn next_message(&mut self) -> Value {
        let mut head = [0; 2];
        self.connection.stream.read_exact(&mut head).unwrap();
        assert_eq!((head[0], head[1] < 126), (0x81, true), "an unexpected frame: {head:?}");
        let mut text = vec![0; usize::from(head[1])];
        self.connection.stream.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}
