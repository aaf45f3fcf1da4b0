//! This process's own terminal and signals, for a process elsewhere that is served with them.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use wire::shim::Terminal;

/// Events that nobody has taken yet.
const EVENTS_MAX: usize = 64;

/// What happened here, besides input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Resized,
    Signal(i32),
}

/// A socket that can be polled, and what makes it readable.
pub(crate) fn bell() -> anyhow::Result<(UnixStream, UnixStream)> {
    let (bell, ringer) = UnixStream::pair().context("cannot make a pair of sockets")?;
    bell.set_nonblocking(true).context("cannot make a pair of sockets")?;
    ringer.set_nonblocking(true).context("cannot make a pair of sockets")?;
    Ok((bell, ringer))
}

/// A bell that is full rings already.
pub(crate) fn ring(mut ringer: &UnixStream) {
    drop(ringer.write(&[1]));
}

/// Makes a bell ring no more until the next ring.
pub(crate) fn silence(mut bell: &UnixStream) {
    let mut rings = [0; 64];
    while matches!(bell.read(&mut rings), Ok(1..)) {}
}

/// Has every signal that asks to end, and every new size, become an event from now on.
pub(crate) fn watch_signals(ringer: UnixStream) -> anyhow::Result<Receiver<Event>> {
    let (sender, events) = sync_channel(EVENTS_MAX);
    let signals = Signals::new([SIGWINCH, SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    thread::spawn(move || pass_on(signals, &sender, &ringer));
    Ok(events)
}

fn pass_on(mut signals: Signals, events: &SyncSender<Event>, ringer: &UnixStream) {
    for signal in signals.forever() {
        let event = if signal == SIGWINCH { Event::Resized } else { Event::Signal(signal) };
        // Full of events that nobody takes: whoever should is about to end.
        events.try_send(event).ok();
        ring(ringer);
    }
}

/// The size of this terminal, if the standard input is one.
pub(crate) fn size() -> Option<Terminal> {
    tcgetwinsize(io::stdin()).ok().map(|size| Terminal { rows: size.ws_row, columns: size.ws_col })
}

/// What kind of terminal it is.
pub(crate) fn kind() -> String {
    std::env::var("TERM").unwrap_or_else(|_unset| "xterm".to_owned())
}

/// Every key goes elsewhere, Ctrl-C too, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal(Termios);

impl RawTerminal {
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot ask the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).context("cannot set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may have gone.
        tcsetattr(io::stdin(), OptionalActions::Drain, &self.0).ok();
    }
}
