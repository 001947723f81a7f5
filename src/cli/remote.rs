//! How a command reaches jobs: through the running service, or straight to the store when none runs.
//!
//! ```text
//! jobs, domains ─▶ Door ─┬─ Http    something listens at service.listen
//!                        └─ Direct  nothing does: the store's own ledger, opened for this command
//! ```
//!
//! The store belongs to one process at a time, so the service is always asked first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use longshore_actors::clock::Clock;
use longshore_actors::job::{JobId, NewJob, State};
use longshore_actors::ledger::{Change, Filter, JobRecord, KindStats, Ledger, Stats};
use longshore_actors::status::{Progress, Status};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin::{self, AdminError, RetryAnswer, RetryRequest};
use crate::cli::exit::{Exit, Failure};
use crate::cli::wiring;
use crate::config::{Config, Secret};

/// An answer of the control endpoint takes milliseconds; beyond this the service hangs.
const TIMEOUT: Duration = Duration::from_secs(15);

pub enum Door {
    Http(Client),
    Direct(Arc<dyn Ledger>),
}

/// A job, how far it is if it runs, and why it does not if it waits: only a running service knows either.
#[derive(Clone, Debug)]
pub struct JobView {
    pub job: JobRecord,
    pub progress: Option<Progress>,
    pub why: Option<String>,
    /// How its descendants stand, by kind.
    pub family: Vec<KindStats>,
}

/// What runs, and how many jobs there are.
#[derive(Clone, Debug, Deserialize)]
pub struct Overview {
    /// Empty when no service runs.
    pub parts: Vec<Status>,
    pub stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Put {
    pub id: JobId,
    /// A job with the same unique key was there already.
    pub existing: bool,
}

impl Door {
    /// Asks the service; if nothing listens, opens the store.
    pub async fn open(config: &Config) -> Result<Door, Failure> {
        match Client::connect(config).await? {
            Some(client) => Ok(Door::Http(client)),
            None => Ok(Door::Direct(wiring::open_ledger(config).await?)),
        }
    }

    /// Newest first.
    pub async fn jobs(&self, filter: Filter) -> Result<Vec<JobRecord>, Failure> {
        match self {
            Door::Direct(ledger) => Ok(ledger.jobs(filter).await?),
            Door::Http(client) => {
                #[derive(Deserialize)]
                struct Jobs {
                    jobs: Vec<JobRecord>,
                }
                Ok(client.get::<Jobs>("/api/v1/jobs", &query(&filter)).await?.jobs)
            }
        }
    }

    pub async fn job(&self, id: JobId) -> Result<JobView, Failure> {
        match self {
            Door::Direct(ledger) => {
                let found = ledger.jobs(Filter { ids: vec![id], ..Filter::default() }).await?.pop();
                let job = found.ok_or_else(|| Failure::failed(format!("there is no job {id}")))?;
                let family = ledger.family(id).await?;
                Ok(JobView { job, progress: None, why: None, family })
            }
            Door::Http(client) => view(client.get(&format!("/api/v1/jobs/{id}"), &[]).await?),
        }
    }

    pub async fn retry(&self, id: JobId) -> Result<(), Failure> {
        match self {
            Door::Direct(ledger) => Ok(ledger.change(id, Change::Retry, Clock::system().now()).await?),
            Door::Http(client) => client.post(&format!("/api/v1/jobs/{id}/retry"), &json!({})).await.map(drop),
        }
    }

    /// Failed jobs by filter.
    pub async fn retry_failed(&self, request: &RetryRequest) -> Result<RetryAnswer, Failure> {
        match self {
            Door::Direct(ledger) => {
                admin::retry_failed(&**ledger, request, Clock::system().now()).await.map_err(|error| match error {
                    AdminError::Bad(text) => Failure::usage(text),
                    AdminError::Unavailable(text) => Failure::unavailable(text),
                    AdminError::Broken(text) => Failure::internal(text),
                    AdminError::Missing(text) | AdminError::Refused(text) => Failure::failed(text),
                })
            }
            Door::Http(client) => read(client.post("/api/v1/jobs/retry", &json!(request)).await?),
        }
    }

