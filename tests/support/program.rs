//! The real program as a child: started, read, signalled by its own id, and always ended.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use super::postgres::PASSWORD;
use super::world::KEY;
use super::{DEADLINE, until};

/// The child is killed when this is dropped.
pub struct Program {
    child: Child,
    name: String,
    log: Arc<Log>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
}

/// How it ended, and all it said.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    /// Lines of stderr: the log and what the command remarks.
    pub lines: Vec<String>,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        let log = Arc::new(Log::default());
        let mut out = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut text = Vec::new();
            out.read_to_end(&mut text).unwrap();
            String::from_utf8(text).expect("output is text")
        });
        let err = BufReader::new(child.stderr.take().unwrap());
        let told = log.clone();
        let stderr = std::thread::spawn(move || {
            for line in err.lines() {
                told.lines.lock().unwrap().push(line.expect("the log is text"));
                told.grew.notify_all();
            }
        });
        Self { child, name, log, stdout: Some(stdout), stderr: Some(stderr) }
    }

    /// What it has said on stderr so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// The first line, of those that are there and those to come, that `wanted` takes.
    pub fn line(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let begun = Instant::now();
        let mut seen = 0;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = lines[seen..].iter().find(|line| wanted(line)) {
                return line.clone();
            }
            seen = lines.len();
            let left = DEADLINE.checked_sub(begun.elapsed());
            let Some(left) = left else { panic!("no line with {what} from {}\n{}", self.name, lines.join("\n")) };
            lines = self.log.grew.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// The first line of the log with this message, its fields in JSON.
    pub fn logged(&self, message: &str) -> Value {
        let line = self.line(message, |line| record(line).is_some_and(|record| record["msg"] == message));
        record(&line).unwrap()
    }

    /// Where the service listens, from its log.
    pub fn address(&self) -> String {
        self.logged("listening")["address"].as_str().unwrap().to_owned()
    }

    /// Sends a signal to this child: TERM, HUP.
    pub fn signal(&self, name: &str) {
        let script = r#"kill -s "$1" "$2""#;
        let status =
            Command::new("/bin/sh").args(["-c", script, "sh", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    /// `kill -9`: it gets no chance to do anything.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.end()
    }

    /// Waits for its end. Whatever it was, it must not have told the upstream's key.
    pub fn end(mut self) -> Ended {
        let mut status: Option<ExitStatus> = None;
        until(&format!("the end of {}\n{}", self.name, self.tail()), || {
            status = self.child.try_wait().unwrap();
            status
        });
        let stdout = self.stdout.take().unwrap().join().unwrap();
        self.stderr.take().unwrap().join().unwrap();
        let code = status.and_then(|status| status.code());
        let ended = Ended { code, stdout, lines: self.lines() };
        for secret in [KEY, PASSWORD] {
            assert!(!ended.to_string().contains(secret), "a secret is told by {}", self.name);
        }
        ended
    }

    /// Tells it to stop, and expects that it does so well.
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        let ended = self.end();
        ended.expect(0);
        ended
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Records of the log; what the command remarks is left out.
    pub fn records(&self) -> Vec<Value> {
        self.lines.iter().filter_map(|line| record(line)).collect()
    }

    /// The lines that the command itself says on stderr.
    pub fn remarks(&self) -> Vec<&str> {
        self.lines.iter().filter(|line| record(line).is_none()).map(String::as_str).collect()
    }

    pub fn alarms(&self) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["level"] == "WARN" || record["level"] == "ERROR").collect()
    }

    /// No warning and no error but those whose line holds one of these texts.
    #[track_caller]
    pub fn calm(&self, but: &[&str]) -> &Self {
        let unexpected: Vec<String> = self.alarms().iter().map(Value::to_string).collect();
        let unexpected: Vec<&String> =
            unexpected.iter().filter(|line| !but.iter().any(|text| line.contains(text))).collect();
        assert!(unexpected.is_empty(), "unexpected: {unexpected:#?}");
        self
    }

    /// Exactly one line that begins as an error of the program; it must hold these texts.
    #[track_caller]
    pub fn one_error(&self, texts: &[&str]) -> &Self {
        let errors: Vec<&str> = self.remarks().into_iter().filter(|line| line.starts_with("longshore: ")).collect();
        assert_eq!(errors.len(), 1, "one line says what is wrong: {self}");
        for text in texts {
            assert!(errors[0].contains(text), "{text:?} is not in {:?}", errors[0]);
        }
        self
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.lines.join("\n"))
    }
}

/// A line of the log, if it is one.
pub fn record(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().filter(|value: &Value| value.get("level").is_some() && value.get("msg").is_some())
}
