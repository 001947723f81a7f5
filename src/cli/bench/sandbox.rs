//! The upstream of a bench: `longshore sandbox` as a child.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cli::exit::Failure;

/// `longshore sandbox` as a child, so that its memory and its allocations are not the service's.
pub struct SandboxProcess {
    child: Child,
    pub base_url: String,
    pub api_key: String,
}

impl SandboxProcess {
    pub fn start(bundles: u32) -> Result<Self, Failure> {
        let failed = |why: String| Failure::unavailable(format!("cannot start the sandbox: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut child = Command::new(program)
            .args(["--json", "sandbox", "--listen", "127.0.0.1:0", "--bundles", &bundles.to_string()])
            .args(["--changed", "0.01"])
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            // It says where it listens once it does; printed over several lines, up to the closing brace.
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                said.push_str(&line);
                if line.starts_with('}') || (line.starts_with('{') && line.ends_with('}')) {
                    break;
                }
            }
        }
        let mut sandbox = Self { child, base_url: String::new(), api_key: String::new() };
        let told: Value = serde_json::from_str(&said).map_err(|error| failed(format!("it said {said:?}: {error}")))?;
        let text =
            |key: &str| told[key].as_str().map(str::to_owned).ok_or_else(|| failed(format!("it named no {key}")));
        (sandbox.base_url, sandbox.api_key) = (text("base_url")?, text("api_key")?);
        Ok(sandbox)
    }
}

impl SandboxProcess {
    /// Of a path on its port.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url.trim_end_matches("/v2.5"))
    }

    /// The next generation, with the changes that it was started with.
    pub async fn advance(&self) -> Result<(), Failure> {
        let failed = |error: reqwest::Error| Failure::unavailable(format!("advance the sandbox: {error}"));
        let sent = reqwest::Client::new().post(self.url("/_sandbox/advance")).send().await.map_err(failed)?;
        sent.error_for_status().map(drop).map_err(failed)
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        // It holds nothing that must be kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
