//! The HTTP server: health, and the JSON API of the operators' door, on one port.
//!
//! ```text
//! request ─▶ guard (token, Host, Content-Type, deadline) ─▶ api (one function an endpoint) ─▶ admin
//!        ◀── problem+json, or JSON ◀──────────────────────────────┘
//! ```
//!
//! It runs as a part of the tree, one worker thread inside the System that is there, and answers until `Stop`: while
//! the service drains, `/readyz` says so. Beyond loopback it listens only with an admin token.
//!
//! What it does not do: decide anything (`admin` does), keep state, or serve TLS (a proxy in front does).

mod api;
mod guard;
mod problem;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App, web};
use longshore_actors::backoff::{Backoff, chance};
use longshore_actors::shutdown::{Phase, Phases};
use longshore_actors::status::{Part, PartState};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use crate::admin::Admin;
use crate::http::guard::Guard;

/// The largest body is the params of one job; a larger one is answered with 413.
pub const BODY_MAX: usize = 256 * 1024;

/// For the head of a request: a client that dribbles loses its place.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// An idle connection is closed after this.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// For the answers that are on their way when the service stops.
const STOP_SECONDS: u64 = 2;

const REBIND_BACKOFF: Backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(30));

#[derive(Debug)]
pub struct HttpSettings {
    /// Port 0 takes any free one.
    pub listen: SocketAddr,
    pub admin_token: Option<SecretString>,
}

/// Why the server cannot listen: what, where, and what to do.
#[derive(Debug)]
pub enum BindError {
    InUse(SocketAddr),
    /// Beyond loopback without a token.
    Open(SocketAddr),
    EmptyToken,
    Io(SocketAddr, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::InUse(at) => write!(f, "{at} is in use: set service.listen or stop the other process"),
            BindError::Open(at) => write!(
                f,
                "{at} can be reached from other machines: set service.admin_token, or let service.listen be on 127.0.0.1"
            ),
            BindError::EmptyToken => {
                f.write_str("service.admin_token is empty: set it to a long random text or leave it out")
            }
            BindError::Io(at, error) => write!(f, "cannot listen on {at}: {error}: check service.listen"),
        }
    }
}

impl std::error::Error for BindError {}

pub struct HttpServer {
    address: SocketAddr,
    token: Option<blake3::Hash>,
    admin: web::Data<Admin>,
    /// Bound before anything runs, so that a port in use ends the start and not the service. Taken by the first run.
    listener: Mutex<Option<TcpListener>>,
}

impl HttpServer {
    /// Takes the port, and answers nothing yet.
    pub fn bind(settings: HttpSettings, admin: Arc<Admin>) -> Result<Self, BindError> {
        let HttpSettings { listen, admin_token } = settings;
        let token = match admin_token {
            Some(token) if token.expose_secret().trim().is_empty() => return Err(BindError::EmptyToken),
            Some(token) => Some(blake3::hash(token.expose_secret().trim().as_bytes())),
            None if !listen.ip().is_loopback() => return Err(BindError::Open(listen)),
            None => None,
        };
        let listener = bind(listen)?;
        let address = listener.local_addr().map_err(|error| BindError::Io(listen, error))?;
        Ok(Self { address, token, admin: web::Data::from(admin), listener: Mutex::new(Some(listener)) })
    }

