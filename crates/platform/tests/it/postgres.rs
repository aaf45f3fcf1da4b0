//! A Postgres of a test's own, as a user of this platform may have one somewhere.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::heroku_cli::ran;
use crate::platform::{TestPlatform, kill, skipped};
use crate::wait::wait_until;

/// It refuses to run as root.
const NOBODY: u32 = 65_534;

#[derive(Debug)]
pub(crate) struct Postgres {
    server: Child,
    port: u16,
}

impl Postgres {
    /// With the extension that counts statements. `None` skips the test.
    pub(crate) fn start(platform: &TestPlatform) -> Option<Self> {
        let programs = programs();
        if skipped(programs.is_none().then_some("needs PostgreSQL")) {
            return None;
        }
        let programs = programs?;
        let [port] = platform.more_ports();
        let dir = platform.scratch().join("postgres");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        let as_nobody = |program: &str| {
            let mut command = Command::new("setpriv");
            command
                .args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"])
                .arg(programs.join(program))
                .current_dir(&dir)
                .stdin(Stdio::null());
            command
        };
        let made = ran(as_nobody("initdb").args(["--auth=trust", "--username=u", "--no-sync", "-D"]).arg(&dir));
        assert_eq!(made.code, Some(0), "{}", made.both());
        let log = File::create(platform.scratch().join("postgres.log")).unwrap();
        let server = as_nobody("postgres")
            .args(["-p", &port.to_string(), "-c", "listen_addresses=localhost", "-c", "fsync=off"])
            .args(["-c", "unix_socket_directories=", "-c", "shared_preload_libraries=pg_stat_statements", "-D"])
            .arg(&dir)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let postgres = Self { server, port };
        wait_until("Postgres is there", || {
            let mut psql = Command::new("psql");
            psql.arg(format!("{}/postgres", postgres.url()))
                .args(["-c", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"]);
            ran(&mut psql).code == Some(0)
        });
        Some(postgres)
    }

    /// Without a database's name.
    pub(crate) fn url(&self) -> String {
        // Compat: Heroku's client insists on TLS for every other host.
        format!("postgres://u:p@localhost:{}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        kill(self.server.id().cast_signed(), Signal::QUIT);
        self.server.wait().ok();
    }
}

/// Where Debian keeps what is not for everybody's `PATH`: the newest version's.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file()).max()
}
