//! CPU per request of the router beside nginx and HAProxy, all pinned to one core, loaded in turn from the other one.
//!
//! Peers come from the system's packages and run with the configurations in `xtask/bench/router`. All three log every
//! request, keep connections to the origin, and set the same headers. Rounds alternate the order; the ratio is taken
//! within each round, so that a machine that slows down slows all of them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::figure;
use super::platform::{free_port, release_build, signal, wait};
use super::processes;
use crate::root;

const ROUNDS: usize = 10;
const SECONDS: &str = "1";
/// About as many as a second's. `h2load` opens new connections for ever where it is given a time.
const SESSIONS: &str = "2000";
/// The proxies' core, and the load's.
pub(super) const PROXY_CORE: &str = "0";
pub(super) const LOAD_CORE: &str = "1";
const IDLE_CONNECTIONS: usize = 1_000;
const MANY_APPS: usize = 10_000;
/// Student's t for nine degrees of freedom: a 95 % interval of ten rounds.
const T_95: f64 = 2.262;

pub(super) const NAMES: [&str; 3] = ["berth", "nginx", "haproxy"];

/// One way to load a proxy.
struct Cell {
    name: &'static str,
    load: Load,
    /// Goals for the ratios to nginx and to HAProxy.
    goal: Option<f64>,
}

#[derive(Clone, Copy)]
enum Load {
    Http1 {
        path: &'static str,
        connections: u32,
        tls: bool,
        new: bool,
    },
    /// A TLS session for each request: nothing is resumed.
    Sessions,
    Http2,
}

const fn http1(name: &'static str, path: &'static str, connections: u32, goal: f64) -> Cell {
    Cell { name, load: Load::Http1 { path, connections, tls: false, new: false }, goal: Some(goal) }
}

const CELLS: [Cell; 9] = [
    http1("HTTP/1.1, 200 bytes, 64 connections", "/200", 64, 1.15),
    http1("HTTP/1.1, 200 bytes, 256 connections", "/200", 256, 1.15),
    http1("HTTP/1.1, 10 KB, 64 connections", "/10k", 64, 1.15),
    http1("HTTP/1.1, 10 KB, 256 connections", "/10k", 256, 1.15),
    Cell {
        name: "TLS 1.3, kept, 200 bytes",
        load: Load::Http1 { path: "/200", connections: 64, tls: true, new: false },
        goal: Some(0.90),
    },
    Cell {
        name: "TLS 1.3, kept, 10 KB",
        load: Load::Http1 { path: "/10k", connections: 64, tls: true, new: false },
        goal: Some(0.90),
    },
    Cell { name: "TLS 1.3, a new session each", load: Load::Sessions, goal: Some(0.60) },
    Cell {
        name: "TLS 1.3, a resumed session each",
        load: Load::Http1 { path: "/200", connections: 32, tls: true, new: true },
        goal: Some(0.60),
    },
    Cell { name: "HTTP/2 over TLS, 32 connections x 8", load: Load::Http2, goal: Some(0.90) },
];

