//! More requests than the dynos can serve: how many are answered while somebody still waits for them.
//!
//! Dynos and clients are `crates/router/examples/overload`: workers that take one request at a time behind a backlog
//! of 2,048 connections, and requests at random times that do not wait for each other and give up after 5 s. A good
//! answer is a 200 within 1 s. Berth is not told how many workers a dyno has, and starts cold in every row.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use super::chosen::is_chosen;
use super::platform::{free_port, release_build, signal, wait};
use crate::root;

const HOST: &str = "bench.example";
const GOOD_SECONDS: f64 = 1.0;
/// How long each load lasts, and the half load behind it in which it is seen whether the proxy recovers.
const LOAD_SECONDS: f64 = 15.0;
const RECOVERY_SECONDS: f64 = 6.0;
const LOADS: [f64; 5] = [0.5, 1.0, 2.0, 5.0, 10.0];
const PROXIES: [&str; 4] = ["nginx", "haproxy", "haproxy-told", "berth"];

/// Requests per second up to which generator, proxy and dynos share two cores without being the limit themselves.
const RATE_MAX: f64 = 2_000.0;

/// Dynos of one kind.
#[derive(Debug, Clone)]
struct Fleet {
    workers: u32,
    service_ms: Vec<u32>,
}

impl Fleet {
    fn even(workers: u32, service_ms: u32) -> Self {
        Self { workers, service_ms: vec![service_ms; 4] }
    }

    /// Requests per second.
    fn capacity(&self) -> f64 {
        self.service_ms.iter().map(|ms| f64::from(self.workers) * 1000.0 / f64::from(*ms)).sum()
    }
}

pub(super) fn run() -> Result<()> {
    let programs = Programs::find()?;
    let fleet = Fleet::even(2, 50);
    for (kept, name) in [("NEW", "new connections"), ("KEPT", "kept connections")] {
        if !is_chosen("BERTH_BENCH_CONNECTIONS", kept) {
            continue;
        }
        println!("4 dynos x 2 workers x 50 ms = {:.0} requests/s, {name}", fleet.capacity());
        println!("good answers in % of what is possible | median ms of the good | seconds until half load is served");
        for proxy in wanted() {
            let loads = LOADS.into_iter().filter(|load| is_chosen("BERTH_BENCH_LOADS", &load.to_string()));
            let cells = loads.map(|load| programs.cell(proxy, &fleet, kept, load));
            let cells: Vec<String> = cells.collect::<Result<_>>()?;
            println!("  {proxy:<13} {}", cells.join("   "));
        }
    }
    Ok(())
}

/// `BERTH_BENCH_PROXIES=haproxy-told,berth` measures these alone: all of them take a quarter of an hour.
fn wanted() -> impl Iterator<Item = &'static str> {
    PROXIES.into_iter().filter(|proxy| is_chosen("BERTH_BENCH_PROXIES", proxy))
}

/// The seed that requests' times are drawn from: `BERTH_BENCH_ARRIVALS`.
fn arrivals() -> String {
    std::env::var("BERTH_BENCH_ARRIVALS").unwrap_or_else(|_unset| "7".to_owned())
}

/// Dynos drawn from a seed, `LANES` of them: no constant fits all. A change of the workers in the middle.
pub(super) fn lanes() -> Result<()> {
    let programs = Programs::find()?;
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2026);
    let mut draw = Draw(seed | 1);
    println!(
        "SEED={seed}, cold, 2x, 5x and 10x the capacity, new connections; berth is not told the number of workers"
    );
    let wanted_lanes = std::env::var("LANES").ok().and_then(|lanes| lanes.parse().ok()).unwrap_or(6);
    let mut lanes = 0;
    while lanes < wanted_lanes {
        let workers = draw.between(1.0, 40.0);
        let fleet = Fleet::even(workers, draw.between(5.0, 500.0));
        if fleet.capacity() * 10.0 > RATE_MAX {
            continue;
        }
        lanes += 1;
        println!("  {workers:>2} workers x {:>3} ms", fleet.service_ms[0]);
        for proxy in ["haproxy-told", "berth"] {
            let cells = [2.0, 5.0, 10.0].map(|load| programs.cell(proxy, &fleet, "NEW", load));
            let cells: Vec<String> = cells.into_iter().collect::<Result<_>>()?;
            println!("    {proxy:<13} {}", cells.join("   "));
        }
    }
    for (before, after) in [(2, 6), (6, 2)] {
        let fleet = Fleet::even(before, 50);
        let ours = programs.start("berth", &fleet)?;
        let larger = Fleet::even(after.max(before), 50).capacity();
        let mut load = ours.load("NEW", &[(25.0, 2.0 * larger)])?;
        std::thread::sleep(Duration::from_secs(10));
        ours.set_workers(after)?;
        let results = Results::of(&mut load)?;
        let share =
            |from, to, workers| results.good(from, to) / (Fleet::even(workers, 50).capacity() * (to - from)) * 100.0;
        println!(
            "  {before} workers become {after}: before {:.1} %, 5 s after {:.1} %, from then on {:.1} %",
            share(0.0, 10.0, before),
            share(10.0, 15.0, after),
            share(15.0, 25.0, after)
        );
    }
    Ok(())
}

