//! How long a change of the route table takes until every thread serves from it, with 10,000 apps and with 100.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::router::{Bench, PROXY_CORE, Router};

const CHANGES: usize = 200;
const FEW_APPS: usize = 100;
const MANY_APPS: usize = 10_000;
const GOAL_MS: f64 = 10.0;

/// Milliseconds of each change, sorted.
struct Measured {
    dynos: Vec<f64>,
    hosts: Vec<f64>,
}

pub(super) fn run() -> Result<()> {
    let bench = Bench::start(&std::env::temp_dir())?;
    let few = measure(&bench, "changes-few", FEW_APPS)?;
    let many = measure(&bench, "changes-many", MANY_APPS)?;
    for (what, few, many) in
        [("another dyno for an app", &few.dynos, &many.dynos), ("one more host for an app", &few.hosts, &many.hosts)]
    {
        let worst = many.last().copied().unwrap_or_default();
        let verdict = if worst <= GOAL_MS { "met" } else { "MISSED" };
        println!(
            "{what:<26} {MANY_APPS} apps: median {:.3} ms, p99 {:.3}, longest {worst:.3}  goal <= {GOAL_MS} ms: {verdict}",
            at(many, 50),
            at(many, 99)
        );
        println!(
            "{:<26} {FEW_APPS:>5} apps: median {:.3} ms, p99 {:.3}  ratio of the medians {:.2}",
            "",
            at(few, 50),
            at(few, 99),
            at(many, 50) / at(few, 50)
        );
    }
    Ok(())
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn measure(bench: &Bench, name: &str, apps: usize) -> Result<Measured> {
    let router = bench.router(name, apps, PROXY_CORE)?;
    let mut server = Server::connect(&router)?;
    let mut generation = server.generation;
    let mut change = |app: &str| -> Result<f64> {
        let update = format!(
            "{{\"kind\":\"update\",\"base\":{generation},\"generation\":{},\"changed\":[{app}],\"removed\":[]}}",
            generation + 1
        );
        generation += 1;
        let begun = Instant::now();
        let answer = server.ask(&update)?;
        if !answer.contains("\"applied\"") {
            bail!("the router answered {answer}");
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    let (mut dynos, mut hosts) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let app = number * 7 % (apps - 1);
        dynos.push(change(&router.app(app, &[], number + 1))?);
        hosts.push(change(&router.app(app, &[format!("more-{number}.example")], number + 1))?);
    }
    dynos.sort_by(f64::total_cmp);
    hosts.sort_by(f64::total_cmp);
    Ok(Measured { dynos, hosts })
}

/// The server's end of the admin socket.
struct Server {
    stream: UnixStream,
    generation: usize,
}

impl Server {
    fn connect(router: &Router) -> Result<Self> {
        let instance = std::fs::read_to_string(router.data.join("instance-id"))?;
        let stream = UnixStream::connect(router.data.join("router/admin.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut server = Self { stream, generation: 1 };
        let hello = format!("{{\"kind\":\"hello\",\"protocol\":1,\"instance\":\"{}\"}}", instance.trim());
        let answer = server.ask(&hello)?;
        if !answer.contains("\"generation\":1") {
            bail!("the router answered {answer}");
        }
        Ok(server)
    }

    /// Four bytes of length, then JSON, both ways.
    fn ask(&mut self, message: &str) -> Result<String> {
        let length = u32::try_from(message.len())?.to_be_bytes();
        self.stream.write_all(&[&length, message.as_bytes()].concat())?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        String::from_utf8(answer).context("an answer that is no text")
    }
}