pub(super) fn run() -> Result<()> {
    for (program, package) in [
        ("nginx", "nginx"),
        ("haproxy", "haproxy"),
        ("wrk", "wrk"),
        ("h2load", "nghttp2-client"),
        ("openssl", "openssl"),
    ] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status()?;
        if !found.success() {
            bail!("{program} is missing: apt-get install {package}");
        }
    }
    let some = std::env::var("BERTH_BENCH_CELLS").ok();
    let is_wanted =
        |cell: &&Cell| some.as_ref().is_none_or(|some| some.split(',').any(|part| cell.name.contains(part)));
    let bench = Bench::start(&std::env::temp_dir())?;
    let mut geometric = [Vec::new(), Vec::new()];
    for cell in CELLS.iter().filter(is_wanted) {
        let mut rounds: [Vec<f64>; NAMES.len()] = Default::default();
        for round in 0..ROUNDS {
            for step in 0..NAMES.len() {
                let proxy = (round + step) % NAMES.len();
                rounds[proxy].push(bench.cpu_per_request(proxy, cell.load)?);
            }
        }
        let [ours, nginx, haproxy] = &rounds;
        for (peer, name, ratios) in [(nginx, "nginx", 0), (haproxy, "HAProxy", 1)] {
            let ratio = Interval::of_ratios(ours, peer);
            if matches!(cell.load, Load::Http1 { tls: false, .. }) {
                geometric[ratios].push(ratio.mean);
            }
            let goal = match cell.goal {
                // Goals for TLS and HTTP/2 are about nginx.
                Some(goal) if name == "nginx" || goal > 1.0 => {
                    let verdict = if ratio.mean <= goal { "met" } else { "MISSED" };
                    format!("  goal <= {goal}: {verdict}")
                }
                _ => String::new(),
            };
            println!(
                "{:<38} {:>7.2} us  {name:<7} {:>7.2} us  ratio {:.3} +- {:.3}{goal}",
                cell.name,
                mean(ours) * 1e6,
                mean(peer) * 1e6,
                ratio.mean,
                ratio.half_width
            );
        }
    }
    if some.is_some() {
        return Ok(());
    }
    for (name, ratios) in ["nginx", "HAProxy"].iter().zip(&geometric) {
        let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
        let ratio = mean(&logs).exp();
        let verdict = if ratio <= 1.0 { "met" } else { "MISSED" };
        println!("HTTP/1.1, geometric mean, to {name:<7} ratio {ratio:.3}  goal <= 1: {verdict}");
    }
    bench.many_apps()?;
    bench.two_threads()?;
    bench.idle_memory()
}

/// Memory of idle connections alone.
pub(super) fn idle() -> Result<()> {
    Bench::start(&std::env::temp_dir())?.idle_memory()
}

pub(super) struct Bench {
    dir: tempfile::TempDir,
    berth: PathBuf,
    origin: Child,
    origin_port: u16,
    proxies: Vec<Proxy>,
}

struct Proxy {
    process: Child,
    plain: u16,
    tls: u16,
}

/// A router of our own with its data directory.
pub(super) struct Router {
    proxy: Proxy,
    pub(super) data: PathBuf,
    origin_port: u16,
}

impl Router {
    /// An app as the table has it, with more hosts and with its dyno in another version.
    pub(super) fn app(&self, number: usize, more_hosts: &[String], version: usize) -> String {
        let hosts = [format!("app-{number}.example"), format!("www.app-{number}.example")];
        app_route(number, &[&hosts, more_hosts].concat(), version, self.origin_port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        end(&mut self.origin);
    }
}

fn end(process: &mut Child) {
    // A master that is killed leaves its workers behind.
    tree(process.id()).into_iter().for_each(|pid| signal(pid, "KILL"));
    // It was ours, so it can be waited for.
    process.wait().ok();
}

impl Bench {
    pub(super) fn start(parent: &Path) -> Result<Self> {
        let berth = release_build()?;
        let dir = tempfile::Builder::new().prefix("berth-bench-").tempdir_in(parent)?;
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        fs::write(dir.path().join("200"), "x".repeat(200))?;
        fs::write(dir.path().join("10k"), "x".repeat(10 * 1024))?;
        let certificate = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=bench.example", "-addext", "subjectAltName=DNS:bench.example"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status()?;
        if !certificate.success() {
            bail!("openssl: {certificate}");
        }
        let pem = |name: &str| fs::read_to_string(dir.path().join(name));
        fs::write(dir.path().join("both.pem"), format!("{}{}", pem("cert.pem")?, pem("key.pem")?))?;
        let origin_port = free_port()?;
        let config = configuration(dir.path(), "origin.conf", origin_port, 0, 0)?;
        let origin = pinned(LOAD_CORE, "nginx").arg("-c").arg(config).stderr(Stdio::null()).spawn()?;
        let mut bench = Self { dir, berth, origin, origin_port, proxies: Vec::new() };
        for name in NAMES {
            bench.proxies.push(bench.proxy(name, "one")?);
        }
        Ok(bench)
    }

