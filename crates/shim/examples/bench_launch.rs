//! Measures what a sandbox costs: `cargo run --release -p shim --example bench_launch`, as root, on a quiet machine.
//!
//! Start: from the shim's clone to the program's first words, with all namespaces, a network link, limits and filters,
//! back to back and with pauses (a kernel whose locks are cold takes longer), beside a bare spawn of the same program
//! in the same run. Memory: what shim and init hold alone, per dyno.
#![expect(clippy::print_stdout, reason = "it prints its result")]

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shim::client::{self, Connection};
use shim::host::host_interface;
use shim::supervisor::{self, Mode};
use uuid::Uuid;
use wire::segment::SegmentReader;
use wire::shim::{
    Environment, Identity, LOG_DIR, Limits, LogLimits, Mechanism, Mount, Network, PROTOCOL, Request, Spec, State,
};

type Failure = Box<dyn std::error::Error>;

const INSTANCE: &str = "be9c4ea1";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 1);
const BACK_TO_BACK: (usize, Duration) = (50, Duration::ZERO);
const COLD: (usize, Duration) = (15, Duration::from_millis(300));
const PRIVATE_KB_MAX: u64 = 600;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["say-when", ..] => say_when(arguments.len() > 1),
        ["shim", run_dir] => supervisor::run(Path::new(run_dir), Mode::Launch),
        _ => match bench() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// The measured program.
fn say_when(stay: bool) -> ExitCode {
    let now = now_ns();
    let said = writeln!(io::stdout(), "{now}");
    if stay {
        thread::sleep(Duration::from_secs(1000));
    }
    said.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or_default()
}

fn bench() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scratch = scratch_dir()?;
    let measured = runtime.block_on(measure(&scratch));
    fs::remove_dir_all(&scratch)?;
    client::clean_up(&env::temp_dir(), INSTANCE, &[], &[])?;
    measured
}

async fn measure(scratch: &Path) -> Result<(), Failure> {
    println!("load {}, kernel {}", read("/proc/loadavg")?, read("/proc/sys/kernel/osrelease")?);
    println!("{:<26}{:>8}{:>8}{:>8}   {:>8}", "start, ms", "min", "median", "p90", "x bare");
    let mut in_force = Vec::new();
    for (title, (count, pause), goal_ms) in [("back to back", BACK_TO_BACK, 10.0), ("cold", COLD, 20.0)] {
        let (mut bare, mut sandbox) = (Vec::new(), Vec::new());
        for _ in 0..count {
            thread::sleep(pause);
            bare.push(bare_start()?);
        }
        for number in 0..count {
            thread::sleep(pause);
            let (took, state) = sandbox_start(scratch, number).await?;
            sandbox.push(took);
            in_force = state.in_force;
        }
        let floor = row(&format!("bare spawn, {title}"), &mut bare, None);
        let median = row(&format!("sandbox, {title}"), &mut sandbox, Some(floor));
        let verdict = if median <= goal_ms { "met" } else { "MISSED" };
        println!("{:<26}goal {goal_ms} ms {verdict}", "");
    }
    println!("in force: {in_force:?}");
    if !in_force.contains(&Mechanism::NetworkNamespace) {
        println!("not everything: the figures are too good");
    }
    memory(scratch).await
}

fn bare_start() -> Result<f64, Failure> {
    let started = now_ns();
    let mut child = Command::new(env::current_exe()?).arg("say-when").env_clear().stdout(Stdio::piped()).spawn()?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    child.wait()?;
    Ok(milliseconds(started, text.trim().parse()?))
}

async fn sandbox_start(scratch: &Path, number: usize) -> Result<(f64, State), Failure> {
    let (run_dir, spec) = dyno(scratch, u8::try_from(number + 2)?, &["/bench/program", "say-when"])?;
    let state = client::launch(&env::current_exe()?, &run_dir, &spec, &Environment::new()).await?;
    let said = first_line(&run_dir)?;
    while process_runs(state.shim.pid) {
        thread::sleep(Duration::from_millis(1));
    }
    fs::remove_dir_all(&run_dir)?;
    let cloned = state.cloned_at_monotonic_ns.ok_or("the shim did not say when it cloned")?;
    Ok((milliseconds(cloned, said.parse()?), state))
}

