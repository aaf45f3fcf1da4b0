//! One drain: follows the app's stream and sends it on, for as long as the drain is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::delivery::{Outcome, Verdict, verdict};
use domain::display_chain::display_chain;
use domain::id::{AppId, LogDrainId};
use domain::outgoing_url::{OutgoingUrl, OutgoingUrlError};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use store::log_drain::LogDrain;
use telemetry::filter::Filter;
use telemetry::line::{LogLine, NewLine, drain_overflow_line};
use telemetry::log_store::{Followed, Follower, LogStore, LogStoreError};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::warn;
use uuid::Uuid;

use crate::DeliveryConfig;
use crate::connector::Connector;
use crate::cursor::Cursor;
use crate::frame::{self, Form};
use crate::post::Poster;
use crate::random::fraction;
use crate::send_error::SendError;
use crate::syslog::SyslogSender;

/// How long a line may wait for others to travel with.
const LINGER: Duration = Duration::from_millis(300);

/// One batch at most. A line is 10 kB at most, so a batch is below 1 MB.
const BATCH_BYTES_MAX: usize = 512 * 1024;
const BATCH_LINES_MAX: usize = 1000;

/// The app's log tells of a receiver that fails after this many attempts in a row, and again this long after.
const TELL_ATTEMPTS: u32 = 3;
const TELL_PERIOD: Duration = Duration::from_secs(10 * 60);

/// Compat: receivers parse the version.
const USER_AGENT: HeaderValue = HeaderValue::from_static("Logplex/v72");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/logplex-1");

