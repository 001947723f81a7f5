//! A real PgBouncer in transaction mode before a [`Server`], stopped by its handle.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::port::Port;
use super::postgres::{PASSWORD, Server, USER, as_server, hand_over, program};
use super::until;

pub struct PgBouncer {
    _folder: TempDir,
    port: Port,
    running: Child,
}

impl PgBouncer {
    /// Hands the server's connections on after each transaction; few of them, so that statements do meet on one.
    pub fn before(server: &Server) -> PgBouncer {
        let folder = tempfile::Builder::new().prefix("longshore-pgbouncer").tempdir().unwrap();
        let port = Port::reserve();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 4\nmax_client_conn = 200\nlogfile = {}\n",
            server.port(),
            port.number(),
            at("users"),
            at("log"),
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), config).unwrap();
        std::fs::write(folder.path().join("users"), format!("\"{USER}\" \"{PASSWORD}\"\n")).unwrap();
        hand_over(folder.path());
        let mut command: Command = as_server(&program("pgbouncer"));
        command.arg("--quiet").arg(folder.path().join("pgbouncer.ini")).stdin(Stdio::null());
        let running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let bouncer = PgBouncer { _folder: folder, port, running };
        until("PgBouncer to listen", || TcpStream::connect(bouncer.port.address()).ok());
        bouncer
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{database}", self.port.address())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It holds nothing that must be kept.
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}
