//! The sandbox: stand-ins of the eSIM Go API v2.5, of API-Football v3 and of the Promidata feed on loopback, for
//! `sandbox`, `demo` and the tests.
//!
//! ```text
//! seed ─▶ bundles ─▶ Catalogue (one generation) ─▶ esim_go: /v2.5/…   ◀── any client, with X-API-Key
//!      └▶ leagues ─▶ Leagues ────────────────────▶ api_football: /football/… ◀── with x-apisports-key
//!                        │      ▲ advance              ▲ dials: latency, errors, 429, cuts, …
//!                        ▼      │                      │
//!                    Expected   └──────── control: /_sandbox/…, or the methods of Handle
//! ```
//!
//! The feed stands beside it under `/promidata`, on the same port and with the same dials ([`promidata`]).
//!
//! It runs on a thread and an actix system of its own, so that its load and its end touch nothing of the service.
//! Shapes, pagination, errors and traps follow the recorded answers; the same seed serves the same bytes. It knows what
//! a correct sync must hold ([`Expected`]) and shares no code with the service, so each checks the other.
//!
//! It does not: order, sell or assign anything; speak TLS; serve other versions; keep anything on disk.

mod api_football;
pub mod bundles;
mod catalogue;
mod control;
pub mod countries;
mod dials;
mod dice;
mod esim_go;
mod expected;
mod expected_football;
mod leagues;
mod plain;
pub mod promidata;
mod shapes;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use serde::{Deserialize, Serialize};

pub use self::dials::{Dials, SlowBody};
pub use self::expected::{Expected, ExpectedBundle, Reason};
pub use self::expected_football::{ExpectedFootball, ExpectedLeague, ExpectedSeason, LeagueReason, LeagueReject};
pub use self::state::{Advanced, Faults, FeedCounts, Stats};

use self::state::State;

/// Of the organisation, as `/organisation` tells it.
const CURRENCY: &str = "USD";

/// Bundles are held in memory, at about 700 bytes each.
const BUNDLES_MAX: usize = 1_000_000;

/// Leagues are held in memory with all their seasons, at about 3 KB each.
const LEAGUES_MAX: usize = 100_000;

/// Longer than a client pools a connection, so that it is never closed under a request on its way.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// The key that the sandbox takes unless told another. It opens nothing else.
pub const API_KEY: &str = "sandbox-key";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    pub seed: u64,
    /// How many bundles the first generation has, traps among them.
    pub bundles: usize,
    /// How many leagues API-Football's first generation has, traps among them.
    pub leagues: usize,
    pub api_key: String,
    /// How many product families the first generation has, with three variants each on average.
    pub families: u32,
    /// Lines of the product feed beyond those: families without traps that are made as they are asked for.
    pub feed_lines: u32,
    pub dials: Dials,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: 1,
            bundles: 5_000,
            leagues: 1_200,
            api_key: API_KEY.to_owned(),
            families: 150,
            feed_lines: 0,
            dials: Dials::default(),
        }
    }
}

/// Starts sandboxes.
#[derive(Debug)]
pub struct Sandbox;

impl Sandbox {
    /// Makes the catalogue, binds and starts to serve; blocks meanwhile (some milliseconds for 5,000 bundles).
    ///
    /// Errors: what binding says; `InvalidInput` for dials out of range or too many bundles.
    pub fn start(settings: Settings) -> io::Result<Handle> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
        settings.dials.check().map_err(invalid)?;
        if settings.bundles > BUNDLES_MAX {
            return Err(invalid(format!("{} bundles are more than {BUNDLES_MAX}", settings.bundles)));
        }
        if settings.families > promidata::FAMILIES_MAX || settings.feed_lines > promidata::EXTRAS_MAX {
            let (families, lines) = (promidata::FAMILIES_MAX, promidata::EXTRAS_MAX);
            return Err(invalid(format!("more than {families} families or {lines} lines beyond them")));
        }
        if settings.leagues > LEAGUES_MAX {
            return Err(invalid(format!("{} leagues are more than {LEAGUES_MAX}", settings.leagues)));
        }
        let listener = TcpListener::bind(settings.listen)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::new(settings));

        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("sandbox".to_owned()).spawn({
            let state = state.clone();
            move || serve(state, listener, &ready)
        })?;
        let server = started.recv().map_err(|_| io::Error::other("the sandbox's thread ended while starting"))??;
        Ok(Handle { addr, state, running: Some((server, thread)) })
    }
}

/// The body of the sandbox's thread: an actix system of its own, with one worker.
fn serve(state: Arc<State>, listener: TcpListener, ready: &mpsc::SyncSender<io::Result<ServerHandle>>) {
    actix_rt::System::new().block_on(async move {
        let app = move || App::new().app_data(web::Data::from(state.clone())).configure(routes);
        // A client that closes its half has left: without this its hung requests would stay for good.
        let server =
            HttpServer::new(app).workers(1).disable_signals().keep_alive(KEEP_ALIVE).h1_allow_half_closed(false);
        // It misbehaves as the dials say and in no other way: who is slow to ask is not answered with 408.
        let server = server.client_request_timeout(Duration::ZERO);
        let server = server.listen(listener);
        // The other end waits for this one message, and the thread has no one else to tell.
        match server.map(HttpServer::run) {
            Ok(server) => {
                let _ = ready.send(Ok(server.handle()));
                let _ = server.await;
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        }
    });
}

fn routes(config: &mut web::ServiceConfig) {
    control::routes(config);
    api_football::routes(config);
    esim_go::routes(config);
    promidata::routes(config);
    plain::routes(config);
}

/// A running sandbox. Dropping it stops it.
pub struct Handle {
    addr: SocketAddr,
    state: Arc<State>,
    running: Option<(ServerHandle, JoinHandle<()>)>,
}

impl Handle {
    /// Where it listens, with the port it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client takes as its base URL: `http://127.0.0.1:PORT/v2.5`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v2.5", self.addr)
    }

    /// API-Football's: `http://127.0.0.1:PORT/football`.
    pub fn football_url(&self) -> String {
        format!("http://{}/football", self.addr)
    }

    /// What it takes in `X-API-Key`, and as API-Football in `x-apisports-key`.
    pub fn api_key(&self) -> &str {
        &self.state.api_key
    }

    /// What a client of the product feed takes as its base URL, [`promidata::PROFILE`] following.
    pub fn promidata_url(&self) -> String {
        format!("http://{}/promidata", self.addr)
    }

    /// What a correct sync of the product feed must hold now.
    pub fn expected_promidata(&self) -> promidata::ExpectedPromidata {
        self.state.expected_promidata(&format!("http://{}", self.addr))
    }

    pub fn dials(&self) -> Dials {
        self.state.dials()
    }

    /// Holds from the next request on. A rate below 0 counts as 0, above 1 as 1.
    pub fn set_dials(&self, dials: Dials) {
        self.state.set_dials(dials);
    }

    pub fn stats(&self) -> Stats {
        self.state.stats()
    }

    /// What a correct sync must hold now.
    pub fn expected(&self) -> Expected {
        self.state.expected()
    }

    /// What a correct sync of API-Football must hold now.
    pub fn expected_football(&self) -> ExpectedFootball {
        self.state.expected_football()
    }

    /// Makes the next generation, by the dials `changed` and `vanished`.
    pub fn advance(&self) -> Advanced {
        self.state.advance()
    }

    /// Stops at once, cutting what is being answered, and waits for the thread's end.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some((server, thread)) = self.running.take() {
            // The command is sent by the call; the future would only wait for what join waits for.
            drop(server.stop(false));
            // A panic of that thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