    pub async fn cancel(&self, id: JobId, reason: &str) -> Result<(), Failure> {
        match self {
            Door::Direct(ledger) => {
                let change = Change::Cancel { reason: reason.to_owned() };
                Ok(ledger.change(id, change, Clock::system().now()).await?)
            }
            Door::Http(client) => {
                client.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({ "reason": reason })).await.map(drop)
            }
        }
    }

    pub async fn enqueue(&self, job: NewJob) -> Result<Put, Failure> {
        match self {
            Door::Direct(ledger) => {
                let answer = ledger.enqueue(vec![job], Clock::system().now()).await?.pop();
                match answer.ok_or_else(|| Failure::internal("the ledger gave no answer"))? {
                    longshore_actors::ledger::Enqueued::New(id) => Ok(Put { id, existing: false }),
                    longshore_actors::ledger::Enqueued::Existing(id) => Ok(Put { id, existing: true }),
                }
            }
            Door::Http(client) => {
                let NewJob { domain, kind, params, priority, .. } = job;
                let body = json!({ "domain": domain, "kind": kind, "params": params, "priority": priority });
                read(client.post("/api/v1/jobs", &body).await?)
            }
        }
    }

    pub async fn overview(&self) -> Result<Overview, Failure> {
        match self {
            Door::Direct(ledger) => Ok(Overview { parts: Vec::new(), stats: ledger.stats().await? }),
            Door::Http(client) => client.get("/api/v1/domains", &[]).await,
        }
    }
}

/// Speaks to the control endpoint of a running service.
#[derive(Debug)]
pub struct Client {
    base: String,
    token: Option<Secret>,
    http: reqwest::Client,
    /// The service's process, once it has said so.
    pid: Option<u32>,
}

#[derive(Deserialize)]
struct Alive {
    pid: Option<u32>,
}

impl Client {
    /// `None` when nothing listens.
    pub async fn connect(config: &Config) -> Result<Option<Client>, Failure> {
        let mut client = Client::new(config.service.listen, config.service.admin_token.clone())?;
        match client.http.get(format!("{}/livez", client.base)).send().await {
            Ok(answer) => {
                // Whatever else listens there is found out by the first real question.
                client.pid = answer.json::<Alive>().await.ok().and_then(|alive| alive.pid);
                Ok(Some(client))
            }
            Err(error) if error.is_connect() => Ok(None),
            Err(error) => Err(client.unreachable(&error)),
        }
    }

    /// The service, which must be running.
    pub async fn demand(config: &Config) -> Result<Client, Failure> {
        Client::connect(config).await?.ok_or_else(|| {
            let listen = config.service.listen;
            Failure::unavailable(format!("no service listens at {listen}; start it with `longshore run`"))
        })
    }

    /// The service must be the one that owns the configured store: a demo on the same address must not be asked to
    /// sync what this configuration names.
    pub async fn demand_owner(&self, config: &Config) -> Result<(), Failure> {
        if let Some(pid) = self.pid
            && wiring::is_owner(config, pid).await?
        {
            return Ok(());
        }
        Err(Failure::unavailable(format!(
            "the service at {} does not own {}: set service.listen or store.url so that both name the same service",
            self.base,
            config.store.url.place()
        )))
    }