/// One slow dyno, and freezes of the dynos and of the proxy.
pub(super) fn stutters() -> Result<()> {
    let programs = Programs::find()?;
    let slow = Fleet { workers: 2, service_ms: vec![50, 50, 50, 500] };
    if is_chosen("BERTH_BENCH_STUTTERS", "slow") {
        // A worker rests between two requests, and the machine is never idle: the nominal rates are not to be had.
        let measured = programs.measured_rate(&slow)?;
        println!("one dyno ten times slower, 2x, good answers in % of the sum of rates");
        println!("the dynos alone: {measured:.1} requests/s, {:.1} % of nominal", measured / slow.capacity() * 100.0);
        for proxy in wanted() {
            let ours = programs.start(proxy, &slow)?;
            let mut load = ours.load("NEW", &[(LOAD_SECONDS, 2.0 * slow.capacity())])?;
            let results = Results::of(&mut load)?;
            let share = results.answered_well(0.0, LOAD_SECONDS) / (measured * LOAD_SECONDS) * 100.0;
            println!("  {proxy:<13} {share:>5.1} | {:>3.0}", results.median_good() * 1000.0);
        }
    }
    let fleet = Fleet::even(2, 50);
    println!("0.8x load: good answers in % of those that came from 0.5 s after a freeze on | slowest refusal in s");
    for proxy in wanted() {
        let mut cells = Vec::new();
        for (who, seconds) in [("dynos", 2.0), ("proxy", 2.0), ("dynos", 10.0)] {
            if !is_chosen("BERTH_BENCH_STUTTERS", &format!("{who}-{seconds}")) {
                continue;
            }
            let ours = programs.start(proxy, &fleet)?;
            let mut load = ours.load("NEW", &[(5.0 + seconds + 10.0, 0.8 * fleet.capacity())])?;
            std::thread::sleep(Duration::from_secs(5));
            let frozen = if who == "dynos" { &ours.dynos } else { &ours.proxy };
            signal(frozen.id(), "STOP");
            std::thread::sleep(Duration::from_secs_f64(seconds));
            signal(frozen.id(), "CONT");
            let results = Results::of(&mut load)?;
            let (from, to) = (5.0 + seconds + 0.5, 5.0 + seconds + 10.0);
            let share = results.good(from, to) / results.offered(from, to).max(1.0) * 100.0;
            cells.push(format!("{who} {seconds:.0} s: {share:>5.1} | {:.2}", results.slowest_refusal()));
        }
        println!("  {proxy:<13} {}", cells.join("   "));
    }
    Ok(())
}