/// What shim and init of one dyno hold that nobody else has.
async fn memory(scratch: &Path) -> Result<(), Failure> {
    let (run_dir, spec) = dyno(scratch, 200, &["/bench/program", "say-when", "and stay"])?;
    let state = client::launch(&env::current_exe()?, &run_dir, &spec, &Environment::new()).await?;
    first_line(&run_dir)?;
    let mut connection = Connection::connect(&run_dir, INSTANCE).await?;
    connection.request(&Request::Statistics).await?;
    let (shim, init) = (private_kb(state.shim.pid)?, private_kb(state.init.pid)?);
    let verdict = if shim + init <= PRIVATE_KB_MAX { "met" } else { "MISSED" };
    println!("private memory, kB: shim {shim} + init {init} = {}, goal {PRIVATE_KB_MAX} {verdict}", shim + init);
    connection.request(&Request::Kill).await?;
    connection.exited().await?;
    while process_runs(state.shim.pid) {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn dyno(scratch: &Path, last: u8, command: &[&str]) -> Result<(PathBuf, Spec), Failure> {
    let id = Uuid::new_v4();
    let address = Ipv4Addr::new(10, 213, 79, last);
    let spec = Spec {
        protocol: PROTOCOL,
        instance: INSTANCE.to_owned(),
        dyno: id,
        name: "web.1".to_owned(),
        hostname: "bench".to_owned(),
        command: command.iter().map(|&part| part.to_owned()).collect(),
        working_dir: "/".into(),
        identity: Identity { uid: 412_346, gid: 412_346, user_name: "app".to_owned(), home: "/app".into() },
        mounts: vec![
            Mount::ReadOnly { source: env::current_exe()?, target: "/bench/program".into() },
            Mount::Overlay { lower: slug(scratch)?, target: "/app".into() },
        ],
        limits: Limits {
            memory_bytes: Some(512 << 20),
            cpu_weight: 100,
            cpu_quota_percent: Some(200),
            processes_max: 256,
            open_files_max: 1024,
            disk_bytes: Some(1 << 30),
        },
        network: Network::Isolated {
            address,
            gateway: GATEWAY,
            host_interface: host_interface(INSTANCE, address),
            nameservers: vec![GATEWAY],
        },
        log: LogLimits::default(),
        stop_grace_ms: 1000,
        deadline_ms: None,
        required: Vec::new(),
        attach: None,
    };
    Ok((scratch.join(id.to_string()), spec))
}

fn scratch_dir() -> io::Result<PathBuf> {
    let dir = env::temp_dir().join(format!("bench-launch-{}", std::process::id()));
    fs::create_dir_all(dir.join("slug"))?;
    Ok(dir)
}

fn slug(scratch: &Path) -> io::Result<PathBuf> {
    let dir = scratch.join("slug");
    fs::write(dir.join("Procfile"), "web: true\n")?;
    Ok(dir)
}

fn first_line(run_dir: &Path) -> Result<String, Failure> {
    let mut reader = SegmentReader::new(&run_dir.join(LOG_DIR), 0);
    for _attempt in 0..5_000 {
        if let Some(record) = reader.read()?.records.into_iter().next() {
            return Ok(String::from_utf8(record.text)?);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err("the program said nothing".into())
}

fn process_runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn private_kb(pid: i32) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let fields = text.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"));
    Ok(fields.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}

fn row(title: &str, times: &mut [f64], floor: Option<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get((times.len() - 1) * part / 10).copied().unwrap_or_default();
    let ratio = floor.map(|floor| format!("{:8.1}", at(5) / floor)).unwrap_or_default();
    println!("{title:<26}{:8.2}{:8.2}{:8.2}   {ratio:>8}", at(0), at(5), at(9));
    at(5)
}

fn milliseconds(from_ns: u64, to_ns: u64) -> f64 {
    Duration::from_nanos(to_ns.saturating_sub(from_ns)).as_secs_f64() * 1000.0
}

fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}
