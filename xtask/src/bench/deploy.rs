//! Deploys of the Django example by `git push`, beside a plain script that does the same steps without a platform:
//! copy the tree, install into a warm environment, the app's hook and `collectstatic`, `migrate`, start gunicorn, look.
//!
//! The example's `bin/post_compile` makes its tables in the build and its release phase migrates again, so the script
//! runs both too. It uses the same interpreter and the same `uv`, which the platform has fetched before.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::figure::{self, Goal};
use super::platform::{Platform, free_port, get, signal, wait};
use crate::root;

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);
const APP: &str = "hello";

pub(super) fn run() -> Result<()> {
    let platform = Platform::start()?;
    let project = platform.scratch().join("project");
    platform.run(&root(), "cp", &["-a", "examples/django", &project.display().to_string()])?;
    for arguments in [&["init", "--quiet", "--initial-branch=main"][..], &["add", "."], &["commit", "-qm", "begin"]] {
        platform.run(&project, "git", arguments)?;
    }
    // Interpreter and uv are fetched once per machine, with the first app.
    platform.berth(&["create", "before"])?;
    platform.berth(&["deploy", "project", "--app", "before"])?;
    let plain = Plain::new(&platform)?;

    let before = plain.build_cold(&project)?;
    let built = first_build(&platform, &project)?;
    let after = plain.build_cold(&project)?;
    let goal = [Goal::TimesFloor(1.3)];
    let installing = f64::midpoint(before.installing, after.installing);
    figure::print("first build: dependencies, floor: uv with a cold cache", "s", built.installing, installing, &goal);
    let whole = f64::midpoint(before.whole, after.whole);
    figure::print("first build: whole, floor: the same steps by script", "s", built.whole, whole, &goal);

    let mut pushes = Vec::new();
    let mut scripts = Vec::new();
    for round in 0..ROUNDS {
        change(&platform, &project, round)?;
        scripts.push(plain.deploy(&project, &text(round), true)?);
        pushes.push(push(&platform, &project, &text(round))?);
    }
    pushes.sort_by(|a, b| a.total.total_cmp(&b.total));
    scripts.sort_by(f64::total_cmp);
    let (middle, floor) = (&pushes[ROUNDS / 2], scripts[ROUNDS / 2]);
    let goals = [Goal::TimesFloor(1.5), Goal::AtMost(6.0)];
    figure::print("git push until the new text is public", "s", middle.total, floor, &goals);
    for (phase, seconds) in &middle.phases {
        figure::note(phase, "s", *seconds);
    }

    let started = Instant::now();
    let mut rollback = platform.prepared(platform.scratch(), "berth", &["rollback", "--app", APP]);
    let mut rollback = rollback.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let seen = platform.wait_for_page(APP, &text(ROUNDS - 2), PATIENCE);
    let rolled_back = started.elapsed().as_secs_f64();
    let status = rollback.wait()?;
    let command_ended = started.elapsed().as_secs_f64();
    seen?;
    if !status.success() {
        bail!("berth rollback: {status}");
    }
    let floor = plain.deploy(&project, &text(ROUNDS - 1), false)?;
    figure::print("rollback until the old text is public", "s", rolled_back, floor, &[Goal::AtMost(2.0)]);
    figure::note("until the command returned", "s", command_ended);
    Ok(())
}

fn text(round: usize) -> String {
    format!("text of round {round} from the view")
}

/// One line of Python and one of a template.
fn change(platform: &Platform, project: &Path, round: usize) -> Result<()> {
    let view = project.join("hello/views.py");
    let page = project.join("hello/templates/hello/index.html");
    let original = root().join("examples/django/hello");
    let python = fs::read_to_string(original.join("views.py"))?;
    let template = fs::read_to_string(original.join("templates/hello/index.html"))?;
    let python = python.replace("\"dyno\":", &format!("\"bench\": \"text of round {round}\", \"dyno\":"));
    let template = template.replace("</h1>", "</h1><p>{{ bench }} from the view</p>");
    if !python.contains("bench") || !template.contains("bench") {
        bail!("examples/django has changed: this benchmark no longer finds the lines to change");
    }
    fs::write(view, python)?;
    fs::write(page, template)?;
    platform.run(project, "git", &["commit", "-qam", &text(round)])?;
    Ok(())
}

/// Seconds of a build with nothing cached.
struct ColdBuild {
    installing: f64,
    /// From the beginning to the slug.
    whole: f64,
}

/// The first push of a new app.
fn first_build(platform: &Platform, project: &Path) -> Result<ColdBuild> {
    platform.run(project, "berth", &["create", APP])?;
    let pushed = push(platform, project, "Hello from Django")?;
    let mut built = ColdBuild { installing: 0.0, whole: 0.0 };
    for (phase, seconds) in &pushed.phases {
        if phase.starts_with("Launching") {
            break;
        }
        if phase.starts_with("Installing dependencies") {
            built.installing += seconds;
        }
        built.whole += seconds;
    }
    for (phase, seconds) in &pushed.phases {
        figure::note(&format!("first push: {phase}"), "s", *seconds);
    }
    Ok(built)
}

struct Pushed {
    total: f64,
    /// What git showed, each with the seconds until the next.
    phases: Vec<(String, f64)>,
}