/// An app under ten times its capacity beside one at half of it.
pub(super) fn neighbour() -> Result<()> {
    let programs = Programs::find()?;
    let fleet = Fleet::even(2, 50);
    let both = Fleet { workers: 2, service_ms: vec![50; 8] };
    let ours = programs.start("berth", &both)?;
    let quiet = |name: &str, with: &mut dyn FnMut() -> Result<Option<Child>>| -> Result<f64> {
        let mut other = with()?;
        let mut load = ours.clients("b.example", "NEW", &[(10.0, 0.5 * fleet.capacity())])?;
        let results = Results::of(&mut load)?;
        if let Some(other) = &mut other {
            signal(other.id(), "KILL");
            other.wait()?;
        }
        let p99 = results.percentile(0.99);
        println!("  {name:<40} p99 {:.1} ms, good {:.1} %", p99 * 1000.0, results.share() * 100.0);
        Ok(p99)
    };
    println!("app B at half its capacity");
    quiet("alone", &mut || Ok(None))?;
    // As much CPU as the flood costs, but not through this router.
    let elsewhere = programs.start("berth", &both)?;
    let hog = quiet("beside the same flood through another router", &mut || {
        Ok(Some(elsewhere.load("NEW", &[(10.0, 10.0 * fleet.capacity())])?))
    })?;
    drop(elsewhere);
    let flood = quiet("beside app A at ten times its capacity", &mut || {
        Ok(Some(ours.load("NEW", &[(10.0, 10.0 * fleet.capacity())])?))
    })?;
    println!("  ratio of the last two {:.2}, goal 1.2", flood / hog);
    Ok(())
}

struct Programs {
    berth: PathBuf,
    ends: PathBuf,
}

/// Builds both ends of the benchmark.
pub(super) fn generator() -> Result<PathBuf> {
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--quiet", "--package", "router", "--example", "overload"])
        .current_dir(root())
        .status()?;
    if !built.success() {
        bail!("the build of the load generator failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release/examples/overload"))
}

impl Programs {
    fn find() -> Result<Self> {
        for program in ["nginx", "haproxy"] {
            let found =
                Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status()?;
            if !found.success() {
                bail!("{program} is missing: apt-get install {program}");
            }
        }
        let berth = release_build()?;
        Ok(Self { berth, ends: generator()? })
    }

    fn cell(&self, proxy: &str, fleet: &Fleet, kept: &str, load: f64) -> Result<String> {
        let ours = self.start(proxy, fleet)?;
        let (capacity, end) = (fleet.capacity(), LOAD_SECONDS + RECOVERY_SECONDS);
        let mut clients = ours.load(kept, &[(LOAD_SECONDS, capacity * load), (RECOVERY_SECONDS, capacity * 0.5)])?;
        let results = Results::of(&mut clients)?;
        let possible = results.offered(0.0, LOAD_SECONDS).min(capacity * LOAD_SECONDS);
        let good = results.answered_well(0.0, LOAD_SECONDS) / possible * 100.0;
        let recovered = results.recovered(LOAD_SECONDS, end).map_or(" never".to_owned(), |s| format!("{s:>4.1} s"));
        Ok(format!("{load:>4}x {good:>5.1} | {:>3.0} | {recovered}", results.median_good() * 1000.0))
    }

    /// Requests per second that the dynos answer without a proxy, when each always has enough of them.
    fn measured_rate(&self, fleet: &Fleet) -> Result<f64> {
        const WARM_SECONDS: f64 = 1.0;
        const SECONDS: f64 = 10.0;
        let (mut dynos, ports) = self.dynos(fleet)?;
        let loads = ports.iter().zip(&fleet.service_ms).map(|(port, ms)| {
            let rate = 1.5 * f64::from(fleet.workers) * 1000.0 / f64::from(*ms);
            Ok(Command::new(&self.ends)
                .args([
                    "clients",
                    &port.to_string(),
                    HOST,
                    "NEW",
                    &arrivals(),
                    &format!("{}:{rate}", WARM_SECONDS + SECONDS),
                ])
                .stdout(Stdio::piped())
                .spawn()?)
        });
        let loads = loads.collect::<Result<Vec<Child>>>()?;
        let mut answers = 0.0;
        for mut load in loads {
            let results = Results::of(&mut load)?;
            answers += results.answered(WARM_SECONDS, WARM_SECONDS + SECONDS);
        }
        dynos.kill()?;
        dynos.wait()?;
        Ok(answers / SECONDS)
    }

    fn dynos(&self, fleet: &Fleet) -> Result<(Child, Vec<u16>)> {
        let ports = fleet.service_ms.iter().map(|_ms| free_port()).collect::<Result<Vec<u16>>>()?;
        let described = ports.iter().zip(&fleet.service_ms);
        let described = described.map(|(port, ms)| format!("{port}:{}:{ms}", fleet.workers));
        let dynos = Command::new(&self.ends).arg("dynos").args(described).stdin(Stdio::piped()).spawn()?;
        for port in &ports {
            wait("a dyno listens", Duration::from_secs(20), || {
                std::net::TcpStream::connect(("127.0.0.1", *port)).ok().map(drop)
            })?;
        }
        Ok((dynos, ports))
    }

