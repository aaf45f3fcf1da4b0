//! Both ends of the overload benchmark, and the clients of the latency benchmark.
//!
//! `overload dynos PORT:WORKERS:MILLISECONDS…` serves until it is killed. A line `WORKERS` on its standard input gives
//! every dyno so many from then on.
//! `overload clients PORT HOST NEW|KEPT SEED SECONDS:RATE…` sends requests at random times (Poisson) and prints, for
//! each, when it began, how long it took and its status, in microseconds; 0 where none came within 5 s.
//! `overload steady PORT ORIGIN_PORT HOST CONNECTIONS SECONDS RATE` sends requests at random times, too, over kept
//! connections each of which waits for its answer, is the origin that answers them, and prints when each
//! began and how long it took, in microseconds.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod chance;
mod clients;
mod dynos;
mod steady;

use tokio::task::LocalSet;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((mode, rest)) = arguments.split_first() else { return println!("overload dynos|clients|steady …") };
    if mode == "steady" {
        return steady::steady(rest).expect("answers");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        match mode.as_str() {
            "dynos" => dynos::dynos(rest).await,
            "clients" => clients::clients(rest).await,
            _other => println!("overload dynos|clients|steady …"),
        }
    });
}

fn number<T: std::str::FromStr + Default>(text: Option<&str>) -> T {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
