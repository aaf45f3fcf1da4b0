//! `ps:exec`, `ps:copy`: a program beside the app's, a file out of a dyno.

use std::fs::Permissions;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, bail};
use serde_json::json;
use wire::platform_api::Dyno;
use wire::platform_api::exec::ExecReservation;
use wire::shim::Terminal;
use wire::visit::{DATA_BYTES_MAX, Wish};

use crate::api_client::path;
use crate::context::{Context, UsageError};
use crate::output;
use crate::shell_words;
use crate::terminal::{self, RawTerminal};
use crate::visit::{Happenings, Here, Visitor, carry};

/// Most bytes that are kept of what a program says went wrong.
const EXCERPT_BYTES_MAX: usize = 4096;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  berth ps:exec                         (a shell in web.1)\n  \
                  berth ps:exec -d worker.2 -- ps aux\n  berth ps:exec -- 'cat > /tmp/fixture' < fixture\n  \
                  berth ps:exec --status\n\n\
                  The program runs beside the app's, as its user, with its environment, limits and network.\n\
                  One argument is a line for the shell; several are words that reach the program as they are.\n\
                  The exit code is the program's own. On a terminal it has one, too. What still runs when you leave is\n\
                  hung up.")]
pub struct Exec {
    /// The dyno; web.1 if absent
    #[arg(short, long, value_name = "NAME")]
    dyno: Option<String>,
    /// Give the program no terminal
    #[arg(long)]
    no_tty: bool,
    /// List the dynos that can be come to
    #[arg(long, conflicts_with_all = ["dyno", "no_tty", "command"])]
    status: bool,
    /// The command; a shell if absent
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn exec(context: &Context, args: &Exec) -> anyhow::Result<ExitCode> {
    if args.status {
        return status(context).map(|()| ExitCode::SUCCESS);
    }
    let json = context.out.json;
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let terminal = is_terminal && !args.no_tty && !json;
    let visitor = Visitor::new(context, args.dyno.as_deref())?;
    let dyno = visitor.dyno();
    // Before the size is asked for: none is missed.
    let happenings = Happenings::watch(terminal)?;
    let line = (!args.command.is_empty()).then(|| shell_words::command_line(&args.command));
    let size = terminal.then(|| terminal::size().unwrap_or(Terminal { rows: 24, columns: 80 }));
    let socket = visitor.come(Wish::Command { line, terminal: size, term: terminal.then(terminal::kind) })?;
    let input = standard_input()?;
    // Given back however this ends.
    let raw = terminal.then(RawTerminal::enter).transpose()?;
    // With `--json`, the standard output is for the result.
    let output: &mut dyn Write = if json { &mut io::stderr() } else { &mut io::stdout() };
    let here = Here {
        input: Some(input.as_fd()),
        output,
        output_descriptor: None,
        errors: &mut io::stderr(),
        happenings: Some(&happenings),
    };
    let status = carry(socket, here)?;
    drop(raw);
    if json {
        context.out.json(&json!({ "dyno": dyno, "exit_status": status }))?;
    }
    Ok(match status {
        Some(0) => ExitCode::SUCCESS,
        Some(status) => u8::try_from(status).map_or(ExitCode::FAILURE, ExitCode::from),
        None => ExitCode::FAILURE,
    })
}

/// The standard input as something that can be read without waiting: a thread waits for it.
fn standard_input() -> anyhow::Result<UnixStream> {
    let (ours, mut theirs) = UnixStream::pair().context("cannot make a pair of sockets")?;
    ours.set_nonblocking(true).context("cannot make a pair of sockets")?;
    thread::spawn(move || {
        let mut bytes = vec![0; DATA_BYTES_MAX];
        let mut input = io::stdin().lock();
        // Nobody reads it any more: the program has ended.
        while let Ok(count @ 1..) = input.read(&mut bytes)
            && theirs.write_all(&bytes[..count]).is_ok()
        {}
    });
    Ok(ours)
}

fn status(context: &Context) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let open: Vec<ExecReservation> = client.get(&path(&["berth", "apps", &app, "exec"]))?;
    if context.out.json {
        return Ok(context.out.json(&open)?);
    }
    if open.is_empty() {
        context.out.note(format_args!("No dyno of {app} runs that could be come to."));
        return Ok(());
    }
    let dynos: Vec<Dyno> = client.list(&path(&["apps", &app, "dynos"]), None)?;
    let state = |name: &str| dynos.iter().find(|dyno| dyno.name == name).map_or("gone", |dyno| dyno.state.as_str());
    let row = |dyno: &ExecReservation| vec![dyno.dyno_name.clone(), state(&dyno.dyno_name).to_owned()];
    Ok(context.out.text(output::table(&["DYNO", "STATE"], &open.iter().map(row).collect::<Vec<_>>()))?)
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth ps:copy log/slow.txt\n  berth ps:copy /tmp/heap.dump -o heap.dump -d worker.1\n\n\
                  The path is relative to /app. A file that exists here is not overwritten."
)]
pub struct Copy {
    /// The file in the dyno
    file: String,
    /// Where it is copied to; its own name in this directory if absent
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// The dyno; web.1 if absent
    #[arg(short, long, value_name = "NAME")]
    dyno: Option<String>,
}

pub(super) fn copy(context: &Context, args: &Copy) -> anyhow::Result<()> {
    let no_file = || UsageError(format!("{:?} names no file", args.file));
    let name = Path::new(&args.file).file_name().ok_or_else(no_file)?;
    let target = args.output.clone().unwrap_or_else(|| PathBuf::from(name));
    let shown = target.display();
    if target.exists() {
        bail!("the local file {shown} already exists");
    }
    let visitor = Visitor::new(context, args.dyno.as_deref())?;
    let dyno = visitor.dyno();
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // What is not whole is not there.
    let mut part = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .with_context(|| format!("cannot make a file in {}", directory.display()))?;
    // A dash alone, or in front, means something else to `cat`.
    let file = if args.file.starts_with('-') { format!("./{}", args.file) } else { args.file.clone() };
    let line = format!("exec cat {}", shell_words::quote(&file));
    context.out.note(format_args!("Copying {} of {dyno} to {shown}", args.file));
    let happenings = Happenings::watch(false)?;
    let socket = visitor.come(Wish::Command { line: Some(line), terminal: None, term: None })?;
    let mut said = Excerpt(Vec::new());
    let here = Here {
        input: None,
        output: part.as_file_mut(),
        output_descriptor: None,
        errors: &mut said,
        happenings: Some(&happenings),
    };
    if carry(socket, here)? != Some(0) {
        let why = String::from_utf8_lossy(&said.0);
        let why = why.trim().strip_prefix("cat: ").unwrap_or("it could not be read to its end");
        bail!("nothing was copied from {dyno}: {why}");
    }
    let bytes = part.as_file().metadata().context("cannot look at the copy")?.len();
    part.persist_noclobber(&target).map_err(|error| error.error).with_context(|| format!("cannot write {shown}"))?;
    if context.out.json {
        return Ok(context.out.json(&json!({ "dyno": dyno, "file": args.file, "output": target, "bytes": bytes }))?);
    }
    Ok(context.out.line(format_args!("Copied {}.", output::bytes(bytes)))?)
}

/// Keeps the beginning of what is written.
struct Excerpt(Vec<u8>);

impl Write for Excerpt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = EXCERPT_BYTES_MAX - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