/// Why a drain's task ended by itself.
#[derive(Debug, Error)]
pub(crate) enum DrainError {
    #[error("cannot read the app's log")]
    Log(#[from] LogStoreError),
    #[error("the drain's URL is not one")]
    Url(#[from] OutgoingUrlError),
}

pub(crate) struct DrainTask {
    id: LogDrainId,
    app: AppId,
    url: OutgoingUrl,
    token: String,
    logs: Arc<LogStore>,
    follower: Follower,
    cursor: Cursor,
    sender: Sender,
    /// Read from the stream and not sent yet.
    waiting: Vec<LogLine>,
    /// Lines that the receiver will not get, and when the last one before them was written.
    lost: u64,
    lost_since_unix_us: u64,
    told_at: Option<Instant>,
}

enum Sender {
    Http(Poster),
    Syslog(SyslogSender),
}

/// What is sent at once.
struct Batch {
    frames: Bytes,
    lines: u64,
    last_sequence: u64,
    first_unix_us: u64,
    /// Lines that it says are lost.
    told_lost: u64,
    /// The same in every attempt, so that a receiver can tell a repeated batch.
    id: Uuid,
}

impl DrainTask {
    pub(crate) fn new(
        drain: &LogDrain,
        config: &DeliveryConfig,
        connector: &Connector,
        logs: &Arc<LogStore>,
    ) -> Result<Self, DrainError> {
        let url = OutgoingUrl::parse(drain.url.expose())?;
        let cursor = Cursor::open(&config.data_dir, drain.id, drain.after_sequence);
        let sender = if url.scheme.is_http() {
            Sender::Http(Poster::new(connector.clone()))
        } else {
            Sender::Syslog(SyslogSender::new(connector.clone()))
        };
        Ok(Self {
            id: drain.id,
            app: drain.app,
            url,
            token: drain.token.clone(),
            logs: Arc::clone(logs),
            follower: logs.follow(drain.app.uuid(), cursor.sequence(), Filter::default())?,
            cursor,
            sender,
            waiting: Vec::new(),
            lost: 0,
            lost_since_unix_us: 0,
            told_at: None,
        })
    }

    /// Runs until the app's stream ends. May be dropped at any time: how far the receiver is gets written then.
    pub(crate) async fn run(mut self) -> Result<(), DrainError> {
        while self.collect().await? {
            while let Some(batch) = self.batch() {
                self.deliver(batch).await;
            }
        }
        Ok(())
    }

    /// Waits for lines, and a moment longer for those that follow close behind. False at the end of the stream.
    async fn collect(&mut self) -> Result<bool, DrainError> {
        let first = loop {
            let due = self.cursor.due();
            tokio::select! {
                followed = self.follower.next() => break followed?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.cursor.write(),
            }
        };
        let Some(first) = first else { return Ok(false) };
        self.take(first);
        let deadline = Instant::now() + LINGER;
        while self.waiting.len() < BATCH_LINES_MAX {
            match timeout_at(deadline, self.follower.next()).await {
                Ok(followed) => match followed? {
                    Some(followed) => self.take(followed),
                    None => break,
                },
                Err(_elapsed) => break,
            }
        }
        Ok(true)
    }

    fn take(&mut self, followed: Followed) {
        if followed.lost > 0 {
            self.lose(followed.lost, followed.lost_since_unix_us);
        }
        self.waiting.extend(followed.lines);
    }

    fn lose(&mut self, lines: u64, since_unix_us: u64) {
        if self.lost == 0 {
            self.lost_since_unix_us = since_unix_us;
        }
        self.lost += lines;
    }

    /// Takes as many of the waiting lines as travel together.
    fn batch(&mut self) -> Option<Batch> {
        let first_unix_us = self.waiting.first()?.unix_us;
        let form = match self.sender {
            Sender::Http(_) => Form::Http,
            Sender::Syslog(_) => Form::Syslog { token: &self.token },
        };
        let mut frames = Vec::new();
        let told_lost = self.lost;
        if told_lost > 0 {
            let line = drain_overflow_line(told_lost, self.lost_since_unix_us, first_unix_us);
            frame::push(&mut frames, &line, form);
        }
        let mut taken = 0;
        for line in self.waiting.iter().take(BATCH_LINES_MAX) {
            if frames.len() >= BATCH_BYTES_MAX {
                break;
            }
            frame::push(&mut frames, line, form);
            taken += 1;
        }
        let last_sequence = self.waiting[taken - 1].sequence;
        self.waiting.drain(..taken);
        let lines = taken as u64 + u64::from(told_lost > 0);
        let id = Uuid::new_v4();
        Some(Batch { frames: frames.into(), lines, last_sequence, first_unix_us, told_lost, id })
    }

    /// Sends a batch until the receiver has it, or it is given up.
    async fn deliver(&mut self, batch: Batch) {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let sent = self.send(&batch).await;
            let (outcome, reason) = match sent {
                Ok(status) => (Outcome::Answered(status), format!("it answers {status}")),
                Err(error) => (Outcome::Unreachable, display_chain(&error).to_string()),
            };
            match verdict(outcome, attempts, fraction()) {
                Verdict::Delivered => {
                    self.lost -= batch.told_lost;
                    self.told_at = None;
                    break;
                }
                Verdict::Drop => {
                    self.tell(&format!("{reason}; {} lines were dropped", batch.lines));
                    // Those that it would have told of stay lost, too.
                    self.lose(batch.lines - u64::from(batch.told_lost > 0), batch.first_unix_us);
                    break;
                }
                Verdict::Retry { after } => {
                    if attempts >= TELL_ATTEMPTS {
                        self.tell(&format!("{reason}; lines wait for it"));
                    }
                    sleep(after).await;
                }
            }
        }
        self.cursor.advance(batch.last_sequence);
    }

    async fn send(&mut self, batch: &Batch) -> Result<u16, SendError> {
        match &mut self.sender {
            Sender::Http(poster) => {
                let headers = headers(batch, &self.token)?;
                let status = poster.post(&self.url, headers, batch.frames.clone()).await?;
                Ok(status.as_u16())
            }
            Sender::Syslog(syslog) => {
                syslog.send(&self.url, &batch.frames).await?;
                Ok(200)
            }
        }
    }

    /// Says in the app's own log that the drain does not work, for its people to read.
    fn tell(&mut self, what: &str) {
        if self.told_at.is_some_and(|at| at.elapsed() < TELL_PERIOD) {
            return;
        }
        self.told_at = Some(Instant::now());
        let text = format!("Log drain {} does not take lines: {what}", self.url);
        warn!(drain.id = %self.id, app.id = %self.app, "{text}");
        let line = NewLine::platform(Timestamp::now(), "logplex", &text);
        if let Err(error) = self.logs.append(self.app.uuid(), &[line]) {
            warn!(app.id = %self.app, %error, "cannot write to the app's log");
        }
    }
}

fn headers(batch: &Batch, token: &str) -> Result<HeaderMap, SendError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(HeaderName::from_static("logplex-msg-count"), HeaderValue::from(batch.lines));
    for (name, value) in
        [("logplex-frame-id", batch.id.simple().to_string()), ("logplex-drain-token", token.to_owned())]
    {
        let value = HeaderValue::try_from(value).map_err(http::Error::from)?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use domain::secret::Secret;
    use rustls::RootCertStore;
    use telemetry::log_store::StreamLimits;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_drain_that_fell_behind_tells_exactly_how_many_lines_it_lost() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(crate::cursor::directory(dir.path())).unwrap();
        let limits = StreamLimits { segment_bytes: 10_000, segments_max: 3 };
        let logs = Arc::new(LogStore::new(&dir.path().join("logs"), limits));
        let app = AppId::random();
        let append = |from: u32, until: u32| {
            for number in from..until {
                let line = NewLine::platform(Timestamp::UNIX_EPOCH, "web.1", &format!("line {number}"));
                logs.append(app.uuid(), &[line]).unwrap();
            }
        };
        append(0, 2);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let drain = LogDrain {
            id: LogDrainId::random(),
            app,
            url: Secret::new(format!("syslog://127.0.0.1:{}", listener.local_addr().unwrap().port())),
            token: "d.1".to_owned(),
            after_sequence: 2,
            created_at: Timestamp::UNIX_EPOCH,
        };
        append(2, 2000);
        let allowed = ["127.0.0.1".parse().unwrap()];
        let config =
            DeliveryConfig { data_dir: dir.path().to_owned(), allowed_networks: allowed.to_vec(), authorities: None };
        let connector = Connector::new(RootCertStore::empty(), &allowed);
        let start = || tokio::spawn(DrainTask::new(&drain, &config, &connector, &logs).unwrap().run());
        let task = start();
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let mut text = String::new();
        let mut read = [0; 4096];
        while !text.contains("line 1999\n") {
            let count = stream.read(&mut read).await.unwrap();
            text.push_str(std::str::from_utf8(&read[..count]).unwrap());
        }
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains(&format!(
                "heroku logplex - - Error L10 (output buffer overflow): {} messages dropped",
                1999 - lines.len()
            )),
            "{} of {}",
            lines[0],
            lines.len()
        );
        assert!(lines.len() > 100, "{}", lines.len());

        // Another server goes on where this one stopped.
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        append(2000, 2001);
        let again = start();
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let count = stream.read(&mut read).await.unwrap();
        let text = std::str::from_utf8(&read[..count]).unwrap();
        assert!(text.contains("line 2000\n") && text.lines().count() == 1, "{text}");
        again.abort();
    }
}