/// Pushes, and looks at the public page meanwhile.
fn push(platform: &Platform, project: &Path, text: &str) -> Result<Pushed> {
    let started = Instant::now();
    let mut child = platform.prepared(project, "git", &["push", "berth", "main"]).stderr(Stdio::piped()).spawn()?;
    let errors = child.stderr.take().context("git has no output")?;
    let lines = thread::spawn(move || {
        let lines = BufReader::new(errors).lines().map_while(Result::ok);
        lines.map(|line| (started.elapsed().as_secs_f64(), line)).collect::<Vec<_>>()
    });
    let seen = platform.wait_for_page(APP, text, PATIENCE);
    let total = started.elapsed().as_secs_f64();
    let status = child.wait()?;
    let returned = started.elapsed().as_secs_f64();
    let lines = lines.join().unwrap_or_default();
    if !status.success() {
        let text: Vec<String> = lines.into_iter().map(|(_at, line)| line).collect();
        bail!("git push: {status}\n{}", text.join("\n"));
    }
    seen?;
    let mut marks = vec![(0.0, "push until the build begins".to_owned())];
    let begun = lines.iter().filter_map(|(at, line)| Some((*at, line.split_once("-----> ")?.1.trim().to_owned())));
    marks.extend(begun);
    marks.push((total, "new text seen until git push returned".to_owned()));
    let ends = marks.iter().skip(1).map(|(at, _name)| *at).chain([returned]).collect::<Vec<_>>();
    let phases = marks.into_iter().zip(ends).map(|((at, name), end)| (name, end - at)).collect();
    Ok(Pushed { total, phases })
}

/// What somebody does by hand, with the platform's own interpreter and uv.
struct Plain {
    directory: PathBuf,
    python: PathBuf,
    uv: PathBuf,
}

impl Plain {
    fn new(platform: &Platform) -> Result<Self> {
        let runtimes = platform.data().join("runtimes");
        let find = |kind: &str, paths: &[&str]| {
            let entries = fs::read_dir(&runtimes).into_iter().flatten().flatten();
            let roots: Vec<PathBuf> = entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(kind))
                .map(|entry| entry.path())
                .collect();
            let found = roots.iter().flat_map(|root| paths.iter().map(|path| root.join(path)));
            found.into_iter().find(|path| path.exists()).with_context(|| format!("no {kind} in {}", runtimes.display()))
        };
        let directory = platform.scratch().join("plain");
        fs::create_dir(&directory)?;
        let python = find("cpython-", &["bin/python3"])?;
        Ok(Self { directory, python, uv: find("uv-", &["uv", "bin/uv"])? })
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-euc", script])
            .current_dir(&self.directory)
            .env("UV", &self.uv)
            .env("BASE_PYTHON", &self.python)
            .env("UV_CACHE_DIR", self.directory.join("cache"))
            .env("UV_COMPILE_BYTECODE", "1")
            .env("UV_PYTHON_DOWNLOADS", "never")
            .env("VIRTUAL_ENV", self.directory.join("venv"))
            .env("PATH", format!("{}:/usr/bin:/bin", self.directory.join("venv/bin").display()))
            .stdin(Stdio::null());
        command
    }

    fn timed(&self, script: &str, project: &Path) -> Result<f64> {
        let started = Instant::now();
        let output = self.shell(script).env("PROJECT", project).output()?;
        if !output.status.success() {
            bail!("the plain script failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(started.elapsed().as_secs_f64())
    }

    /// An environment with nothing cached, then what the example builds in it.
    fn build_cold(&self, project: &Path) -> Result<ColdBuild> {
        const INSTALL: &str = "rm -rf cache venv; \"$UV\" venv -q --python \"$BASE_PYTHON\" venv; \
                               \"$UV\" pip install -r \"$PROJECT/requirements.txt\"";
        const REST: &str = "rm -rf tree; cp -a \"$PROJECT\" tree; cd tree; \
                            python manage.py collectstatic --noinput; bin/post_compile";
        let installing = self.timed(INSTALL, project)?;
        Ok(ColdBuild { installing, whole: installing + self.timed(REST, project)? })
    }

    /// Seconds until gunicorn shows the text; without `build`, of the tree that was built last.
    fn deploy(&self, project: &Path, text: &str, build: bool) -> Result<f64> {
        const BUILD: &str = "rm -rf tree; cp -a \"$PROJECT\" tree; cd tree; \"$UV\" pip install -qr requirements.txt; \
                             python manage.py collectstatic --noinput; bin/post_compile; python manage.py migrate";
        let started = Instant::now();
        if build {
            self.timed(BUILD, project)?;
        }
        let port = free_port()?;
        let mut server = self.shell("cd tree; exec gunicorn mysite.wsgi --bind \"127.0.0.1:$PORT\"");
        let mut server = server.env("PORT", port.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let seen = wait("gunicorn shows the text", PATIENCE, || {
            get(port, "localhost").ok().filter(|(_status, page)| page.contains(text))
        });
        let took = started.elapsed().as_secs_f64();
        end(&mut server)?;
        seen?;
        Ok(took)
    }
}

fn end(child: &mut Child) -> Result<()> {
    signal(child.id(), "TERM");
    child.wait()?;
    Ok(())
}
