//! `/_sandbox/…`: the sandbox's own endpoints, without key, faults or limits.
//!
//! | | |
//! | --- | --- |
//! | `GET /_sandbox/dials` | the dials |
//! | `PUT /_sandbox/dials` | sets all of them; what is left out is 0 |
//! | `GET /_sandbox/stats` | requests by status, most in flight, faults |
//! | `GET /_sandbox/catalogue` | what a correct sync must hold |
//! | `GET /_sandbox/promidata` | the same of the product feed, with its URLs by the host of the request |
//! | `GET /_sandbox/football` | what a correct sync of API-Football must hold |
//! | `POST /_sandbox/advance` | makes the next generation |

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::dials::Dials;
use super::promidata;
use super::state::State;

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/_sandbox/dials")
                .get(async |state: web::Data<State>| HttpResponse::Ok().json(state.dials()))
                .put(set_dials),
        )
        .route("/_sandbox/stats", web::get().to(async |state: web::Data<State>| HttpResponse::Ok().json(state.stats())))
        .route(
            "/_sandbox/catalogue",
            web::get().to(async |state: web::Data<State>| HttpResponse::Ok().json(state.expected())),
        )
        .route("/_sandbox/promidata", web::get().to(promidata))
        .route(
            "/_sandbox/football",
            web::get().to(async |state: web::Data<State>| HttpResponse::Ok().json(state.expected_football())),
        )
        .route(
            "/_sandbox/advance",
            web::post().to(async |state: web::Data<State>| HttpResponse::Ok().json(state.advance())),
        );
}

async fn promidata(state: web::Data<State>, request: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().json(state.expected_promidata(&promidata::origin(&request)))
}

async fn set_dials(state: web::Data<State>, body: web::Bytes) -> HttpResponse {
    let dials = serde_json::from_slice::<Dials>(&body).map_err(|error| error.to_string());
    match dials.and_then(|dials| dials.check().map(|()| dials)) {
        Ok(dials) => {
            state.set_dials(dials);
            HttpResponse::Ok().json(state.dials())
        }
        Err(reason) => HttpResponse::BadRequest().json(json!({ "message": reason })),
    }
}