    /// Leaves its port to another one.
    pub(super) fn end_origin(&mut self) {
        end(&mut self.origin);
    }

    pub(super) fn plain_port(&self, proxy: usize) -> u16 {
        self.proxies[proxy].plain
    }

    pub(super) const fn origin_port(&self) -> u16 {
        self.origin_port
    }

    /// Starts a router with a table of so many apps, and waits until it answers.
    pub(super) fn router(&self, name: &str, apps: usize, cores: &str) -> Result<Router> {
        let (plain, tls) = (free_port()?, free_port()?);
        let process = self.start_router(name, apps, cores, plain, tls)?;
        let proxy = Proxy { process, plain, tls };
        wait("the router answers", Duration::from_secs(30), || super::platform::get(plain, "bench.example").ok())?;
        Ok(Router { proxy, data: self.dir.path().join(name), origin_port: self.origin_port })
    }

    /// Starts one of the three, whose files have names that begin with `tag`, and waits until it answers.
    fn proxy(&self, name: &str, tag: &str) -> Result<Proxy> {
        let (plain, tls) = (free_port()?, free_port()?);
        let configured = |template: &str| configuration(self.dir.path(), template, self.origin_port, plain, tls);
        let process = match name {
            "berth" => self.start_router(tag, 1, PROXY_CORE, plain, tls)?,
            "nginx" => {
                let config = configured("nginx.conf")?;
                pinned(PROXY_CORE, "nginx").arg("-c").arg(config).stderr(Stdio::null()).spawn()?
            }
            _haproxy => {
                let config = configured("haproxy.cfg")?;
                pinned(PROXY_CORE, "haproxy").arg("-f").arg(config).stderr(Stdio::null()).spawn()?
            }
        };
        let proxy = Proxy { process, plain, tls };
        wait("the proxy answers", Duration::from_secs(20), || super::platform::get(plain, "bench.example").ok())?;
        Ok(proxy)
    }

    /// A router of our own with a table of so many apps, the last of which is the one that is asked.
    fn start_router(&self, name: &str, apps: usize, cores: &str, plain: u16, tls: u16) -> Result<Child> {
        let data = self.dir.path().join(name);
        fs::create_dir_all(data.join("router"))?;
        let pem = |name: &str| fs::read_to_string(self.dir.path().join(name));
        let escaped = |text: String| text.replace('\n', "\\n");
        let app = |number: usize| {
            let hosts = if number + 1 == apps {
                ["127.0.0.1".to_owned(), "bench.example".to_owned()]
            } else {
                [format!("app-{number}.example"), format!("www.app-{number}.example")]
            };
            app_route(number, &hosts, 0, self.origin_port)
        };
        let apps: Vec<String> = (0..apps).map(app).collect();
        let table = format!(
            "{{\"generation\":1,\"apps\":[{}],\"certificates\":[{{\"certificate\":\"00000000-0000-4000-a000-000000000000\",\
             \"hosts\":[\"bench.example\"],\"chain\":\"{}\",\"key\":\"{}\",\"fallback\":true}}]}}",
            apps.join(","),
            escaped(pem("cert.pem")?),
            escaped(pem("key.pem")?)
        );
        fs::write(data.join("router/table.json"), table)?;
        let child = pinned(cores, &self.berth.display().to_string())
            .args(["router", "--http-port", &plain.to_string(), "--https-port", &tls.to_string(), "--data-dir"])
            .arg(&data)
            .stderr(fs::File::create(data.join("log"))?)
            .spawn()?;
        Ok(child)
    }

    /// Seconds of CPU for one request.
    fn cpu_per_request(&self, proxy: usize, load: Load) -> Result<f64> {
        let Proxy { process, plain, tls } = &self.proxies[proxy];
        cost(process.id(), *plain, *tls, load, LOAD_CORE)
    }

