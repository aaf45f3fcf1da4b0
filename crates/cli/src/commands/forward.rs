//! `ps:forward`, `ps:socks`: connections from here that are made in a dyno. Blocking, one thread for each.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wire::visit::Wish;

use crate::context::{Context, UsageError};
use crate::output::Output;
use crate::socks::{self, Reply};
use crate::visit::{Here, Visitor, carry};

/// How long a client of the proxy may take to say where it wants to go.
const GREETING_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth ps:forward 9000              (port 9000 here is port 9000 of web.1)\n  \
                  berth ps:forward 8080:3000,5678 -d worker.1\n\n\
                  Only this machine can connect to the port here; in the dyno the connection comes from its own\n\
                  loopback. A dyno that is replaced meanwhile is followed by the one that takes its name.")]
pub struct Forward {
    /// Ports: the same here and there, or another here
    #[arg(value_name = "[LOCAL:]REMOTE,…")]
    ports: String,
    /// The dyno; web.1 if absent
    #[arg(short, long, value_name = "NAME")]
    dyno: Option<String>,
}

pub(super) fn forward(context: &Context, args: &Forward) -> anyhow::Result<()> {
    let pairs = ports(&args.ports)?;
    let visitor = Arc::new(Visitor::new(context, args.dyno.as_deref())?);
    for pair in &pairs {
        serve(&visitor, context.out, pair.local, Target::Port(pair.remote))?;
    }
    let (dyno, signals) = (visitor.dyno(), signals()?);
    if context.out.json {
        let shown = |pair: &Pair| json!({ "local": pair.local, "dyno": dyno, "remote": pair.remote });
        context.out.json(&pairs.iter().map(shown).collect::<Vec<Value>>())?;
    } else {
        for Pair { local, remote } in &pairs {
            context.out.line(format_args!("Listening on {local} and forwarding to {dyno}:{remote}"))?;
        }
        context.out.note("Use CTRL+C to stop port forwarding");
    }
    wait(signals);
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth ps:socks\n  curl --socks5-hostname localhost:1080 http://localhost:5678/\n\n\
                  Only this machine can connect to the proxy. Names are looked up in the dyno."
)]
pub struct Socks {
    /// The port here
    #[arg(long, default_value = "1080")]
    port: NonZeroU16,
    /// The dyno; web.1 if absent
    #[arg(short, long, value_name = "NAME")]
    dyno: Option<String>,
}

pub(super) fn socks(context: &Context, args: &Socks) -> anyhow::Result<()> {
    let visitor = Arc::new(Visitor::new(context, args.dyno.as_deref())?);
    serve(&visitor, context.out, args.port, Target::Any)?;
    let signals = signals()?;
    if context.out.json {
        context.out.json(&json!({ "port": args.port, "dyno": visitor.dyno() }))?;
    } else {
        context.out.line(format_args!("SOCKSv5 proxy server started on port {}", args.port))?;
        context.out.note("Use CTRL+C to stop the proxy");
    }
    wait(signals);
    Ok(())
}

/// Signals that end what goes on until then, from now on.
fn signals() -> anyhow::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")
}

fn wait(mut signals: Signals) {
    signals.forever().next();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    local: NonZeroU16,
    remote: NonZeroU16,
}

/// Reads `4000,9000:9001`.
fn ports(text: &str) -> Result<Vec<Pair>, UsageError> {
    let wrong = || UsageError(format!("{text:?} is not PORT or LOCAL:REMOTE, or several of them with commas between"));
    let port = |text: &str| text.parse::<NonZeroU16>().map_err(|_invalid| wrong());
    let pair = |text: &str| {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        Ok(Pair { local: port(local)?, remote: port(remote)? })
    };
    text.split(',').map(pair).collect()
}

/// Where connections go.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// This port of the dyno.
    Port(NonZeroU16),
    /// Wherever each client wants.
    Any,
}

/// Accepts connections on a port of this machine's loopback from now on.
fn serve(visitor: &Arc<Visitor>, out: Output, port: NonZeroU16, target: Target) -> anyhow::Result<()> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port.get()));
    let mut listeners = vec![bound.with_context(|| format!("cannot listen on port {port}"))?];
    // Some machines have no IPv6, and clients try both.
    listeners.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, port.get())));
    for listener in listeners {
        let visitor = Arc::clone(visitor);
        thread::spawn(move || {
            // Out of descriptors: what exists goes on.
            for stream in listener.incoming().flatten() {
                let visitor = Arc::clone(&visitor);
                thread::spawn(move || {
                    if let Err(error) = connection(&visitor, stream, target) {
                        out.warn(format_args!("{}.", crate::output::chain(error.as_ref())));
                    }
                });
            }
        });
    }
    Ok(())
}

/// Serves one connection. The error says why it could not be made; what ends one later is between its two ends.
fn connection(visitor: &Visitor, mut stream: TcpStream, target: Target) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let socket = match target {
        Target::Port(port) => visitor.come(Wish::Connect { host: "localhost".to_owned(), port: port.get() })?,
        Target::Any => {
            stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
            let (host, port) = socks::greet(&mut stream).context("a client of the proxy was not understood")?;
            let came = visitor.come(Wish::Connect { host, port });
            socks::reply(&mut stream, if came.is_ok() { Reply::Connected } else { Reply::Failed })?;
            came?
        }
    };
    stream.set_nonblocking(true)?;
    let here = Here {
        input: Some(stream.as_fd()),
        output: &mut &stream,
        output_descriptor: Some(stream.as_fd()),
        errors: &mut io::sink(),
        happenings: None,
    };
    drop(carry(socket, here));
    // The other end may have done so.
    drop(stream.shutdown(Shutdown::Both));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&[(u16, u16)]>) {
        let read = ports(text).ok();
        let read = read.map(|pairs| pairs.iter().map(|pair| (pair.local.get(), pair.remote.get())).collect::<Vec<_>>());
        assert_eq!(read.as_deref(), expect, "{text}");
    }

    #[test]
    fn ports_are_alone_or_in_pairs() {
        check("8080", Some(&[(8080, 8080)]));
        check("4000,9000:9001", Some(&[(4000, 4000), (9000, 9001)]));
        for wrong in ["", "x", "0", "70000", "1:2:3", "1,", ":1", "1:"] {
            check(wrong, None);
        }
    }
}