    fn start(&self, proxy: &str, fleet: &Fleet) -> Result<Running> {
        let dir = tempfile::Builder::new().prefix("berth-bench-").tempdir()?;
        let (dynos, ports) = self.dynos(fleet)?;
        let port = free_port()?;
        // A master of nginx that is killed leaves its worker behind, with everything that it has open.
        let ending = if proxy == "nginx" { "TERM" } else { "KILL" };
        let proxy = match proxy {
            "berth" => self.router(dir.path(), port, &ports)?,
            "nginx" => {
                let config = configuration(dir.path(), "nginx.conf", port, &ports, fleet.workers)?;
                Command::new("nginx").arg("-c").arg(config).stderr(Stdio::null()).spawn()?
            }
            told => {
                let config = configuration(dir.path(), &format!("{told}.cfg"), port, &ports, fleet.workers)?;
                Command::new("haproxy").arg("-f").arg(config).stderr(Stdio::null()).spawn()?
            }
        };
        let running = Running { _dir: dir, ends: self.ends.clone(), port, dynos, proxy, ending };
        wait("the proxy listens", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        })?;
        Ok(running)
    }

    /// A router of our own that serves an app from the first four dynos, and another one from the others.
    fn router(&self, dir: &Path, port: u16, dynos: &[u16]) -> Result<Child> {
        fs::create_dir_all(dir.join("router"))?;
        let app = |number: u32, host: &str, ports: &[u16]| {
            let dyno = |(index, port): (usize, &u16)| {
                format!(
                    "{{\"dyno\":\"00000000-0000-4000-9000-{number:04}{index:08}\",\"name\":\"web.{}\",\
                     \"address\":\"127.0.0.1:{port}\"}}",
                    index + 1
                )
            };
            let dynos: Vec<String> = ports.iter().enumerate().map(dyno).collect();
            format!(
                "{{\"app\":\"00000000-0000-4000-8000-{number:012}\",\"name\":\"app-{number}\",\"hosts\":[\"{host}\"],\
                 \"availability\":\"serving\",\"dynos\":[{}]}}",
                dynos.join(",")
            )
        };
        let (first, others) = dynos.split_at(dynos.len().min(4));
        let (a, b) = (app(1, HOST, first), app(2, "b.example", others));
        fs::write(dir.join("router/table.json"), format!("{{\"generation\":1,\"apps\":[{a},{b}]}}"))?;
        let child = Command::new(&self.berth)
            .args(["router", "--http-port", &port.to_string(), "--data-dir"])
            .arg(dir)
            .stderr(fs::File::create(dir.join("log"))?)
            .spawn()?;
        Ok(child)
    }
}

/// A proxy with its dynos. Both end with it.
struct Running {
    _dir: tempfile::TempDir,
    ends: PathBuf,
    port: u16,
    dynos: Child,
    proxy: Child,
    /// The signal that ends the proxy.
    ending: &'static str,
}

impl Running {
    fn load(&self, kept: &str, phases: &[(f64, f64)]) -> Result<Child> {
        self.clients(HOST, kept, phases)
    }

    fn clients(&self, host: &str, kept: &str, phases: &[(f64, f64)]) -> Result<Child> {
        let phases = phases.iter().map(|(seconds, rate)| format!("{seconds}:{rate}"));
        let clients = Command::new(&self.ends)
            .args(["clients", &self.port.to_string(), host, kept, &arrivals()])
            .args(phases)
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(clients)
    }

