//! A real S3 server of the test's own: the protocol, its parsing and the check of signatures are the `s3s` crate's; what
//! is behind it is a map in memory.
//!
//! ```text
//! client ─▶ log of requests ─▶ s3s: SigV4, XML ─▶ orders (refuse, wait for each other, rules of R2) ─▶ buckets
//! ```
//!
//! It serves on a free port of loopback, on a thread of its own, and is stopped by its handle.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use futures::StreamExt;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::dto::{HeadObjectInput, HeadObjectOutput, PutObjectInput, PutObjectOutput};
use s3s::service::{S3ServiceBuilder, SharedS3Service};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, oneshot};

use super::port::Port;

/// The keys it takes: no log, file or answer may hold them.
pub const ACCESS_KEY: &str = "AKRECOGNISABLE7F3A";
pub const SECRET_KEY: &str = "s3-recognisable-secret-9b2e41";
pub const BUCKET: &str = "images";

/// A file as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub bytes: Vec<u8>,
    pub content_type: Option<String>,
    pub disposition: Option<String>,
}

/// A request as it came, before anything else looked at it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `PUT /images/a.png`.
    pub line: String,
    pub headers: HeaderMap,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What it answers instead of doing what is asked, after it has checked the signature.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub verb: &'static str,
    pub status: u16,
    pub code: &'static str,
    pub retry_after: Option<&'static str>,
    /// How often.
    pub times: usize,
}

#[derive(Default)]
struct Orders {
    refusals: Vec<Refusal>,
    /// As R2: region `auto` alone, no streaming signatures, no checksums, no ACLs.
    r2: bool,
    /// 501 to If-None-Match.
    no_conditions: bool,
    /// HEADs are answered when so many have come.
    meet: Option<Arc<Barrier>>,
}

#[derive(Default)]
struct State {
    buckets: Mutex<HashMap<String, BTreeMap<String, Stored>>>,
    asked: Mutex<Vec<Asked>>,
    orders: Mutex<Orders>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Server {
    port: Port,
    state: Arc<State>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Server {
    /// With one empty bucket.
    pub fn start() -> Server {
        let state = Arc::new(State::default());
        lock(&state.buckets).insert(BUCKET.to_owned(), BTreeMap::new());
        let port = Port::reserve();
        let running = serve(state.clone(), port.address());
        Server { port, state, running: Some(running) }
    }

    /// As Cloudflare's R2 is stricter.
    pub fn start_r2() -> Server {
        let server = Server::start();
        lock(&server.state.orders).r2 = true;
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Nothing answers at its port from now on.
    pub fn stop(&mut self) {
        self.end();
        self.port.until_refused();
    }

    fn end(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().unwrap();
        }
    }

    /// On the same port, with the same files.
    pub fn resume(&mut self) {
        self.stop();
        self.running = Some(serve(self.state.clone(), self.port.address()));
    }

    pub fn refuse(&self, refusal: Refusal) {
        lock(&self.state.orders).refusals.push(refusal);
    }

    pub fn know_no_conditions(&self) {
        lock(&self.state.orders).no_conditions = true;
    }

    /// The next `count` HEADs are answered together.
    pub fn answer_heads_together(&self, count: usize) {
        lock(&self.state.orders).meet = Some(Arc::new(Barrier::new(count)));
    }

    /// Every request so far, signed well or not.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }

    /// The first lines of the requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    pub fn stored(&self, key: &str) -> Option<Stored> {
        lock(&self.state.buckets).get(BUCKET)?.get(key).cloned()
    }

    pub fn store(&self, key: &str, bytes: &[u8]) {
        let stored = Stored { bytes: bytes.to_vec(), content_type: None, disposition: None };
        lock(&self.state.buckets).get_mut(BUCKET).unwrap().insert(key.to_owned(), stored);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(state: Arc<State>, address: SocketAddr) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut builder = S3ServiceBuilder::new(Buckets(state.clone()));
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    builder.set_access(Gate(state.clone()));
    let service = builder.build().into_shared();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::select! {
                () = accept(&listener, &service, &state) => {}
                // The handle is gone.
                _ = stopped => {}
            }
        });
    });
    (stop, thread)
}