    pub fn new(listen: SocketAddr, token: Option<Secret>) -> Result<Client, Failure> {
        // reqwest was built without a TLS provider of its own; a second installation is refused, and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| Failure::internal(format!("cannot make an HTTP client: {error}")))?;
        Ok(Client { base: format!("http://{}", reachable(listen)), token, http, pid: None })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Failure> {
        read(self.send(self.http.get(format!("{}{path}", self.base)).query(query)).await?)
    }

    /// The answer's JSON; null for an empty one.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.http.post(format!("{}{path}", self.base)).json(body)).await
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let json = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&body) };
        match json {
            Ok(json) if status.is_success() => Ok(json),
            Ok(problem) => Err(explain(status, &problem)),
            Err(_) => Err(Failure::unavailable(format!(
                "{} answered {status} without JSON: something else may listen there; check service.listen",
                self.base
            ))),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() {
            format!("did not answer within {} s", TIMEOUT.as_secs())
        } else if error.is_connect() {
            "cannot be reached".to_owned()
        } else {
            format!("broke off ({})", error.to_string().replace('\n', " "))
        };
        Failure::unavailable(format!("the service at {} {why}; check service.listen and its log", self.base))
    }
}

/// What the service made of a request that it refused.
fn explain(status: StatusCode, problem: &Value) -> Failure {
    let text = |key: &str| problem.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let said = text("detail").or_else(|| text("title")).unwrap_or("no reason given").to_owned();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failure::failed(format!("the service refused the token ({said}); set service.admin_token to the service's"))
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Failure::usage(said),
        StatusCode::SERVICE_UNAVAILABLE => Failure::unavailable(said),
        status if status.is_server_error() => Failure::new(Exit::Internal, format!("{status}: {said}")),
        _ => Failure::failed(said),
    }
}

fn read<T: DeserializeOwned>(json: Value) -> Result<T, Failure> {
    serde_json::from_value(json).map_err(|error| {
        Failure::internal(format!("the service's answer is not understood ({error}); are both of the same version?"))
    })
}

/// Taken apart by hand: a flattened record would lose the numeric keys of its checkpoint.
fn view(mut json: Value) -> Result<JobView, Failure> {
    let mut take = |key: &str| json.as_object_mut().and_then(|object| object.remove(key)).unwrap_or(Value::Null);
    let (progress, why, family) = (take("progress"), take("why"), take("family"));
    let family = if family.is_null() { Vec::new() } else { read(family)? };
    Ok(JobView { job: read(json)?, progress: read(progress)?, why: read(why)?, family })
}

fn query(filter: &Filter) -> Vec<(&'static str, String)> {
    // One job has an address of its own, so a listing is never asked for ids.
    let Filter { ids: _, domain, kind, states, parent, before, limit } = filter;
    let mut query = Vec::new();
    if !states.is_empty() {
        query.push(("state", states.iter().copied().map(State::as_str).collect::<Vec<_>>().join(",")));
    }
    for (name, value) in [("domain", domain), ("kind", kind)] {
        query.extend(value.iter().map(|value| (name, value.clone())));
    }
    for (name, value) in [("parent", parent), ("before", before)] {
        query.extend(value.iter().map(|value| (name, value.to_string())));
    }
    if *limit > 0 {
        query.push(("limit", limit.to_string()));
    }
    query
}