    fn many_apps(&self) -> Result<()> {
        let many = self.router("many", MANY_APPS, PROXY_CORE)?.proxy;
        let load = CELLS[0].load;
        let (mut with_many, mut with_one) = (Vec::new(), Vec::new());
        for _round in 0..ROUNDS {
            with_many.push(cost(many.process.id(), many.plain, many.tls, load, LOAD_CORE)?);
            with_one.push(self.cpu_per_request(0, load)?);
        }
        compare("10,000 apps with two hosts each, to one app", &with_many, &with_one, 1.05);
        Ok(())
    }

    /// The same load over one thread and over two, which share table, counts and queues.
    fn two_threads(&self) -> Result<()> {
        let one = self.router("thread-1", 1, PROXY_CORE)?.proxy;
        let two = self.router("threads-2", 1, "0,1")?.proxy;
        let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
        for _round in 0..ROUNDS {
            of_two.push(cost(two.process.id(), two.plain, two.tls, CELLS[0].load, "0,1")?);
            of_one.push(cost(one.process.id(), one.plain, one.tls, CELLS[0].load, "0,1")?);
        }
        compare("two threads, to one", &of_two, &of_one, 1.08);
        Ok(())
    }

    /// Of processes that have served nothing before: memory that an earlier load left free would hide the cost.
    fn idle_memory(&self) -> Result<()> {
        for (what, tls, goal) in [("plain", false, 10.0), ("TLS", true, 32.0)] {
            for name in NAMES {
                let proxy = self.proxy(name, &format!("idle-{what}"))?;
                let port = if tls { proxy.tls } else { proxy.plain };
                let memory =
                    || tree(proxy.process.id()).into_iter().map(|pid| processes::memory(pid).private).sum::<f64>();
                let before = memory();
                let mut script = Command::new("python3")
                    .arg(root().join("xtask/bench/router/idle.py"))
                    .args([port.to_string(), IDLE_CONNECTIONS.to_string()])
                    .args(tls.then_some("tls"))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()?;
                let mut line = String::new();
                BufReader::new(script.stdout.take().context("no output")?).read_line(&mut line)?;
                #[expect(clippy::cast_precision_loss, reason = "a thousand connections")]
                let kib = (memory() - before) * 1024.0 / IDLE_CONNECTIONS as f64;
                drop(script.stdin.take());
                script.wait()?;
                if line.trim() != "ready" {
                    bail!("{name} did not take {IDLE_CONNECTIONS} {what} connections");
                }
                if name == "berth" {
                    let verdict = if kib <= goal { "met" } else { "MISSED" };
                    println!("an idle {what} connection: {name} {kib:.1} KiB  goal <= {goal} KiB: {verdict}");
                } else {
                    figure::note(&format!("an idle {what} connection: {name}"), "KiB", kib);
                }
            }
        }
        Ok(())
    }
}

/// Loads one proxy for a second and divides its CPU time by the requests that were answered.
fn cost(pid: u32, plain: u16, tls: u16, load: Load, cores: &str) -> Result<f64> {
    let before = cpu_seconds(pid);
    let requests = match load {
        Load::Http1 { path, connections, tls: secure, new } => {
            let (scheme, port) = if secure { ("https", tls) } else { ("http", plain) };
            let mut command = pinned(cores, "wrk");
            command.args(["-t1", &format!("-c{connections}"), &format!("-d{SECONDS}")]);
            // HTTP/1.1 needs a name for SNI's sake only; all proxies answer any.
            command.args(["-H", "Host: bench.example"]);
            if new {
                command.args(["-H", "Connection: close"]);
            }
            let output = command.arg(format!("{scheme}://127.0.0.1:{port}{path}")).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains("Non-2xx") || (text.contains("Socket errors") && !new) {
                bail!("wrk saw failures:\n{text}");
            }
            number_before(&text, " requests in")?
        }
        Load::Sessions => {
            // Every connection is a client's first one; those of `wrk` resume sessions.
            let output = pinned(cores, "h2load")
                .args(["--h1", "-c32", "-t1", "-n", SESSIONS, "-H", "Connection: close"])
                .arg(format!("https://127.0.0.1:{tls}/200"))
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            number_before(&text, " 2xx")?
        }
        Load::Http2 => {
            let output = pinned(cores, "h2load")
                .args(["-c32", "-m8", "-t1", "-D", SECONDS, &format!("https://127.0.0.1:{tls}/200")])
                .output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            number_before(&text, " 2xx")?
        }
    };
    if requests < 1.0 {
        bail!("no request was answered");
    }
    Ok((cpu_seconds(pid) - before) / requests)
}

/// CPU time of a process and its children, to the nanosecond.
fn cpu_seconds(pid: u32) -> f64 {
    let of_process = |pid: u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let nanoseconds = tasks.filter_map(|task| {
            fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<f64>().ok()
        });
        nanoseconds.sum::<f64>() / 1e9
    };
    tree(pid).into_iter().map(of_process).sum()
}

