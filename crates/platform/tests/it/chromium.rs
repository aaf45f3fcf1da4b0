//! A real browser without a window, told what to do over two pipes (the `DevTools` protocol).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait::PATIENCE;

pub(crate) fn no_chromium() -> bool {
    !Command::new("chromium").arg("--version").output().is_ok_and(|ran| ran.status.success())
}

/// One page in a browser of its own.
pub(crate) struct Page {
    browser: Child,
    commands: File,
    answers: BufReader<File>,
    session: Option<String>,
    number: u64,
}

impl Page {
    /// Starts a browser that keeps its files in `dir`.
    pub(crate) fn open(dir: &Path) -> Self {
        let (commands, answers) = (dir.join("chromium.in"), dir.join("chromium.out"));
        assert!(Command::new("mkfifo").arg(&commands).arg(&answers).status().unwrap().success());
        // Descriptors 3 and 4 are where it reads and writes.
        let browser = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<\"$IN\" 4>\"$OUT\"", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", dir.join("chromium").display()))
            .arg("about:blank")
            .env("IN", &commands)
            .env("OUT", &answers)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(commands).unwrap();
        let answers = BufReader::new(File::open(answers).unwrap());
        let mut page = Self { browser, commands, answers, session: None, number: 0 };
        let target = page.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.ask("Target.attachToTarget", &attach);
        page.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        page
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut command = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).unwrap();
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer).expect("the browser lives");
            if answer["id"] == self.number {
                assert_eq!(answer.get("error"), None, "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    pub(crate) fn goes_to(&mut self, url: &str) {
        self.ask("Page.navigate", &json!({"url": url}));
    }

    /// What a script in the page gives, as text.
    pub(crate) fn evaluates(&mut self, script: &str) -> String {
        let result = self.ask("Runtime.evaluate", &json!({"expression": script}));
        let value = &result["result"]["value"];
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Waits until the page is there and contains a text.
    pub(crate) fn shows(&mut self, text: &str) {
        let script = "document.readyState + ' ' + (document.body ? document.body.innerText : '')";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.evaluates(script);
            if shown.starts_with("complete") && shown.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "no {text:?} in the browser: {shown}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.browser.kill().ok();
        self.browser.wait().ok();
    }
}
