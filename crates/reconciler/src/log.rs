//! Lines of the platform's own in apps' logs and build outputs.

use std::sync::Arc;

use domain::id::AppId;
use jiff::Timestamp;
use telemetry::line::NewLine;
use telemetry::log_store::LogStore;
use tracing::warn;
use uuid::Uuid;

/// Writes for people. A log that cannot be written (full disk) must not stop the work that it is about.
#[derive(Debug, Clone)]
pub(crate) struct PlatformLog(Arc<LogStore>);

impl PlatformLog {
    pub(crate) fn new(store: Arc<LogStore>) -> Self {
        Self(store)
    }

    /// `heroku[web.1]: text` in the app's log.
    pub(crate) fn dyno(&self, app: AppId, process: &str, text: &str) {
        self.append(app.uuid(), NewLine::platform(Timestamp::now(), process, text));
    }

    /// `app[api]: text` in the app's log.
    pub(crate) fn api(&self, app: AppId, text: &str) {
        self.append(app.uuid(), NewLine::api(Timestamp::now(), text));
    }

    /// A line of an output stream; more than one if the text has line ends.
    pub(crate) fn output(&self, stream: Uuid, text: &str) {
        for line in text.lines() {
            self.append(stream, NewLine::platform(Timestamp::now(), "build", line));
        }
    }

    pub(crate) fn end(&self, stream: Uuid) {
        let now = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0);
        if let Err(error) = self.0.end(stream, now) {
            warn!(%stream, %error, "cannot end an output stream");
        }
    }

    /// The last lines that a process printed itself, for an explanation.
    pub(crate) fn tail(&self, app: AppId, process: &str, lines_max: usize) -> Vec<String> {
        let filter = telemetry::filter::Filter { source: None, process: Some(process.to_owned()) };
        let lines = self.0.last_lines(app.uuid(), &filter, lines_max).unwrap_or_default();
        lines.into_iter().map(|line| line.text).collect()
    }

    fn append(&self, stream: Uuid, line: NewLine) {
        if let Err(error) = self.0.append(stream, &[line]) {
            warn!(%stream, %error, "cannot write to a log");
        }
    }
}
