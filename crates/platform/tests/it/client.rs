//! The command line client, as a user of this platform starts it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::platform::TestPlatform;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl TestPlatform {
    /// `berth` in a directory, with the administrator's token.
    pub(crate) fn client(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command
            .args(arguments)
            .current_dir(directory)
            .env("BERTH_HOST", format!("http://localhost:{}", self.api_port))
            .env("BERTH_API_KEY", &self.token)
            .env("XDG_CONFIG_HOME", self.scratch().join("config"))
            .env_remove("BERTH_APP")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn berth(&self, arguments: &[&str]) -> Ended {
        self.client(self.scratch(), arguments).output().unwrap().into()
    }

    /// The same with something on its standard input.
    pub(crate) fn berth_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.client(self.scratch(), arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that wants to read nothing closes it.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        child.wait_with_output().unwrap().into()
    }

    /// The standard output of a command that must succeed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let ended = self.berth(arguments);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout
    }
}
