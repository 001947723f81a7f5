//! Makes connections: the URL taken apart, and a server dialled.
//!
//! A connection is driven by a task on the runtime that the store was opened on, wherever it is asked for: an actor's
//! own thread may end before it.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Connect};
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{AsyncMessage, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::postgres::error::describe;
use crate::store::postgres::open::{OpenError, Pooler, Settings};
use crate::store::postgres::tls::{self, SslMode};

/// How long an idle connection may be silent before the other side is asked, and how long unacknowledged data waits:
/// a server that vanished without a word is found out within half a minute.
const KEEPALIVE: Duration = Duration::from_secs(10);
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Where the database is, without how to get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub server: String,
    pub database: String,
    pub user: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.server)
    }
}

/// A server that can be dialled.
#[derive(Clone)]
pub struct Dial {
    pub config: Config,
    pub place: Place,
    tls: MakeRustlsConnect,
    runtime: Handle,
    timeout: Duration,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Dial {
    /// Must be called on the runtime that is to drive the connections.
    pub fn new(settings: &Settings) -> Result<Dial, OpenError> {
        let Url { url, mode, ca_file } = Url::parse(&settings.url)?;
        // What the parser says of a URL may repeat a part of the password.
        let mut config: Config = url.parse().map_err(|_: Error| OpenError::Url { why: SHAPE.to_owned() })?;
        config.ssl_mode(mode.of_driver());
        config.connect_timeout(settings.connect_timeout);
        config.keepalives(true).keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(2);
        config.tcp_user_timeout(UNACKNOWLEDGED);
        if config.get_application_name().is_none() {
            config.application_name(&settings.application_name);
        }
        if settings.pooler == Pooler::Session {
            // A pooler between would refuse them, and hands the connection to others.
            let timeout = settings.statement_timeout.as_millis();
            let mut options = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
            // Planned each time: a plan that is kept from when there were a handful of jobs reads a million of them
            // from end to end.
            options.push_str(&format!(
                "-c statement_timeout={timeout} -c default_transaction_isolation=read\\ committed \
                 -c plan_cache_mode=force_custom_plan -c idle_in_transaction_session_timeout={timeout} \
                 -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=2"
            ));
            config.options(options);
        }
        let ca_file = settings.ca_file.clone().or(ca_file);
        let tls = tls::connector(mode, ca_file.as_deref()).map_err(OpenError::Authority)?;
        let place = place(&config);
        let (runtime, timeout) = (Handle::current(), settings.connect_timeout);
        Ok(Dial { config, place, tls, runtime, timeout })
    }

    /// Listens on `channel` until the connection ends, and answers why it did. `ready` is called once it listens,
    /// `hear` with every notification.
    pub async fn listen(&self, channel: &str, ready: impl FnOnce(), mut hear: impl FnMut(&str)) -> String {
        let dialling = tokio::time::timeout(self.timeout, self.config.connect(self.tls.clone())).await;
        let (client, mut connection) = match dialling {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(error)) => return describe(&error),
            Err(_) => return format!("no answer within {:?}", self.timeout),
        };
        let mut messages = std::pin::pin!(stream::poll_fn(move |context| connection.poll_message(context)));
        let statement = format!("LISTEN {channel}");
        let mut listening = std::pin::pin!(client.batch_execute(&statement));
        let mut ready = Some(ready);
        loop {
            tokio::select! {
                listens = &mut listening, if ready.is_some() => match (listens, ready.take()) {
                    (Ok(()), Some(ready)) => ready(),
                    (Ok(()), None) => {}
                    (Err(error), _) => return describe(&error),
                },
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(told))) => hear(told.payload()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return describe(&error),
                    None => return "the connection was closed".to_owned(),
                },
            }
        }
    }

    /// Runs `work` on the runtime that drives the connections.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// A connection of the caller's own. `None`: there was no answer in time.
    pub async fn connect_own(&self) -> Option<Result<ClientWrapper, Error>> {
        let dialled = tokio::time::timeout(self.timeout, Connect::connect(self, &self.config)).await.ok()?;
        Some(dialled.map(|(client, task)| ClientWrapper::new(client, task)))
    }
}