async fn accept(listener: &TcpListener, service: &SharedS3Service, state: &Arc<State>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (service, state) = (service.clone(), state.clone());
        let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (service, state) = (service.clone(), state.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                lock(&state.asked).push(Asked { line, headers: request.headers().clone() });
                let answer = service.as_ref().call(request.map(s3s::Body::from)).await;
                Ok::<_, Infallible>(answer.expect("s3s makes an answer of every error"))
            }
        });
        // Connections end with the runtime.
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn refused(code: S3ErrorCode, message: &'static str) -> S3Error {
    S3Error::with_message(code, message)
}

/// Carries out the orders once the signature is found right.
struct Gate(Arc<State>);

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(refused(S3ErrorCode::AccessDenied, "Access Denied"));
        }
        let (verb, headers) = (context.method().as_str(), context.headers());
        let meet = {
            let mut orders = lock(&self.0.orders);
            let refusals = &mut orders.refusals;
            if let Some(at) = refusals.iter().position(|refusal| refusal.verb == verb && refusal.times > 0) {
                refusals[at].times -= 1;
                return Err(refusals[at].error());
            }
            if orders.r2 {
                keeps_the_rules_of_r2(headers)?;
            }
            if orders.no_conditions && headers.contains_key("if-none-match") {
                return Err(refused(S3ErrorCode::NotImplemented, "If-None-Match is not implemented"));
            }
            orders.meet.clone().filter(|_| verb == "HEAD")
        };
        if let Some(meet) = meet
            && meet.wait().await.is_leader()
        {
            lock(&self.0.orders).meet = None;
        }
        Ok(())
    }
}

impl Refusal {
    fn error(&self) -> S3Error {
        let code = S3ErrorCode::from_bytes(self.code.as_bytes()).unwrap_or(S3ErrorCode::Custom(self.code.into()));
        let mut error = refused(code, "as the test ordered");
        error.set_status_code(StatusCode::from_u16(self.status).unwrap());
        if let Some(after) = self.retry_after {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", after.parse().unwrap());
            error.set_headers(headers);
        }
        error
    }
}

fn keeps_the_rules_of_r2(headers: &HeaderMap) -> S3Result<()> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text("x-amz-content-sha256").starts_with("STREAMING-") {
        return Err(refused(S3ErrorCode::NotImplemented, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD not implemented"));
    }
    for name in headers.keys().map(hyper::header::HeaderName::as_str) {
        if name.starts_with("x-amz-checksum-") || matches!(name, "x-amz-trailer" | "x-amz-acl" | "x-amz-tagging") {
            return Err(refused(S3ErrorCode::NotImplemented, "a header is not implemented"));
        }
    }
    if !text("authorization").contains("/auto/s3/aws4_request") {
        let mut error = refused(S3ErrorCode::Custom("InvalidRegionName".into()), "The region name is not valid");
        error.set_status_code(StatusCode::BAD_REQUEST);
        return Err(error);
    }
    Ok(())
}

/// The operations that Longshore uses; all others are 501, as `s3s` answers by itself.
struct Buckets(Arc<State>);

#[async_trait::async_trait]
impl S3 for Buckets {
    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let HeadObjectInput { bucket, key, .. } = request.input;
        let buckets = lock(&self.0.buckets);
        let files = buckets.get(&bucket).ok_or(S3ErrorCode::NoSuchBucket)?;
        let stored = files.get(&key).ok_or(S3ErrorCode::NoSuchKey)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(i64::try_from(stored.bytes.len()).unwrap()),
            e_tag: Some("\"0\"".to_owned()),
            last_modified: Some(SystemTime::now().into()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let PutObjectInput { bucket, key, body, content_type, content_disposition, if_none_match, .. } = request.input;
        let mut bytes = Vec::new();
        let mut body = body.ok_or(S3ErrorCode::IncompleteBody)?;
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|_| S3ErrorCode::IncompleteBody)?);
        }
        let mut buckets = lock(&self.0.buckets);
        let files = buckets.get_mut(&bucket).ok_or(S3ErrorCode::NoSuchBucket)?;
        if if_none_match.is_some() && files.contains_key(&key) {
            return Err(refused(S3ErrorCode::PreconditionFailed, "At least one of the preconditions did not hold"));
        }
        let content_type = content_type.map(|content_type| content_type.to_string());
        files.insert(key, Stored { bytes, content_type, disposition: content_disposition });
        Ok(S3Response::new(PutObjectOutput { e_tag: Some("\"0\"".to_owned()), ..PutObjectOutput::default() }))
    }
}
