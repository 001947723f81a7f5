//! What every request passes on its way in and out: who may change things, how long an answer may take, and the one
//! form of errors.
//!
//! A request that changes something (any method but GET, HEAD and OPTIONS) must
//! - bear the admin token, if one is set;
//! - say `Content-Type: application/json`, which a form on a foreign page cannot say without asking first;
//! - without a token, name this machine's loopback in `Host`, so that a foreign name that was made to resolve to
//!   127.0.0.1 gets nowhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use longshore_actors::status::Part;

use crate::http::problem::{PROBLEM_JSON, Problem};

/// From the end of a request's head to its answer, the body's arrival included.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

pub struct Guard {
    /// Of the admin token; comparing two BLAKE3 hashes takes the same time wherever they differ, and a hash in a
    /// dump gives nothing away.
    token: Option<blake3::Hash>,
    part: Arc<Part>,
}

impl Guard {
    pub fn new(token: Option<blake3::Hash>, part: Arc<Part>) -> Self {
        Self { token, part }
    }

    fn may_pass(&self, request: &ServiceRequest) -> Result<(), Problem> {
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
            return Ok(());
        }
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        match &self.token {
            Some(token) => {
                let (scheme, given) = text(header::AUTHORIZATION).split_once(' ').unwrap_or_default();
                if !scheme.eq_ignore_ascii_case("bearer") || blake3::hash(given.trim().as_bytes()) != *token {
                    let detail = "this needs the admin token: send `Authorization: Bearer …`";
                    return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
                }
            }
            None if !names_loopback(text(header::HOST)) => {
                let detail = "without an admin token only requests to a loopback name may change anything";
                return Err(Problem::new(StatusCode::FORBIDDEN, detail));
            }
            None => {}
        }
        let content_type = text(header::CONTENT_TYPE).split(';').next().unwrap_or("").trim();
        if !content_type.eq_ignore_ascii_case("application/json") {
            let detail = "send `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        Ok(())
    }
}

/// The middleware itself.
pub async fn pass(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(guard) = request.app_data::<web::Data<Guard>>().cloned() else {
        // Nobody passes unguarded, should the wiring ever forget it.
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server has no guard").into());
    };
    if let Err(problem) = guard.may_pass(&request) {
        guard.part.failed.fetch_add(1, Ordering::Relaxed);
        return Ok(request.into_response(problem.error_response()));
    }
    let answer = tokio::time::timeout(ANSWER_DEADLINE, next.call(request)).await;
    let response = match answer {
        Ok(Ok(response)) => uniform(response.map_into_boxed_body()),
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            guard.part.failed.fetch_add(1, Ordering::Relaxed);
            let detail = format!("no answer within {ANSWER_DEADLINE:?}");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into());
        }
    };
    guard.part.done.fetch_add(1, Ordering::Relaxed);
    Ok(response)
}

/// Gives the framework's own errors (no such route or method, a body over the cap) the form of all others.
fn uniform(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let told = response.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().starts_with(b"application/json") || value.as_bytes() == PROBLEM_JSON.as_bytes()
    });
    if told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let detail = match (response.response().error(), status) {
        (Some(error), _) => error.to_string(),
        (None, StatusCode::METHOD_NOT_ALLOWED) => format!("{} is not for this address", response.request().method()),
        (None, _) => format!("there is nothing at {}: GET / lists what there is", response.request().path()),
    };
    response.into_response(Problem::new(status, detail).error_response())
}

/// Whether a `Host` header names this machine: `localhost`, `127.0.0.1:8500`, `[::1]:8500`.
fn names_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:8500", "127.0.0.1", "127.0.0.1:8500", "127.1.2.3:1", "[::1]:8500", "[::1]"]
        {
            assert!(names_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "127.0.0.1.evil.example:8500", "10.0.0.1", "localhost.evil.example", "[fe80::1]"]
        {
            assert!(!names_loopback(host), "{host}");
        }
    }
}
