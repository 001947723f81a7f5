//! The endpoints: each reads its request, calls the operators' door once, and answers JSON. No decision lives here.

use std::str::FromStr;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, Route, guard, web};
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::Filter;
use longshore_actors::stage::StageName;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::admin::{Admin, AdminError, EnqueueRequest, RetryRequest};
use crate::http::problem::Problem;

const INDEX: &str = "\
<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Longshore</title>
<h1>Longshore</h1>
<p>It keeps your tables in step with other people's APIs. This is its control port.</p>
<pre>
GET  <a href=\"/livez\">/livez</a>                                   the process is alive
GET  <a href=\"/readyz?verbose\">/readyz?verbose</a>                          it takes work; also at /health
GET  <a href=\"/api/v1/jobs\">/api/v1/jobs</a>                             ?state= &amp;domain= &amp;kind= &amp;parent= &amp;before= &amp;limit=
GET  /api/v1/jobs/{id}                        one job, its history and progress
POST /api/v1/jobs                             {\"domain\", \"kind\", \"params\", \"priority\"}
POST /api/v1/jobs/{id}/retry
POST /api/v1/jobs/{id}/cancel                 {\"reason\"}
POST /api/v1/jobs/retry                       failed ones: {\"domain\", \"kind\", \"parent\"} or {\"all\": true}
GET  <a href=\"/api/v1/domains\">/api/v1/domains</a>                          every running part, and the queues
POST /api/v1/domains/{name}/restart           also park, unpark
POST /api/v1/domains/{name}/pools/{stage}     {\"actors\", \"mailbox\"}; stage: fetch, transform, upload
GET  <a href=\"/api/v1/schedules\">/api/v1/schedules</a>
GET  <a href=\"/api/v1/rejects\">/api/v1/rejects</a>                          ?domain= &amp;limit=
</pre></html>
";

type Answer = Result<HttpResponse, Problem>;
type Door = web::Data<Admin>;

pub fn routes(config: &mut web::ServiceConfig) {
    // `route` of an application or a scope would answer 404, not 405, to another method.
    let get = |path, route: Route| web::resource(path).route(route.guard(guard::Get()));
    let get_or_head =
        |path, route: Route| web::resource(path).route(route.guard(guard::Any(guard::Get()).or(guard::Head())));
    let post = |path, route: Route| web::resource(path).route(route.guard(guard::Post()));
    let jobs = web::resource("/jobs").route(web::get().to(list_jobs)).route(web::post().to(enqueue));
    config
        .service(get_or_head("/", web::to(index)))
        .service(get_or_head("/livez", web::to(livez)))
        .service(get_or_head("/readyz", web::to(readyz)))
        .service(get_or_head("/health", web::to(readyz)))
        .service(
            web::scope("/api/v1")
                .service(jobs)
                .service(post("/jobs/retry", web::to(retry_failed)))
                .service(get("/jobs/{id}", web::to(show_job)))
                .service(post("/jobs/{id}/retry", web::to(retry)))
                .service(post("/jobs/{id}/cancel", web::to(cancel)))
                .service(get("/domains", web::to(domains)))
                .service(post("/domains/{name}/restart", web::to(restart)))
                .service(post("/domains/{name}/park", web::to(park)))
                .service(post("/domains/{name}/unpark", web::to(unpark)))
                .service(post("/domains/{name}/pools/{stage}", web::to(resize)))
                .service(get("/schedules", web::to(schedules)))
                .service(get("/rejects", web::to(rejects))),
        );
}

async fn index() -> HttpResponse {
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(INDEX)
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "live": true, "pid": std::process::id() }))
}

async fn readyz(door: Door, query: Query) -> Answer {
    let mut query = Params::read(query)?;
    let verbose = match query.take("verbose").as_deref() {
        None | Some("false" | "0") => false,
        Some("" | "true" | "1") => true,
        Some(other) => return Err(Problem::bad(format!("verbose is true or false, not {other:?}"))),
    };
    query.end()?;
    let mut readiness = door.ready().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !verbose {
        readiness.checks.retain(|check| check.vital && !check.ok);
    }
    Ok(HttpResponse::build(status).json(readiness))
}

async fn list_jobs(door: Door, query: Query) -> Answer {
    let mut query = Params::read(query)?;
    let states = query.take("state").unwrap_or_default();
    let states: Result<Vec<State>, Problem> =
        states.split(',').filter(|state| !state.is_empty()).map(parse_state).collect();
    let filter = Filter {
        ids: Vec::new(),
        domain: query.take("domain"),
        kind: query.take("kind"),
        states: states?,
        parent: query.number("parent")?.map(JobId),
        before: query.number("before")?.map(JobId),
        limit: query.number("limit")?.unwrap_or(0),
    };
    query.end()?;
    Ok(HttpResponse::Ok().json(json!({ "jobs": door.jobs(filter).await? })))
}

fn parse_state(text: &str) -> Result<State, Problem> {
    let known = State::ALL.map(State::as_str).join(", ");
    State::parse(text).ok_or_else(|| Problem::bad(format!("there is no state {text:?}; known: {known}")))
}

async fn show_job(door: Door, path: web::Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(door.job(job_id(&path)?).await?))
}

