//! A stand-in for other people's servers: takes what is sent to it over HTTP or as a plain stream, with or without TLS.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::wait::wait_for;

#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What it was answered with.
    pub(crate) status: u16,
}

impl Received {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _value)| key == name);
        found.map(|(_key, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }
}

/// What the threads of a receiver share.
#[derive(Debug)]
struct Shared {
    requests: Mutex<Vec<Received>>,
    text: Mutex<String>,
    status: AtomicU16,
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    tls: Option<Arc<ServerConfig>>,
    speaks_http: bool,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    listener: Option<(TcpListener, JoinHandle<()>)>,
}

impl Receiver {
    pub(crate) fn http() -> Self {
        Self::start(true, None)
    }

    pub(crate) fn syslog() -> Self {
        Self::start(false, None)
    }

    /// With the certificate for `localhost` in this directory.
    pub(crate) fn https(ca: &Path) -> Self {
        Self::start(true, Some(ca))
    }

    pub(crate) fn syslog_tls(ca: &Path) -> Self {
        Self::start(false, Some(ca))
    }

    fn start(speaks_http: bool, ca: Option<&Path>) -> Self {
        let shared = Shared {
            requests: Mutex::default(),
            text: Mutex::default(),
            status: AtomicU16::new(200),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            tls: ca.map(server_config),
            speaks_http,
        };
        let mut receiver = Self { port: 0, shared: Arc::new(shared), listener: None };
        receiver.open();
        receiver
    }

    /// Listens, on the port that it had before.
    pub(crate) fn open(&mut self) {
        let listener = wait_for("the receiver's port", || TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok());
        self.port = listener.local_addr().unwrap().port();
        let (shared, accepting) = (Arc::clone(&self.shared), listener.try_clone().unwrap());
        let thread = thread::spawn(move || {
            while let Ok((stream, _peer)) = accepting.accept() {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                shared.open.lock().unwrap().push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(stream));
            }
        });
        self.listener = Some((listener, thread));
    }

    /// Goes away, with every connection.
    pub(crate) fn close(&mut self) {
        if let Some((listener, thread)) = self.listener.take() {
            // On Linux this wakes whoever accepts.
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    pub(crate) fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Everything that was accepted: bodies that were answered with 200, or what came on streams.
    pub(crate) fn text(&self) -> String {
        if self.shared.speaks_http {
            return self.requests().into_iter().filter(|got| got.status == 200).map(|got| got.body).collect();
        }
        self.shared.text.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn waits_for(&self, text: &str) -> String {
        wait_for(&format!("{text:?} at the receiver"), || Some(self.text()).filter(|all| all.contains(text)))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Until the connection ends, however it does.
    fn serve(&self, stream: TcpStream) {
        match &self.tls {
            None => self.talk(stream).ok(),
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).unwrap();
                self.talk(StreamOwned::new(session, stream)).ok()
            }
        };
    }

    fn talk(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        if self.speaks_http {
            while self.request(&mut stream)? {}
            return Ok(());
        }
        let mut line = String::new();
        while stream.read_line(&mut line)? > 0 {
            self.text.lock().unwrap().push_str(&line);
            line.clear();
        }
        Ok(())
    }

    fn request(&self, stream: &mut BufReader<impl Read + Write>) -> io::Result<bool> {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(false);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let status = self.status.load(Ordering::SeqCst);
        let mut received = Received { path, headers, body: String::new(), status };
        let mut body = vec![0; received.header("content-length").parse().unwrap()];
        stream.read_exact(&mut body)?;
        received.body = String::from_utf8(body).unwrap();
        self.requests.lock().unwrap().push(received);
        write!(stream.get_mut(), "HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok")?;
        stream.get_mut().flush()?;
        Ok(true)
    }
}

fn server_config(ca: &Path) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(ca.join("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(ca.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}
