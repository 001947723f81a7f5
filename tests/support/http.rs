//! A client of one request a connection, and upstreams that answer what no honest one would.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;

use super::DEADLINE;

/// Status and body; `None` when nothing answers.
pub fn ask(address: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).expect("answers are text");
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// The JSON that a GET is answered with.
pub fn get(address: &str, path: &str) -> Value {
    let (status, body) = ask(address, "GET", path, "").expect("the service answers");
    assert!(status == 200 || status == 503, "{path}: {status} {body}");
    serde_json::from_str(&body).unwrap()
}

/// An upstream of a thread that sends the same bytes to whoever asks, then ends the connection.
pub struct Upstream {
    pub base_url: String,
    stop: Arc<AtomicBool>,
    address: std::net::SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// `answer` writes everything, the head too.
    pub fn start(answer: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                // A client that leaves in the middle is what some of these answers are for.
                let _ = stream.read(&mut head);
                let _ = answer(&mut stream);
            }
        });
        Self { base_url: format!("http://{address}/v2.5"), stop, address, thread: Some(thread) }
    }

    /// 200 with this body and type.
    pub fn with_body(content_type: &'static str, body: &'static str) -> Self {
        Self::start(move |stream| {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            )
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread from its accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
