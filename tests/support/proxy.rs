//! A connection between the program and its database that can be made to fail.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the wire does to what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Whole,
    /// The next COMMIT reaches the server; its answer is swallowed and the connection cut. Then it is whole again.
    LosesTheCommit,
    /// Nothing arrives and nothing is cut.
    Silent,
    /// A new connection is left alone for so long before it is served.
    SlowToGreet(Duration),
}

/// Ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// In front of a server on loopback.
    pub async fn new(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = watch::Sender::new(Wire::Whole);
        let mut tasks = JoinSet::new();
        let shared = wire.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connect(client, server, shared.clone()));
            }
        });
        Proxy { address, wire, _tasks: tasks }
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    pub fn wire(&self) -> Wire {
        *self.wire.borrow()
    }

    /// The URL of a database behind it.
    pub fn through(&self, url: &str) -> String {
        let (before, after) = url.split_once('@').unwrap();
        let (_, database) = after.split_once('/').unwrap();
        format!("{before}@{}/{database}?sslmode=disable", self.address)
    }
}

async fn connect(mut client: TcpStream, server: u16, wire: watch::Sender<Wire>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut sent, mut answered) = ([0; 16 * 1024], [0; 16 * 1024]);
    let mut look = wire.subscribe();
    let greets_after = match *look.borrow() {
        Wire::SlowToGreet(wait) => wait,
        Wire::Whole | Wire::LosesTheCommit | Wire::Silent => Duration::ZERO,
    };
    tokio::time::sleep(greets_after).await;
    let mut cut_at_answer = false;
    loop {
        let (length, to_server) = tokio::select! {
            read = client.read(&mut sent) => (read.unwrap_or(0), true),
            read = server.read(&mut answered) => (read.unwrap_or(0), false),
        };
        if length == 0 || look.wait_for(|wire| *wire != Wire::Silent).await.is_err() {
            return;
        }
        let written = if to_server {
            // A simple query: its text, ended by a zero. It is short and goes in one piece.
            let commits = sent[..length].windows(7).any(|bytes| bytes == b"COMMIT\0");
            if commits && wire.send_if_modified(lose) {
                cut_at_answer = true;
            }
            server.write_all(&sent[..length]).await
        } else if cut_at_answer {
            return;
        } else {
            client.write_all(&answered[..length]).await
        };
        if written.is_err() {
            return;
        }
    }
}

/// Whether this is the one that is lost.
fn lose(wire: &mut Wire) -> bool {
    let loses = *wire == Wire::LosesTheCommit;
    if loses {
        *wire = Wire::Whole;
    }
    loses
}
