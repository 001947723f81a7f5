//! A real PostgreSQL of the test's own: in a folder of its own, on a free port of loopback, stopped by its handle.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use super::port::Port;
use super::until;

/// The superuser of every server.
pub const USER: &str = "longshore";
/// No log, file or answer may hold it.
pub const PASSWORD: &str = "pg-recognisable-41c8d2";

/// A server that is stopped when its last handle is dropped.
pub struct Server {
    folder: TempDir,
    port: Port,
    settings: Vec<String>,
    running: Mutex<Option<Child>>,
    databases: AtomicU32,
}

/// The one that tests share which leave the server alone; it lives as long as one of them.
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

#[allow(dead_code)]
impl Server {
    /// The shared server. Take a [`Server::database`] of your own, and do not stop it.
    pub fn shared() -> Arc<Server> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start(&[]));
        *shared = Arc::downgrade(&server);
        server
    }

    /// A server for one test, which may stop and restart it. `settings` as in `shared_buffers=16MB`.
    pub fn start(settings: &[&str]) -> Server {
        let folder = tempfile::Builder::new().prefix("longshore-postgres").tempdir().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        hand_over(folder.path());
        let data = folder.path().join("data");
        let mut initdb = as_server(&program("initdb"));
        initdb.arg("--pgdata").arg(&data).args(["--username", USER, "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions"]);
        initdb.arg("--pwfile").arg(folder.path().join("password"));
        run(&mut initdb);
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let (port, databases) = (Port::reserve(), AtomicU32::new(0));
        let server = Server { folder, port, settings, running: Mutex::default(), databases };
        server.resume();
        server
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// An empty database of the caller's own; answers its URL.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// A database of the caller's own with all that is in another one, which nobody uses at the moment.
    pub fn copy_of(&self, template: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        self.url(&name)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{database}", self.port.address())
    }

    /// What a statement answers: rows by line, columns by `|`. Beside the program under test, over the socket.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|said| panic!("{sql}: {said}"))
    }

    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(program("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"]);
        psql.arg("--host").arg(self.folder.path()).arg("--port").arg(self.port.number().to_string());
        psql.args(["--username", USER, "--dbname", database, "--command", sql]);
        let output = psql.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A client that has run this statement and stays connected until it is dropped.
    pub fn holder(&self, database: &str, sql: &str) -> Holder {
        let mut psql = Command::new(program("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        psql.arg("--host").arg(self.folder.path()).arg("--port").arg(self.port.number().to_string());
        psql.args(["--username", USER, "--dbname", database]);
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{sql}; SELECT 'holds';").unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(answers.map_while(Result::ok).any(|line| line == "holds"), "{sql}");
        Holder(child)
    }

    /// What the server has written into its log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("log")).unwrap()).into_owned()
    }

    /// Ends it as a power cut would end its processes: nothing is finished, clients are cut.
    pub fn crash(&self) {
        self.stop("immediate");
    }

    /// Ends it in order, cutting clients.
    pub fn shut_down(&self) {
        self.stop("fast");
    }

    /// Starts it again on the same port with the same data.
    pub fn resume(&self) {
        let mut postgres = as_server(&program("postgres"));
        postgres.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
        postgres.arg("-p").arg(self.port.number().to_string());
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=200", "logging_collector=off"] {
            postgres.args(["-c", setting]);
        }
        for setting in &self.settings {
            postgres.args(["-c", setting]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        postgres.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.running.lock().unwrap() = Some(postgres.spawn().unwrap());
        until("PostgreSQL to answer", || self.try_psql("postgres", "SELECT 1").ok());
    }

    fn stop(&self, mode: &str) {
        let Some(mut child) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let mut stop = as_server(&program("pg_ctl"));
        stop.args(["stop", "--mode", mode, "--pgdata"]).arg(self.folder.path().join("data"));
        stop.stdout(Stdio::null()).stderr(Stdio::null());
        if !stop.status().is_ok_and(|status| status.success()) {
            // It is ours and has nothing to lose.
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

/// Disconnects when it is dropped.
pub struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        // It holds nothing that must be kept.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("immediate");
    }
}

/// Gives a folder to the user that serves.
pub fn hand_over(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg(server_user()).arg(folder));
    }
}

/// Where distributions put what is not on the PATH; the newest version.
pub fn program(name: &str) -> PathBuf {
    let sbin = Path::new("/usr/sbin").join(name);
    if sbin.exists() {
        return sbin;
    }
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| (version.file_name().to_string_lossy().parse().unwrap_or(0), version.path().join("bin")))
        .filter(|(_, folder)| folder.join(name).exists())
        .collect();
    found.sort();
    found.pop().map_or_else(|| PathBuf::from(name), |(_, folder)| folder.join(name))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|of| std::os::unix::fs::MetadataExt::uid(&of) == 0)
}

/// The server refuses to run as root.
fn server_user() -> &'static str {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    if passwd.lines().any(|line| line.starts_with("postgres:")) { "postgres" } else { "nobody" }
}

/// A command that runs as a user that may serve.
pub fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", server_user(), "--clear-groups", "--inh-caps=-all"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