async fn enqueue(door: Door, body: web::Bytes) -> Answer {
    let request: EnqueueRequest = parse(&body)?;
    let answer = door.enqueue(request).await?;
    let location = (header::LOCATION, format!("/api/v1/jobs/{}", answer.id));
    let status = if answer.existing { StatusCode::OK } else { StatusCode::CREATED };
    Ok(HttpResponse::build(status).insert_header(location).json(answer))
}

async fn retry(door: Door, path: web::Path<String>) -> Answer {
    let id = job_id(&path)?;
    only(door.retry(&[id]).await)?;
    Ok(HttpResponse::Ok().json(door.job(id).await?))
}

async fn retry_failed(door: Door, body: web::Bytes) -> Answer {
    let request: RetryRequest = parse(&body)?;
    Ok(HttpResponse::Ok().json(door.retry_failed(&request).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CancelRequest {
    reason: Option<String>,
}

async fn cancel(door: Door, path: web::Path<String>, body: web::Bytes) -> Answer {
    let id = job_id(&path)?;
    let CancelRequest { reason } = parse(&body)?;
    let reason = reason.unwrap_or_else(|| "cancelled by an operator".to_owned());
    only(door.cancel(&[id], &reason).await)?;
    Ok(HttpResponse::Ok().json(door.job(id).await?))
}

/// The answer for the one job that was asked for.
fn only(answers: Vec<(JobId, Result<(), AdminError>)>) -> Result<(), Problem> {
    answers.into_iter().try_for_each(|(_, answer)| answer).map_err(Problem::from)
}

async fn domains(door: Door) -> Answer {
    Ok(HttpResponse::Ok().json(door.domains().await?))
}

async fn restart(door: Door, path: web::Path<String>) -> Answer {
    door.restart(&path).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn park(door: Door, path: web::Path<String>) -> Answer {
    door.park(&path).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn unpark(door: Door, path: web::Path<String>) -> Answer {
    door.unpark(&path).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResizeRequest {
    actors: usize,
    mailbox: usize,
}

async fn resize(door: Door, path: web::Path<(String, String)>, body: web::Bytes) -> Answer {
    let (domain, stage) = path.into_inner();
    let found = StageName::ALL.into_iter().find(|known| known.as_str() == stage);
    let known = StageName::ALL.map(StageName::as_str).join(", ");
    let stage = found
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no pool {stage:?}; known: {known}")))?;
    let ResizeRequest { actors, mailbox } = parse(&body)?;
    door.resize(&domain, stage, actors, mailbox).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn schedules(door: Door) -> Answer {
    Ok(HttpResponse::Ok().json(json!({ "schedules": door.schedules().await? })))
}

async fn rejects(door: Door, query: Query) -> Answer {
    let mut query = Params::read(query)?;
    let (domain, limit) = (query.take("domain"), query.number("limit")?.unwrap_or(0));
    query.end()?;
    Ok(HttpResponse::Ok().json(json!({ "rejects": door.rejects(domain.as_deref(), limit).await? })))
}

fn job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map(JobId).map_err(|_| Problem::bad(format!("a job's id is a number, not {text:?}")))
}

/// Reads a body; none at all is an empty object.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body is not as expected: {error}")))
}

type Query = web::Query<Vec<(String, String)>>;

/// The query of a request, taken apart by name, so that an error can say which parameter is wrong.
struct Params(Vec<(String, String)>);

impl Params {
    fn read(query: Query) -> Result<Self, Problem> {
        let pairs = query.into_inner();
        for (at, (name, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::bad(format!("{name} is given twice")));
            }
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.swap_remove(at).1)
    }

    fn number<N: FromStr>(&mut self, name: &str) -> Result<Option<N>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::bad(format!("{name} is a number, not {text:?}")))
    }

    /// Nothing may be left over: a misspelt filter must not answer everything.
    fn end(self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::bad(format!("there is no parameter {name:?} here"))),
            None => Ok(()),
        }
    }
}
