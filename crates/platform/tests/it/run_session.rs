//! `berth run` with somebody at it: terminals, input, signals, and a network that is cut in the middle.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use crate::heroku_cli::{Terminal, ran};
use crate::platform::{BERTH, TestPlatform};
use crate::wait::wait_until;

/// A way to the server that can be cut.
pub(crate) struct Network {
    pub(crate) port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    is_down: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
}

impl Network {
    /// With a limit, each connection is cut when it has carried so many bytes; what it read last is lost.
    pub(crate) fn to(api_port: u16, bytes_max: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (is_down, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let network = Self {
            port,
            connections: Arc::clone(&connections),
            is_down: Arc::clone(&is_down),
            cuts: Arc::clone(&cuts),
        };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_down.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", api_port)).unwrap();
                connections.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                let carried = Arc::new(AtomicUsize::new(0));
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (carried, cuts) = (Arc::clone(&carried), Arc::clone(&cuts));
                    std::thread::spawn(move || carry(from, to, &carried, bytes_max, &cuts));
                }
            }
        });
        network
    }

    pub(crate) fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            // It may have ended by itself.
            connection.shutdown(Shutdown::Both).ok();
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, carried: &AtomicUsize, bytes_max: Option<usize>, cuts: &AtomicUsize) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let total = carried.fetch_add(count, Ordering::SeqCst) + count;
        if bytes_max.is_some_and(|max| total > max) {
            cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

impl TestPlatform {
    fn run_through(&self, network: &Network, arguments: &[&str]) -> Command {
        let mut command = Command::new(BERTH);
        command
            .args(["run", "-a", "shop"])
            .args(arguments)
            .env("BERTH_HOST", format!("http://localhost:{}", network.port))
            .env("BERTH_API_KEY", &self.token)
            .env("XDG_CONFIG_HOME", self.scratch().join("config"))
            .env("TERM", "xterm");
        command
    }
}

#[test]
fn a_network_that_is_cut_loses_and_doubles_nothing() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let network = Network::to(platform.api_port, Some(400_000));
    let text = platform.scratch().join("numbers");
    fs::write(&text, (0..700_000).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
    let back = platform.scratch().join("back");
    let mut through = platform.run_through(&network, &["--stdin", "--", "cat; exit 9"]);
    through.stdin(File::open(&text).unwrap()).stdout(File::create(&back).unwrap()).stderr(Stdio::piped());
    let ended = through.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(9), "{said}");
    assert!(fs::read(&text).unwrap() == fs::read(&back).unwrap(), "not what was sent: {said}");
    assert!(network.cuts.load(Ordering::SeqCst) > 10, "{said}");
    assert!(said.contains("trying to come back"), "{said}");
}

#[test]
fn a_terminal_outlives_the_network() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let network = Network::to(platform.api_port, None);
    let mut terminal = Terminal::start(&mut platform.run_through(&network, &["--", "bash --norc"]));
    terminal.waits_for("bash-");
    terminal.types("tty; stty size; echo in $DYNO $TERM\r");
    terminal.waits_for("/dev/pts/");
    terminal.waits_for("24 80");
    terminal.waits_for("in run.");
    terminal.resize(50, 132);
    wait_until("the terminal of the one-off has another size", || {
        terminal.types("stty size\r");
        terminal.text().contains("50 132")
    });
    // What is written and typed while there is no network comes when there is one.
    terminal.types("(while [ ! -e /tmp/go ]; do sleep 0.01; done; echo came $((40 + 2))) &\r");
    network.is_down.store(true, Ordering::SeqCst);
    network.cut();
    terminal.waits_for("trying to come back");
    terminal.types("touch /tmp/go; echo typed $((6 * 7))\r");
    network.is_down.store(false, Ordering::SeqCst);
    terminal.waits_for("came 42");
    terminal.waits_for("typed 42");
    terminal.types("exit 5\r");
    assert_eq!(terminal.ends().code, Some(5));
}

#[test]
fn signals_reach_the_one_off_and_leaving_hangs_it_up() {
    let Some(platform) = TestPlatform::start() else { return };
    platform.python_web("shop");
    let network = Network::to(platform.api_port, None);
    let line = "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.01; done";
    let start = |line: &str| {
        let mut command = platform.run_through(&network, &["--stdin", "--", line]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = start(line);
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut seen = [0; 6];
    out.read_exact(&mut seen).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(rest.ends_with("told\n"), "{rest}");

    let mut child = start("trap '' INT; echo ready; sleep 1000");
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut seen).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    platform.logged("shop", "Client connection closed. Sending SIGHUP to all processes");
    wait_until("the one-off is gone", || platform.dynos("shop").len() == 1);

    // What says no to the request is said.
    let refused = ran(platform.run_through(&network, &["--stdin", "--size", "huge", "true"]).stdin(Stdio::null()));
    assert_eq!(refused.code, Some(1));
    refused.shows("No such dyno size");
}