type Dialled<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Dial {
    fn connect(&self, config: &Config) -> Dialled<'_> {
        let (config, tls) = (config.clone(), self.tls.clone());
        Box::pin(async move {
            let dialling = async move {
                let (client, connection) = config.connect(tls).await?;
                let driving = async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection to the database ended");
                    }
                };
                Ok((client, tokio::spawn(driving)))
            };
            let mut task = Dialling(self.runtime.spawn(dialling));
            match (&mut task.0).await {
                Ok(dialled) => dialled,
                // The runtime ends; nobody waits for this any more.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// Hangs up when the caller has left.
struct Dialling<T>(JoinHandle<T>);

impl<T> Drop for Dialling<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn place(config: &Config) -> Place {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let user = config.get_user().unwrap_or_default().to_owned();
    let database = config.get_dbname().map_or_else(|| user.clone(), str::to_owned);
    Place { server: format!("{host}:{port}"), database, user }
}

const SHAPE: &str = "it must read postgres://user:password@host:port/database, and characters such as @ : / # % in the \
                     password must be written as %40 %3A %2F %23 %25";

/// A URL without the parameters that the driver does not know.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    url: String,
    mode: SslMode,
    ca_file: Option<PathBuf>,
}

impl Url {
    fn parse(url: &str) -> Result<Url, OpenError> {
        let bad = |why: &str| OpenError::Url { why: why.to_owned() };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(bad(SHAPE));
        }
        // A password may hold a question mark: the driver takes it up to the first @.
        let after = url.find('@').unwrap_or(0);
        let (base, query) = match url[after..].find('?') {
            Some(mark) => (&url[..after + mark], &url[after + mark + 1..]),
            None => (url, ""),
        };
        let (mut mode, mut ca_file, mut others) = (SslMode::Prefer, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", word)) => {
                    mode = SslMode::parse(word)
                        .ok_or_else(|| bad("sslmode is disable, prefer, require, verify-ca or verify-full"))?;
                }
                Some(("sslrootcert", path)) => {
                    let path = decoded(path).ok_or_else(|| bad("sslrootcert cannot be read"))?;
                    // libpq's word for what is the default here.
                    ca_file = (path != "system").then(|| PathBuf::from(path));
                }
                _ => others.push(pair),
            }
        }
        let url = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
        Ok(Url { url, mode, ca_file })
    }
}

/// `%2F` is `/`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: u8| (byte as char).to_digit(16);
        let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_the_driver_does_not_know_is_taken_out_of_the_url() {
        let url = |url: &str| Url::parse(url).unwrap();
        let plain = "postgres://me:secret@db:5433/things";
        assert_eq!(url(plain), Url { url: plain.into(), mode: SslMode::Prefer, ca_file: None });
        let full = url(&format!("{plain}?sslmode=verify-full&application_name=x&sslrootcert=/etc/my%20ca.pem"));
        assert_eq!(full.url, format!("{plain}?application_name=x"));
        assert_eq!((full.mode, full.ca_file), (SslMode::VerifyFull, Some("/etc/my ca.pem".into())));
        assert_eq!(url(&format!("{plain}?sslrootcert=system")).ca_file, None);
        let odd = url("postgres://me:se?cret@db/things?sslmode=require");
        assert_eq!((odd.url.as_str(), odd.mode), ("postgres://me:se?cret@db/things", SslMode::Require));
    }

    #[test]
    fn a_bad_url_is_refused_without_a_word_of_it() {
        let settings = |url: &str| Settings { url: url.to_owned(), ..Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _on = runtime.enter();
        let password = "hunter2";
        for url in [
            format!("mysql://me:{password}@db/things"),
            format!("me:{password}@db"),
            format!("postgres://me:{password}@db/things?sslmode={password}"),
            format!("postgres://me:{password}@db:port/things"),
            format!("postgres://me:{password}@db/things?nonsense={password}"),
        ] {
            let error = Dial::new(&settings(&url)).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(matches!(error, OpenError::Url { .. }), "{said}");
            assert!(!said.contains(password) && !error.to_string().contains('\n'), "{said}");
        }
        let good = settings(&format!("postgres://me:{password}@db/things"));
        let dial = Dial::new(&good).unwrap();
        let said = format!("{dial:?} {good:?} {}", dial.place);
        assert!(!said.contains(password), "{said}");
        assert_eq!((dial.place.server.as_str(), dial.place.database.as_str()), ("db:5432", "things"));
    }
}
