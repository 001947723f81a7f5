//! A server on loopback for the tests of this module: answers what it is told, byte by byte, whether it is HTTP or not.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it does with one request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Cut(Vec<u8>),
    /// Sends these bytes and then nothing, without closing.
    Hang(Vec<u8>),
}

/// A whole answer with a body of known length; `headers` are whole lines, each with its `\r\n`.
pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Answer::Send(bytes)
}

pub(super) struct Server {
    pub url: String,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<u32>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers the requests in their order, whatever connection they come by; the last answer is for all that follow.
    pub async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of the system's choice");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (seen, count) = (heads.clone(), connections.clone());
        let task = tokio::spawn(async move {
            let answers = Arc::new(answers);
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().expect("no test panics with it") += 1;
                tokio::spawn(serve(stream, answers.clone(), seen.clone()));
            }
        });
        Self { url, heads, connections, task }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics with it").clone()
    }

    pub fn connections(&self) -> u32 {
        *self.connections.lock().expect("no test panics with it")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Vec<Answer>>, heads: Arc<Mutex<Vec<String>>>) {
    while let Some(head) = head(&mut stream).await {
        let number = {
            let mut heads = heads.lock().expect("no test panics with it");
            heads.push(head);
            heads.len() - 1
        };
        let answer = answers.get(number).or(answers.last()).expect("a server has an answer");
        let (bytes, goes_on) = match answer {
            Answer::Send(bytes) => (bytes, true),
            Answer::Cut(bytes) => (bytes, false),
            Answer::Hang(bytes) => {
                let _ = stream.write_all(bytes).await;
                return std::future::pending().await;
            }
        };
        // The client may have gone away, which is what some tests are about.
        if stream.write_all(bytes).await.is_err() || !goes_on {
            return;
        }
    }
}

/// Reads a request without a body to its empty line.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