    fn set_workers(&self, workers: u32) -> Result<()> {
        if let Some(mut input) = self.dynos.stdin.as_ref() {
            // In one piece: half a line would be taken for a line.
            input.write_all(format!("{workers}\n").as_bytes())?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (child, ending) in [(&mut self.proxy, self.ending), (&mut self.dynos, "KILL")] {
            signal(child.id(), ending);
            // They were ours, so they can be waited for.
            child.wait().ok();
        }
    }
}

fn configuration(dir: &Path, name: &str, port: u16, dynos: &[u16], workers: u32) -> Result<PathBuf> {
    let servers = |line: &dyn Fn((usize, &u16)) -> String| dynos.iter().enumerate().map(line).collect::<Vec<_>>();
    let text = fs::read_to_string(root().join("xtask/bench/overload").join(name))?
        .replace("@dir@", &dir.display().to_string())
        .replace("@port@", &port.to_string())
        .replace("@nginx_servers@", &servers(&|(_index, port)| format!("server 127.0.0.1:{port};")).join(" "))
        .replace("@haproxy_servers@", &servers(&|(i, port)| format!("server d{i} 127.0.0.1:{port}")).join("\n  "))
        .replace(
            "@told_servers@",
            &servers(&|(i, port)| format!("server d{i} 127.0.0.1:{port} maxconn {workers}")).join("\n  "),
        );
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// Requests of one run: when they began, how long they took, the status.
struct Results(Vec<(f64, f64, u16)>);

impl Results {
    fn of(clients: &mut Child) -> Result<Self> {
        let mut text = String::new();
        if let Some(mut output) = clients.stdout.take() {
            std::io::Read::read_to_string(&mut output, &mut text)?;
        }
        clients.wait()?;
        let line = |line: &str| {
            let mut words = line.split(' ').map(|word| word.parse::<f64>().unwrap_or_default());
            let (at, took, status) = (words.next()?, words.next()?, words.next()?);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a status")]
            Some((at / 1e6, took / 1e6, status as u16))
        };
        let results: Vec<_> = text.lines().filter_map(line).collect();
        if results.is_empty() {
            bail!("no request was made");
        }
        Ok(Self(results))
    }

    fn good_ones(&self) -> impl Iterator<Item = &(f64, f64, u16)> {
        self.0.iter().filter(|(_at, took, status)| *status == 200 && *took <= GOOD_SECONDS)
    }

    fn good(&self, from: f64, to: f64) -> f64 {
        count(self.good_ones().filter(|(at, ..)| (from..to).contains(at)))
    }

    /// Good answers that came in this time. What waits at its end is not done in it: a long queue would be a bonus.
    fn answered_well(&self, from: f64, to: f64) -> f64 {
        count(self.good_ones().filter(|(at, took, _status)| (from..to).contains(&(at + took))))
    }

    /// Answers that came in this time, however late.
    fn answered(&self, from: f64, to: f64) -> f64 {
        let ones = self.0.iter().filter(|(_at, _took, status)| *status == 200);
        count(ones.filter(|(at, took, _status)| (from..to).contains(&(at + took))))
    }

    fn offered(&self, from: f64, to: f64) -> f64 {
        count(self.0.iter().filter(|(at, ..)| (from..to).contains(at)))
    }

    fn share(&self) -> f64 {
        count(self.good_ones()) / count(self.0.iter())
    }

    fn median_good(&self) -> f64 {
        let mut times: Vec<f64> = self.good_ones().map(|(_at, took, _status)| *took).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    fn percentile(&self, share: f64) -> f64 {
        let mut times: Vec<f64> = self.0.iter().map(|(_at, took, _status)| *took).collect();
        times.sort_by(f64::total_cmp);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (share * count(self.0.iter())) as usize;
        times.get(index.min(times.len() - 1)).copied().unwrap_or_default()
    }

    fn slowest_refusal(&self) -> f64 {
        let refused = self.0.iter().filter(|(_at, _took, status)| *status == 503);
        refused.map(|(_at, took, _status)| *took).fold(0.0, f64::max)
    }

    /// How long after `from` it takes until nine of ten requests are answered well, in half seconds.
    fn recovered(&self, from: f64, to: f64) -> Option<f64> {
        let mut at = from;
        while at < to {
            if self.good(at, to) >= 0.95 * self.offered(at, to) {
                return Some(at - from);
            }
            at += 0.5;
        }
        None
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests of some seconds")]
fn count<T>(items: impl Iterator<Item = T>) -> f64 {
    items.count() as f64
}

/// Numbers from a seed.
struct Draw(u64);

impl Draw {
    /// Between the two, evenly on a logarithmic scale.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small numbers"
    )]
    fn between(&mut self, from: f64, to: f64) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let unit = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64;
        (from * (unit * (to / from).ln()).exp()).round() as u32
    }
}