fn tree(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
    std::iter::once(pid).chain(children.flat_map(tree)).collect()
}

fn number_before(text: &str, words: &str) -> Result<f64> {
    let before = text.split(words).next().filter(|before| before.len() < text.len());
    let word = before.and_then(|before| before.split_whitespace().last());
    word.and_then(|word| word.trim_matches(',').parse().ok()).with_context(|| format!("no {words:?} in:\n{text}"))
}

fn app_route(number: usize, hosts: &[String], version: usize, port: u16) -> String {
    format!(
        "{{\"app\":\"00000000-0000-4000-8000-{number:012}\",\"name\":\"app-{number}\",\"hosts\":{hosts:?},\
         \"availability\":\"serving\",\"dynos\":[{{\"dyno\":\"00000000-0000-4000-9{version:03}-{number:012}\",\
         \"name\":\"web.1\",\"address\":\"127.0.0.1:{port}\",\"concurrency\":1000}}]}}"
    )
}

pub(super) fn pinned(cores: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cores, program]).stdin(Stdio::null());
    command
}

fn configuration(dir: &Path, name: &str, origin: u16, plain: u16, tls: u16) -> Result<PathBuf> {
    let template = fs::read_to_string(root().join("xtask/bench/router").join(name))?;
    let text = template
        .replace("@dir@", &dir.display().to_string())
        .replace("@origin@", &origin.to_string())
        .replace("@plain@", &plain.to_string())
        .replace("@tls@", &tls.to_string());
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// Prints the mean ratio of what is measured round by round, in seconds.
pub(super) fn compare(what: &str, measured: &[f64], floor: &[f64], goal: f64) {
    let ratio = Interval::of_ratios(measured, floor);
    let verdict = if ratio.mean <= goal { "met" } else { "MISSED" };
    println!(
        "{what:<46} {:>7.2} us  to {:>7.2} us  ratio {:.3} +- {:.3}  goal <= {goal}: {verdict}",
        mean(measured) * 1e6,
        mean(floor) * 1e6,
        ratio.mean,
        ratio.half_width
    );
}

/// A mean with its 95 % confidence interval.
struct Interval {
    mean: f64,
    half_width: f64,
}

impl Interval {
    /// Of what is measured round by round.
    fn of_ratios(above: &[f64], below: &[f64]) -> Self {
        let ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
        let middle = mean(&ratios);
        let squares: Vec<f64> = ratios.iter().map(|ratio| (ratio - middle).powi(2)).collect();
        #[expect(clippy::cast_precision_loss, reason = "ten rounds")]
        let count = ratios.len() as f64;
        let deviation = (squares.iter().sum::<f64>() / (count - 1.0)).sqrt();
        Self { mean: middle, half_width: T_95 * deviation / count.sqrt() }
    }
}

fn mean(values: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "ten rounds")]
    let count = values.len().max(1) as f64;
    values.iter().sum::<f64>() / count
}