    /// Where it listens, the port that was taken for port 0 included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `Stop`. Needs the actix System it is called in. May be called again should it have panicked.
    pub async fn run(&self, phases: Phases, part: Arc<Part>) {
        let mut failures = 0;
        while phases.now() < Phase::Stop {
            let Err(error) = self.serve(&phases, &part).await else { break };
            failures += 1;
            let wait = REBIND_BACKOFF.after(failures, chance());
            part.set(PartState::Waiting);
            part.say(error.to_string());
            warn!(%error, ?wait, "the HTTP server is down");
            tokio::select! {
                () = phases.reached(Phase::Stop) => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        part.set(PartState::Stopped);
    }

    async fn serve(&self, phases: &Phases, part: &Arc<Part>) -> Result<(), BindError> {
        let bound = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let listener = match bound {
            Some(listener) => listener,
            None => bind(self.address)?,
        };
        let guard = web::Data::new(Guard::new(self.token, part.clone()));
        let admin = self.admin.clone();
        let app = move || {
            App::new()
                .app_data(admin.clone())
                .app_data(guard.clone())
                .app_data(web::PayloadConfig::new(BODY_MAX))
                .wrap(from_fn(guard::pass))
                .wrap(
                    DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")).add(("Cache-Control", "no-store")),
                )
                .configure(api::routes)
        };
        let server = actix_web::HttpServer::new(app)
            .workers(1)
            .max_connections(CONNECTIONS_MAX)
            .client_request_timeout(HEAD_DEADLINE)
            .keep_alive(KEEP_ALIVE)
            .shutdown_timeout(STOP_SECONDS)
            .disable_signals()
            .listen(listener)
            .map_err(|error| BindError::Io(self.address, error))?
            .run();
        let handle = server.handle();
        part.set(PartState::Idle);
        part.say(format!("http://{}", self.address));
        info!(address = %self.address, "listening");
        tokio::pin!(server);
        let ended = tokio::select! {
            ended = &mut server => ended,
            () = phases.reached(Phase::Stop) => {
                part.set(PartState::Draining);
                // The server moves only while it is polled.
                let ((), ended) = tokio::join!(handle.stop(true), &mut server);
                ended
            }
        };
        ended.map_err(|error| BindError::Io(self.address, error))
    }
}

fn bind(at: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(at).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(at),
        _ => BindError::Io(at, error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::admin::tests::{FakeTree, START, admin, request};
    use crate::admin::{DomainsView, JobView};
    use crate::schedule::fake::FakeStore;
    use crate::store::RejectedRecord;
    use actix_web::http::StatusCode;
    use longshore_actors::job::{JobId, NewJob, State};
    use longshore_actors::ledger::Ledger;
    use longshore_actors::status::PartKind;
    use reqwest::Method;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Longer than anything here takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Running {
        client: reqwest::Client,
        url: String,
        address: SocketAddr,
        admin: Arc<Admin>,
        store: FakeStore,
        tree: Arc<FakeTree>,
        part: Arc<Part>,
        task: actix_rt::task::JoinHandle<()>,
    }

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn settings(token: Option<&str>) -> HttpSettings {
        HttpSettings { listen: loopback(), admin_token: token.map(SecretString::from) }
    }

    fn start(token: Option<&str>) -> Running {
        // A second installation is refused and the first one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (admin, store, tree) = admin();
        let admin = Arc::new(admin);
        let server = HttpServer::bind(settings(token), admin.clone()).unwrap();
        let (address, phases) = (server.address(), admin.phases.clone());
        let part = admin.board.part("http", PartKind::Service);
        let running_part = part.clone();
        let task = actix_rt::spawn(async move { server.run(phases, running_part).await });
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Running { client, url: format!("http://{address}"), address, admin, store, tree, part, task }
    }

    impl Running {
        async fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, String, Value) {
            let response = request.send().await.unwrap();
            let status = StatusCode::from_u16(response.status().as_u16()).unwrap();
            let content_type = response.headers().get("content-type");
            let content_type = content_type.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
            let body = response.bytes().await.unwrap();
            (status, content_type, serde_json::from_slice(&body).unwrap_or(Value::Null))
        }

        async fn get(&self, path: &str) -> (StatusCode, Value) {
            let (status, content_type, body) = self.send(self.client.get(format!("{}{path}", self.url))).await;
            assert_form(status, &content_type, &body);
            (status, body)
        }

        fn post_raw(&self, path: &str, body: impl Into<String>) -> reqwest::RequestBuilder {
            let request = self.client.post(format!("{}{path}", self.url)).body(body.into());
            request.header("content-type", "application/json")
        }

        async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
            let (status, content_type, body) = self.send(self.post_raw(path, body.to_string())).await;
            assert_form(status, &content_type, &body);
            (status, body)
        }

        async fn stop(self) {
            self.admin.phases.enter(Phase::Stop);
            tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
            assert_eq!(self.part.status().state, PartState::Stopped);
        }
    }

    /// Every error is a problem that names its status and says what was wrong.
    fn assert_form(status: StatusCode, content_type: &str, body: &Value) {
        // Readiness is an answer, not a problem, whatever its status.
        if status.as_u16() < 400 || body.get("ready").is_some() {
            return;
        }
        assert_eq!(content_type, "application/problem+json", "{status} {body}");
        assert_eq!(body["status"], json!(status.as_u16()));
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    }

    fn detail(body: &Value) -> &str {
        body["detail"].as_str().unwrap()
    }

    #[actix_rt::test]
    async fn health_follows_the_store_and_the_phase() {
        let server = start(None);
        assert_eq!(server.get("/livez").await, (StatusCode::OK, json!({ "live": true, "pid": std::process::id() })));
        assert_eq!(server.get("/readyz").await, (StatusCode::OK, json!({ "ready": true, "checks": [] })));
        let (status, body) = server.get("/readyz?verbose").await;
        assert_eq!(
            (status, &body["checks"][0]["name"], &body["checks"][0]["ok"]),
            (StatusCode::OK, &json!("store"), &json!(true))
        );
        let head = server.client.head(format!("{}/health", server.url)).send().await.unwrap();
        assert_eq!(head.status().as_u16(), 200);

        server.store.set_down(Some("disk full"));
        let (status, body) = server.get("/health").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["checks"][0]["detail"], json!("the ledger is unavailable: disk full"));
        assert_eq!(server.get("/livez").await.0, StatusCode::OK);

        server.store.set_down(None);
        server.admin.phases.enter(Phase::Drain);
        let (status, body) = server.get("/readyz").await;
        assert_eq!((status, &body["checks"][0]["detail"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("shutting down")));
        server.stop().await;
    }

    #[actix_rt::test]
    async fn jobs_are_put_in_listed_shown_cancelled_and_retried() {
        let server = start(None);
        let new = json!({ "domain": "catalog", "kind": "catalog.group", "params": { "group": "A" }, "priority": -1 });
        assert_eq!(
            server.post("/api/v1/jobs", new).await,
            (StatusCode::CREATED, json!({ "id": 1, "existing": false }))
        );
        server.admin.enqueue(request("catalog", "catalog.full")).await.unwrap();
        server.store.enqueue(vec![NewJob::new("catalog", "catalog.old", json!({}))], START).await.unwrap();

        let ids = |body: &Value| -> Vec<i64> {
            body["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
        };
        let (_, all) = server.get("/api/v1/jobs").await;
        assert_eq!(ids(&all), [3, 2, 1]);
        assert!(all["jobs"][0]["why"].as_str().unwrap().starts_with("no handler"), "{all}");
        assert_eq!(all["jobs"][1]["why"], Value::Null);
        assert_eq!(
            ids(&server.get("/api/v1/jobs?kind=catalog.group&domain=catalog&state=waiting,active").await.1),
            [1]
        );
        assert_eq!(ids(&server.get("/api/v1/jobs?before=3&limit=1").await.1), [2]);
        assert_eq!(ids(&server.get("/api/v1/jobs?parent=1").await.1), Vec::<i64>::new());
        assert_eq!(ids(&server.get("/api/v1/jobs?state=failed").await.1), Vec::<i64>::new());

        let (status, job) = server.get("/api/v1/jobs/1").await;
        assert_eq!((status, &job["params"]["group"], &job["priority"]), (StatusCode::OK, &json!("A"), &json!(-1)));
        assert!(job.as_object().unwrap().contains_key("progress"));
        let view: JobView = serde_json::from_value(job).unwrap();
        assert_eq!((view.record.id, view.record.state), (JobId(1), State::Waiting), "the command line reads it back");

        let (status, job) = server.post("/api/v1/jobs/1/cancel", json!({ "reason": "wrong group" })).await;
        assert_eq!(
            (status, &job["state"], &job["message"]),
            (StatusCode::OK, &json!("cancelled"), &json!("wrong group"))
        );
        let (_, _, job) = server.send(server.post_raw("/api/v1/jobs/2/cancel", "")).await;
        assert_eq!(job["message"], json!("cancelled by an operator"));
        let (status, body) = server.post("/api/v1/jobs/1/cancel", json!({})).await;
        assert_eq!((status, detail(&body)), (StatusCode::CONFLICT, "job 1 is cancelled"));
        let (status, job) = server.post("/api/v1/jobs/1/retry", json!({})).await;
        assert_eq!((status, &job["state"]), (StatusCode::OK, &json!("waiting")));
        assert_eq!(server.post("/api/v1/jobs/1/retry", json!({})).await.0, StatusCode::CONFLICT);
        assert!(server.part.status().done >= 10, "every answer is counted");
        server.stop().await;
    }

    #[actix_rt::test]
    async fn domains_schedules_and_rejects_are_shown_and_the_tree_is_told() {
        let server = start(None);
        server.admin.enqueue(request("catalog", "catalog.full")).await.unwrap();
        server.store.rows().rejects.push(RejectedRecord {
            id: 1,
            domain: "catalog".into(),
            kind: "catalog.group".into(),
            key: Some("esim_1GB".into()),
            reason: "negative price".into(),
            raw: "{}".into(),
            job: JobId(1),
            at: START,
        });
        let (_, domains) = server.get("/api/v1/domains").await;
        assert_eq!(domains["parts"][0]["name"], json!("http"));
        assert_eq!(domains["stats"]["kinds"][0]["waiting"], json!(1));
        assert!(serde_json::from_value::<DomainsView>(domains).is_ok());
        let (_, schedules) = server.get("/api/v1/schedules").await;
        assert_eq!(schedules["schedules"][0]["zone"], json!("Europe/Berlin"));
        let (_, rejects) = server.get("/api/v1/rejects?domain=catalog&limit=5").await;
        assert_eq!(rejects["rejects"][0]["reason"], json!("negative price"));
        assert_eq!(server.get("/api/v1/rejects?domain=other").await.1, json!({ "rejects": [] }));

        for verb in ["restart", "park", "unpark"] {
            assert_eq!(
                server.post(&format!("/api/v1/domains/catalog/{verb}"), json!({})).await.0,
                StatusCode::NO_CONTENT
            );
        }
        let pool = json!({ "actors": 4, "mailbox": 8 });
        assert_eq!(server.post("/api/v1/domains/catalog/pools/fetch", pool.clone()).await.0, StatusCode::NO_CONTENT);
        let told = server.tree.told.lock().unwrap().clone();
        assert_eq!(told, ["restart catalog", "park catalog", "unpark catalog", "resize catalog/fetch to 4 x 8"]);

        assert_eq!(server.post("/api/v1/domains/down/park", json!({})).await.0, StatusCode::CONFLICT);
        let (status, body) = server.post("/api/v1/domains/catalgo/park", json!({})).await;
        assert!(status == StatusCode::NOT_FOUND && detail(&body).contains("did you mean \"catalog\""), "{body}");
        let (status, body) = server.post("/api/v1/domains/catalog/pools/sort", pool).await;
        assert!(status == StatusCode::NOT_FOUND && detail(&body).contains("fetch, transform, upload"));
        let (status, body) =
            server.post("/api/v1/domains/catalog/pools/fetch", json!({ "actors": 0, "mailbox": 1 })).await;
        assert!(status == StatusCode::BAD_REQUEST && detail(&body).contains("from 1 to 1024"));
        server.stop().await;
    }

    #[actix_rt::test]
    async fn the_page_lists_the_endpoints() {
        let server = start(None);
        let response = server.client.get(&server.url).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let page = response.text().await.unwrap();
        assert!(page.contains("/api/v1/domains/{name}/pools/{stage}"));
        server.stop().await;
    }

    #[actix_rt::test]
    async fn bad_requests_say_what_was_wrong() {
        let server = start(None);
        let gets = [
            ("/api/v1/jobs?limit=many", "limit is a number"),
            ("/api/v1/jobs?limit=501", "at most 500"),
            ("/api/v1/jobs?limit=-1", "limit is a number"),
            ("/api/v1/jobs?before=x", "before is a number"),
            ("/api/v1/jobs?state=done", "known: waiting, delayed, active"),
            ("/api/v1/jobs?status=failed", "no parameter \"status\""),
            ("/api/v1/jobs?domain=a&domain=b", "domain is given twice"),
            ("/api/v1/jobs/latest", "a job's id is a number"),
            ("/readyz?verbose=maybe", "verbose is true or false"),
        ];
        for (path, wrong) in gets {
            let (status, body) = server.get(path).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
            assert!(detail(&body).contains(wrong), "{path}: {body}");
        }
        let bodies = [
            ("{\"domain\":", "line 1"),
            ("[]", "not as expected"),
            ("{}", "missing field `domain`"),
            (r#"{"domain":"catalog","kind":"catalog.full","prams":{}}"#, "unknown field `prams`"),
            (r#"{"domain":"catalog","kind":"catalog.full","params":"x"}"#, "must be an object"),
            (r#"{"domain":"nope","kind":"x"}"#, "known: catalog, down"),
            (r#"{"domain":"catalog","kind":"catalog.ful"}"#, "did you mean \"catalog.full\""),
        ];
        for (sent, wrong) in bodies {
            let (status, _, body) = server.send(server.post_raw("/api/v1/jobs", sent)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{sent}");
            assert!(detail(&body).contains(wrong), "{sent}: {body}");
        }
        assert_eq!(server.get("/api/v1/jobs/77").await.0, StatusCode::NOT_FOUND);
        assert_eq!(server.get("/api/v2/jobs").await.0, StatusCode::NOT_FOUND);
        let (status, body) = server.post("/api/v1/schedules", json!({})).await;
        assert_eq!((status, detail(&body)), (StatusCode::METHOD_NOT_ALLOWED, "POST is not for this address"));
        let big = format!("{{\"domain\":\"{}\"}}", "x".repeat(BODY_MAX));
        let (status, content_type, body) = server.send(server.post_raw("/api/v1/jobs", big)).await;
        assert_form(status, &content_type, &body);
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        server.store.set_down(Some("locked"));
        for path in ["/api/v1/jobs", "/api/v1/jobs/1", "/api/v1/domains", "/api/v1/rejects", "/api/v1/schedules"] {
            assert_eq!(server.get(path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        assert!(server.store.rows().jobs.is_empty());
        server.stop().await;
    }

    #[actix_rt::test]
    async fn with_a_token_only_its_bearer_changes_anything() {
        let server = start(Some("s3cret-token"));
        let park = "/api/v1/domains/catalog/park";
        for given in [None, Some("Bearer wrong"), Some("s3cret-token"), Some("Basic s3cret-token"), Some("Bearer ")] {
            let mut request = server.post_raw(park, "{}");
            if let Some(given) = given {
                request = request.header("authorization", given);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert_eq!(response.status().as_u16(), 401, "{given:?}");
            assert!(!response.text().await.unwrap().contains("s3cret"));
        }
        assert!(server.tree.told.lock().unwrap().is_empty());
        assert_eq!(server.get("/api/v1/jobs").await.0, StatusCode::OK, "reading is free");
        // With a token the name in `Host` is the proxy's affair.
        let request = server.post_raw(park, "{}").bearer_auth("s3cret-token").header("host", "ops.example.com");
        assert_eq!(server.send(request).await.0, StatusCode::NO_CONTENT);
        server.stop().await;
    }

    #[actix_rt::test]
    async fn foreign_pages_cannot_change_anything() {
        let server = start(None);
        let park = "/api/v1/domains/catalog/park";
        let form = server.client.post(format!("{}{park}", server.url)).header("content-type", "text/plain").body("{}");
        assert_eq!(server.send(form).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let bare = server.client.post(format!("{}{park}", server.url));
        assert_eq!(server.send(bare).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let rebound = server.post_raw(park, "{}").header("host", "evil.example:8500");
        assert_eq!(server.send(rebound).await.0, StatusCode::FORBIDDEN);
        let delete = server.client.request(Method::DELETE, format!("{}/api/v1/jobs/1", server.url));
        assert_eq!(server.send(delete).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(server.tree.told.lock().unwrap().is_empty());
        let charset = server.client.post(format!("{}{park}", server.url)).body("{}");
        let charset = charset.header("content-type", "application/json; charset=utf-8");
        assert_eq!(server.send(charset).await.0, StatusCode::NO_CONTENT);
        server.stop().await;
    }

    #[actix_rt::test]
    async fn raw_nonsense_is_answered_and_the_server_lives() {
        let server = start(None);
        for nonsense in [
            "\r\n\r\nhello\r\n\r\n",
            "GET / HTTP/9.9\r\n\r\n",
            "POST /api/v1/jobs HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
            stream.write_all(nonsense.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
        }
        assert_eq!(server.get("/livez").await.0, StatusCode::OK);
        server.stop().await;
    }

    #[actix_rt::test]
    async fn what_cannot_be_bound_says_why_and_what_to_do() {
        let (admin, _store, _tree) = admin();
        let admin = Arc::new(admin);
        let first = HttpServer::bind(settings(None), admin.clone()).unwrap();
        let listen = first.address();
        let text = |settings| HttpServer::bind(settings, admin.clone()).err().unwrap().to_string();
        let expected = format!("{listen} is in use: set service.listen or stop the other process");
        assert_eq!(text(HttpSettings { listen, admin_token: None }), expected);
        let open: SocketAddr = "0.0.0.0:0".parse().unwrap();
        assert!(text(HttpSettings { listen: open, admin_token: None }).contains("set service.admin_token"));
        assert!(text(settings(Some(" "))).contains("admin_token is empty"));
        let far = HttpSettings { listen: "192.0.2.1:0".parse().unwrap(), admin_token: Some("t".into()) };
        assert!(text(far).starts_with("cannot listen on 192.0.2.1:0"));
        assert!(HttpServer::bind(HttpSettings { listen: open, admin_token: Some("t".into()) }, admin.clone()).is_ok());
    }

    #[actix_rt::test]
    async fn it_stops_with_an_idle_connection_and_gives_the_port_back() {
        let server = start(None);
        let (address, admin) = (server.address, server.admin.clone());
        let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut some = [0; 16];
        idle.read_exact(&mut some).await.unwrap();
        let begun = std::time::Instant::now();
        server.stop().await;
        assert!(begun.elapsed() < KEEP_ALIVE, "it does not wait for what may come: {:?}", begun.elapsed());
        assert!(HttpServer::bind(HttpSettings { listen: address, admin_token: None }, admin).is_ok());
    }
}
