//! A port of loopback that stays the test's own, also while its server is away.

use std::net::{SocketAddr, TcpStream};

use tokio::net::TcpSocket;

use super::until;

/// Bound, and never listened at: the system gives it to nobody else as long as this lives, and who asks there is
/// refused. A server that lets its address be used again, as all do, may listen there and leave as often as it likes.
pub struct Port(TcpSocket);

impl Port {
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub fn number(&self) -> u16 {
        self.address().port()
    }

    /// Waits until its server is gone for everybody. A process that another test is starting holds a copy of the
    /// socket for a moment, and the system takes connections for it.
    pub fn until_refused(&self) {
        until("nobody to listen", || TcpStream::connect(self.address()).is_err().then_some(()));
    }
}
