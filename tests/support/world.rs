//! A folder, a sandbox and a configuration, in which the program is run.

use std::path::PathBuf;
use std::process::Command;

use longshore::sandbox::promidata::PROFILE;
use longshore::sandbox::{Dials, Handle, Sandbox, Settings};
use tempfile::TempDir;

use super::port::Port;
use super::program::{Ended, Program};
use super::rows::Rows;

/// The key of every world's upstream: no log, file or answer may hold it.
pub const KEY: &str = "sk-recognisable-7f3a9c";

pub struct World {
    pub sandbox: Handle,
    /// Where the sandbox is.
    port: Port,
    folder: TempDir,
    settings: Vec<(String, String)>,
    /// Where the store is, if not in the world's folder.
    database: Option<String>,
}

impl World {
    /// A sandbox with this many bundles, and a service that may ask it as fast as it likes.
    pub fn new(bundles: usize) -> Self {
        Self::with(bundles, Dials::default())
    }

    pub fn with(bundles: usize, dials: Dials) -> Self {
        Self::of(Settings { bundles, leagues: 0, dials, ..Settings::default() })
    }

    /// A sandbox with this many leagues of API-Football and no bundles, and a service with football alone, which may
    /// ask it as fast as it likes and waits shortly before it tries again.
    pub fn football(leagues: usize, dials: Dials) -> Self {
        let world = Self::of(Settings { bundles: 0, leagues, dials, ..Settings::default() });
        let url = world.sandbox.football_url();
        world.configure(&format!(
            "enabled = false\n[domains.football]\nenabled = true\nbase_url = \"{url}\"\napi_key = \"${{UPSTREAM_KEY}}\"\n"
        ));
        let mut world = world
            .set("domains.football.rate_per_second", "1000")
            .set("domains.football.jobs.status.schedule", "off")
            .set("domains.football.breaker.failures", "1000")
            .set("upkeep.every", "200ms");
        for kind in ["leagues", "countries", "status"] {
            world = world.set(&format!("domains.football.jobs.{kind}.backoff"), "fixed 50ms");
        }
        world
    }

    /// A sandbox with this many product families, and a service with products alone, which may ask it as fast as it
    /// likes and waits shortly before it tries again.
    pub fn products(families: u32, dials: Dials) -> Self {
        let world = Self::of(Settings { bundles: 0, leagues: 0, families, dials, ..Settings::default() });
        let url = world.sandbox.promidata_url();
        world.configure(&format!("enabled = false\n[domains.products]\nenabled = true\nbase_url = \"{url}\"\n"));
        let mut world = world.set("domains.products.rate_per_second", "1000").set("upkeep.every", "200ms");
        for kind in ["supplier", "family", "image", "categories"] {
            world = world.set(&format!("domains.products.jobs.{kind}.backoff"), "fixed 50ms");
        }
        world
    }

    fn of(settings: Settings) -> Self {
        let port = Port::reserve();
        let world = Self {
            sandbox: upstream(&port, settings),
            port,
            folder: tempfile::tempdir().unwrap(),
            settings: Vec::new(),
            database: None,
        };
        world.configure("");
        world
    }

    /// Ends the sandbox. From now on nobody is at its address.
    pub fn stop_sandbox(&mut self) {
        let elsewhere = Sandbox::start(Settings { bundles: 0, ..Settings::default() }).unwrap();
        std::mem::replace(&mut self.sandbox, elsewhere).stop();
        self.port.until_refused();
    }

    /// One at the same address.
    pub fn start_sandbox(&mut self, settings: Settings) {
        self.sandbox = upstream(&self.port, settings);
    }

    /// Sets a key for every program that is started from now on.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The store is this database of PostgreSQL.
    pub fn on(mut self, url: String) -> Self {
        self.database = Some(url);
        // What a busy machine holds up is no event of a test that does not ask for it.
        self.set("node.lapse", "10m").set("store.connect_timeout", "5m").set("store.statement_timeout", "5m")
    }

    /// Short waits, so that a test of retries ends.
    pub fn hasty(self) -> Self {
        let mut world = self
            .set("domains.catalog.breaker.open_for", "100ms")
            .set("domains.catalog.breaker.open_max", "400ms")
            .set("upkeep.every", "200ms");
        for kind in ["full", "group", "country", "bundle"] {
            world = world.set(&format!("domains.catalog.jobs.{kind}.backoff"), "fixed 50ms");
        }
        world
    }

    /// Writes the file anew, with these lines of `[domains.catalog]` and of tables after it.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "[store]\nurl = \"sqlite://longshore.db\"\n[objects]\nurl = \"file://objects\"\n[service]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [domains.catalog]\nbase_url = \"{}\"\napi_key = \"${{UPSTREAM_KEY}}\"\n{}{more}\n",
            self.sandbox.base_url(),
            if more.contains("rate_per_second") { "" } else { "rate_per_second = 1000.0\n" },
        );
        // As a whole: a program that runs looks at the file by itself, and must not find half of it.
        let written = self.path("longshore.toml.new");
        std::fs::write(&written, text).unwrap();
        std::fs::rename(written, self.path("longshore.toml")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with nothing of the surroundings of the tests.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.env_clear().env("UPSTREAM_KEY", KEY).env("PROMIDATA_PROFILE", PROFILE).current_dir(self.folder.path());
        if let Some(url) = &self.database {
            // Not in the arguments, which everybody can read.
            command.env("DATABASE_URL", url);
        }
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(args);
        command
    }

    pub fn start(&self, args: &[&str]) -> Program {
        Program::start(self.command(args))
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.start(args).end()
    }

    /// A command that asks the running service at `address`.
    pub fn ask(&self, address: &str, args: &[&str]) -> Ended {
        let listen = format!("service.listen={address}");
        self.run(&[&["--set", &listen], args].concat())
    }

    /// The store's rows, read beside whoever owns it.
    pub fn rows(&self) -> Rows<'static> {
        Rows::open(&self.path("longshore.db"))
    }

    /// Every file of the world that holds this text. Its own configuration names only the variable.
    pub fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.is_file() && holds(&std::fs::read(&path).unwrap(), text) {
                    found.push(path);
                }
            }
        }
        found
    }
}

fn upstream(port: &Port, settings: Settings) -> Handle {
    Sandbox::start(Settings { listen: port.address(), api_key: KEY.to_owned(), ..settings }).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test has its own reason.
        if !std::thread::panicking() {
            assert_eq!(self.files_with(KEY), Vec::<PathBuf>::new(), "no file holds the upstream's key");
        }
    }
}