/// Where a service that listens on every address is found.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A service that gives one answer to one request and hands back what it was asked.
    async fn answering(status: &'static str, body: String) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            // Headers, and the body of what is posted: both end before the answer is due.
            while !complete(&request) {
                let n = stream.read(&mut chunk).await.unwrap();
                assert!(n > 0, "the request broke off");
                request.extend_from_slice(&chunk[..n]);
            }
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (address, asked)
    }

    fn complete(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        body.len() >= length
    }

    fn record(id: i64) -> Value {
        json!({
            "id": id, "domain": "catalog", "kind": "catalog.group", "params": {"group": "A"}, "state": "active",
            "priority": 0, "unique_key": null, "parent": 1, "attempt": 1, "crashes": 0, "run_at": 0,
            "enqueued_at": 0, "started_at": 5, "finished_at": null, "fence": 1, "owner": "me",
            "checkpoint": {"prefix": 1, "beyond": {"3": null}}, "counts": {}, "children":
            {"open": 0, "completed": 0, "failed": 0, "cancelled": 0}, "message": null, "cause": null, "history": []
        })
    }

    #[tokio::test]
    async fn a_job_is_read_with_its_progress_and_its_checkpoint() {
        let mut body = record(7);
        body["progress"] = json!({"step": "pages", "completed": 2, "total": 9, "message": ""});
        body["why"] = json!("the domain is parked");
        body["family"] = json!([{"domain": "d", "kind": "d.a", "waiting": 1, "delayed": 0, "active": 0, "completed": 2,
            "failed": 0, "cancelled": 0}]);
        let (address, asked) = answering("200 OK", body.to_string()).await;
        let door = Door::Http(Client::new(address, Some(Secret::new("t0ken"))).unwrap());
        let JobView { job, progress, why, family } = door.job(JobId(7)).await.unwrap();
        assert_eq!(why.as_deref(), Some("the domain is parked"));
        assert_eq!((job.id, job.checkpoint.beyond.contains_key(&3)), (JobId(7), true));
        assert_eq!(progress.unwrap().total, 9);
        assert_eq!((family[0].kind.as_str(), family[0].total()), ("d.a", 3));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("GET /api/v1/jobs/7 ") && asked.contains("authorization: Bearer t0ken"), "{asked}");
    }

    #[tokio::test]
    async fn a_listing_sends_its_filter() {
        let (address, asked) = answering("200 OK", json!({ "jobs": [record(9), record(8)] }).to_string()).await;
        let door = Door::Http(Client::new(address, None).unwrap());
        let filter = Filter {
            states: vec![State::Failed, State::Delayed],
            domain: Some("catalog".into()),
            parent: Some(JobId(1)),
            limit: 5,
            ..Filter::default()
        };
        assert_eq!(door.jobs(filter).await.unwrap().len(), 2);
        let asked = asked.await.unwrap();
        assert!(
            asked.starts_with("GET /api/v1/jobs?state=failed%2Cdelayed&domain=catalog&parent=1&limit=5 "),
            "{asked}"
        );
        assert!(!asked.contains("authorization"));
    }

    #[tokio::test]
    async fn a_refusal_is_one_line_with_its_exit_code() {
        let problem = |detail: &str| json!({ "title": "no", "detail": detail, "status": 0 }).to_string();
        for (status, body, exit, says) in [
            ("404 Not Found", problem("there is no job 7"), Exit::Failed, "there is no job 7"),
            ("401 Unauthorized", problem("wrong"), Exit::Failed, "set service.admin_token"),
            ("422 Unprocessable Entity", problem("unknown kind"), Exit::Usage, "unknown kind"),
            ("503 Service Unavailable", problem("draining"), Exit::Unavailable, "draining"),
            ("500 Internal Server Error", problem("bug"), Exit::Internal, "bug"),
            ("200 OK", "<html>".to_owned(), Exit::Unavailable, "something else may listen there"),
        ] {
            let (address, asked) = answering(status, body).await;
            let door = Door::Http(Client::new(address, None).unwrap());
            let failure = door.cancel(JobId(7), "enough").await.unwrap_err();
            assert_eq!(failure.exit, exit, "{status}");
            assert!(failure.text.contains(says) && !failure.text.contains('\n'), "{}", failure.text);
            assert!(asked.await.unwrap().ends_with(r#"{"reason":"enough"}"#));
        }
    }

    #[tokio::test]
    async fn where_nothing_listens_the_service_is_not_there() {
        // Bound, so that no other test gets the port, and never listened at.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let mut config = Config::load(&Default::default()).unwrap();
        config.service.listen = address;
        assert!(Client::connect(&config).await.unwrap().is_none());
        let failure = Client::demand(&config).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.text.contains("longshore run"));
    }

    #[test]
    fn a_service_on_all_addresses_is_found_on_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()).to_string(), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80".parse().unwrap()).to_string(), "[::1]:80");
        assert_eq!(reachable("10.0.0.1:80".parse().unwrap()).to_string(), "10.0.0.1:80");
    }
}
