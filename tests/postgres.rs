//! PostgreSQL as store and ledger, on a server of the tests' own: opening it, losing it, sharing it.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::Command;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{join_all, poll_fn};
use longshore::domains::catalog::GROUPS;
use longshore::store::batch::{Batch, Cell, Rows};
use longshore::store::migrations::{POSTGRES, SQLITE};
use longshore::store::postgres::{OpenError, Pooler, PostgresStore, Settings, status};
use longshore::store::{Beat, Committed, Store};
use longshore_actors::checkpoint::{Counts, Part};
use longshore_actors::clock::Timestamp;
use longshore_actors::domain::Delivery;
use longshore_actors::job::{FailCause, Job, JobId, Lease, NewJob, Outcome, State, UniqueScope};
use longshore_actors::ledger::{
    Change, Claim, Enqueued, Filter, JobRecord, Ledger, LedgerError, Receipt, Record, Reject, Rescue, Retention,
};
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::AsyncMessage;

use crate::support::DEADLINE;
use crate::support::pgbouncer::PgBouncer;
use crate::support::port::Port;
use crate::support::postgres::{PASSWORD, Server, USER, hand_over};
use crate::support::proxy::{Proxy, Wire};

const NOW: Timestamp = Timestamp(1_750_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn settings(url: &str) -> Settings {
    // How long an answer may take is the subject of one test alone.
    let (connect_timeout, statement_timeout) = (DEADLINE, DEADLINE);
    let process = "here-1".into();
    Settings { url: url.to_owned(), connections: 4, process, connect_timeout, statement_timeout, ..Settings::default() }
}

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(settings(url), NOW).await.unwrap()
}

async fn refused(settings: Settings) -> OpenError {
    let error = PostgresStore::open(settings, NOW).await.unwrap_err();
    let said = error.to_string();
    assert!(!said.contains(PASSWORD) && !said.contains('\n'), "{said}");
    error
}

fn database_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

fn job() -> NewJob {
    NewJob::new("catalog", "catalog.group", json!({"group": "a"}))
}

fn claim(owner: &str, max: usize) -> Claim {
    Claim {
        domain: "catalog".into(),
        owner: owner.into(),
        max,
        kinds: vec![("catalog.group".into(), max), ("catalog.full".into(), max)],
        now: NOW,
        until: NOW.plus(HOUR),
    }
}

fn done() -> Outcome {
    Outcome::Completed { note: None }
}

fn failed() -> Outcome {
    Outcome::Failed { cause: FailCause::Permanent, reason: "no".into() }
}

fn record(lease: Lease, outcome: Outcome) -> Record {
    Record { lease, outcome, entity: None }
}

async fn start(store: &PostgresStore) -> Job {
    store.enqueue(vec![job()], NOW).await.unwrap();
    store.claim(claim("here-1/1", 1)).await.unwrap().remove(0)
}

async fn show(store: &PostgresStore, id: JobId) -> JobRecord {
    store.jobs(Filter { ids: vec![id], ..Filter::default() }).await.unwrap().remove(0)
}

/// Asks until the database is there again.
async fn again<T>(mut ask: impl AsyncFnMut() -> Result<T, LedgerError>) -> T {
    let asked = async {
        loop {
            match ask().await {
                Err(LedgerError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => return answer.unwrap(),
            }
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_that_start_at_once_make_the_schema_once() {
    let server = Server::shared();
    for _ in 0..5 {
        let url = server.database();
        assert!(status(&settings(&url)).await.unwrap().iter().all(|migration| migration.applied_at.is_none()));
        for opened in join_all((0..4).map(|_| PostgresStore::open(settings(&url), NOW))).await {
            opened.unwrap().close().await;
        }
        assert!(status(&settings(&url)).await.unwrap().iter().all(|migration| migration.applied_at == Some(NOW)));
        let database = database_of(&url);
        let count = server.psql(database, "SELECT count(*) FROM migrations");
        assert_eq!(count, POSTGRES.len().to_string());
        let open = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                    AND NOT relrowsecurity";
        assert_eq!(server.psql(database, open), "0", "row level security is on for every table");
    }
}

#[test]
fn every_migration_of_postgresql_is_listed() {
    let known: BTreeSet<String> =
        POSTGRES.iter().map(|migration| format!("{:04}_{}.sql", migration.version, migration.name)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let found: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, known);
}

/// The same tables and views with the same columns in the same order, but for what only nodes that share a ledger need.
#[tokio::test]
async fn the_two_schemas_are_twins() {
    let sqlite = rusqlite::Connection::open_in_memory().unwrap();
    for migration in SQLITE {
        sqlite.execute_batch(migration.sql).unwrap();
    }
    let mut statement = sqlite
        .prepare(
            "SELECT tables.name || '|' || group_concat(columns.name, ',' ORDER BY columns.cid)
             FROM sqlite_schema AS tables JOIN pragma_table_info(tables.name) AS columns
             WHERE tables.type IN ('table', 'view') GROUP BY tables.name",
        )
        .unwrap();
    let here: BTreeSet<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let server = Server::shared();
    let url = server.database();
    open(&url).await.close().await;
    let there = server.psql(
        database_of(&url),
        "SELECT table_name, string_agg(column_name, ',' ORDER BY ordinal_position) FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name NOT IN ('job_counts', 'nodes', 'locks', 'migrations')
         GROUP BY table_name",
    );
    assert_eq!(here, there.lines().map(str::to_owned).collect());
    assert!(here.len() > 8, "{here:?}");
}

#[tokio::test]
async fn edited_and_newer_schemas_are_refused() {
    let server = Server::shared();
    for (change, word) in [
        ("UPDATE migrations SET checksum = 'x' WHERE version = 2", "0002_catalog was changed"),
        ("INSERT INTO migrations VALUES (9999, 'later', 'x', 0)", "newer than this program"),
    ] {
        let url = server.database();
        open(&url).await.close().await;
        server.psql(database_of(&url), change);
        let error = refused(settings(&url)).await;
        assert!(matches!(error, OpenError::Schema { .. }) && error.to_string().contains(word), "{error}");
        assert!(status(&settings(&url)).await.is_err());
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_in_one_line() {
    let server = Server::shared();
    let url = server.database();
    let database = database_of(&url);

    let wrong = format!("postgres://{USER}:not-it@127.0.0.1:{}/{database}", server.port());
    let error = refused(settings(&wrong)).await;
    assert!(matches!(error, OpenError::Credentials { .. }) && !error.to_string().contains("not-it"), "{error}");
    let error = refused(settings(&server.url("nowhere"))).await;
    assert!(matches!(error, OpenError::MissingDatabase { .. }) && error.to_string().contains("nowhere"), "{error}");
    let closed = Port::reserve();
    let error = refused(settings(&format!("postgres://{USER}:{PASSWORD}@{}/x", closed.address()))).await;
    assert!(
        matches!(error, OpenError::Unreachable { .. }) && error.to_string().contains(&closed.address().to_string())
    );

    let stranger = format!("stranger_{database}");
    server.psql("postgres", &format!("CREATE ROLE {stranger} LOGIN PASSWORD '{PASSWORD}'"));
    server.psql(database, "REVOKE CREATE ON SCHEMA public FROM public");
    let theirs = format!("postgres://{stranger}:{PASSWORD}@127.0.0.1:{}/{database}", server.port());
    let error = refused(settings(&theirs)).await;
    assert!(matches!(error, OpenError::Privileges { .. }) && error.to_string().contains("schema public"), "{error}");
    open(&url).await.close().await;
    let error = refused(settings(&theirs)).await;
    assert!(matches!(error, OpenError::Privileges { .. }), "{error}");
    let grant = "GRANT ALL ON ALL TABLES IN SCHEMA public TO X; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO X";
    server.psql(database, &grant.replace('X', &stranger));
    let error = refused(settings(&theirs)).await;
    assert!(matches!(error, OpenError::Privileges { .. }) && error.to_string().contains("hidden"), "{error}");
    server.psql("postgres", &format!("ALTER ROLE {stranger} BYPASSRLS"));
    open(&theirs).await.close().await;

    server.psql("postgres", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let error = refused(settings(&url)).await;
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

/// An authority, and a certificate of it for `localhost`.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates { folder };
        certificates.authority("ca");
        certificates.authority("other");
        std::fs::write(certificates.path("names"), "subjectAltName=DNS:localhost").unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key"];
        certificates.openssl(&[&["req"], key.as_slice(), &["-subj", "/CN=localhost", "-out", "server.csr"]].concat());
        certificates.openssl(&[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.pem",
        ]);
        hand_over(certificates.folder.path());
        certificates
    }

    fn authority(&self, name: &str) {
        let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &pem,
        ]);
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn encryption_goes_as_far_as_it_is_asked_to() {
    let certificates = Certificates::new();
    let setting = |name: &str, file: &str| format!("{name}={}", certificates.path(file).display());
    let (certificate, key) = (setting("ssl_cert_file", "server.pem"), setting("ssl_key_file", "server.key"));
    let server = Server::start(&["ssl=on", &certificate, &key]);
    let url = server.database();
    let database = database_of(&url);
    let ask = |host: &str, mode: &str, ca: Option<&Path>| {
        let ca = ca.map_or_else(String::new, |path| format!("&sslrootcert={}", path.display()));
        settings(&format!("postgres://{USER}:{PASSWORD}@{host}:{}/{database}?sslmode={mode}{ca}", server.port()))
    };
    let (right, wrong) = (certificates.path("ca.pem"), certificates.path("other.pem"));
    for (host, mode, ca) in [
        ("localhost", "verify-full", Some(&*right)),
        ("127.0.0.1", "verify-ca", Some(&*right)),
        ("127.0.0.1", "require", Some(&*right)),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "prefer", None),
    ] {
        let store =
            PostgresStore::open(ask(host, mode, ca), NOW).await.unwrap_or_else(|error| panic!("{mode}: {error}"));
        let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name = 'longshore'";
        store.probe(NOW).await.unwrap();
        assert_eq!(server.psql(database, encrypted), "t", "{mode}");
        store.close().await;
    }
    let by_settings = Settings { ca_file: Some(right.clone()), ..ask("localhost", "verify-full", None) };
    PostgresStore::open(by_settings, NOW).await.unwrap().close().await;
    for (host, mode, ca, word) in [
        ("localhost", "verify-full", Some(&*wrong), "UnknownIssuer"),
        ("localhost", "verify-ca", Some(&*wrong), "UnknownIssuer"),
        ("localhost", "require", Some(&*wrong), "UnknownIssuer"),
        ("127.0.0.1", "verify-full", Some(&*right), "not valid for name"),
    ] {
        let error = refused(ask(host, mode, ca)).await;
        assert!(matches!(error, OpenError::Tls { .. }) && error.to_string().contains(word), "{mode}: {error}");
    }
    let missing = certificates.path("missing.pem");
    let error = refused(ask("localhost", "verify-full", Some(&missing))).await;
    assert!(matches!(error, OpenError::Authority(_)) && error.to_string().contains("missing.pem"), "{error}");

    let plain = Server::shared();
    let error = refused(settings(&format!("{}?sslmode=require", plain.database()))).await;
    assert!(matches!(error, OpenError::Tls { .. }), "{error}");
}

/// Calls answer `Unavailable` while it is away, and go on by themselves; every job ends once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_in_mid_work_loses_nothing() {
    const JOBS: u64 = 400;
    let server = Arc::new(Server::start(&[]));
    let store = open(&server.database()).await;
    store.enqueue(vec![job(); JOBS as usize], NOW).await.unwrap();
    let half = tokio::sync::Notify::new();
    let work = async {
        loop {
            let stats = again(async || store.stats().await).await;
            if stats.total(State::Completed) == JOBS {
                return stats;
            }
            if stats.total(State::Completed) > JOBS / 2 {
                half.notify_one();
            }
            let jobs = again(async || store.claim(claim("here-1/1", 8)).await).await;
            if jobs.is_empty() {
                // A claim whose answer was lost is given back once its lease has lapsed, as in life.
                again(async || store.rescue(Rescue::Lapsed { now: NOW.plus(2 * HOUR) }).await).await;
            }
            join_all(jobs.iter().map(|job| end(&store, job.lease))).await;
        }
    };
    let disturb = async {
        half.notified().await;
        let (crashed, resumed) = (server.clone(), server.clone());
        tokio::task::spawn_blocking(move || crashed.crash()).await.unwrap();
        assert!(matches!(store.probe(NOW).await, Err(LedgerError::Unavailable(_))));
        assert!(matches!(store.enqueue(vec![job()], NOW).await, Err(LedgerError::Unavailable(_))));
        assert!(matches!(store.claim(claim("here-1/1", 1)).await, Err(LedgerError::Unavailable(_))));
        tokio::task::spawn_blocking(move || resumed.resume()).await.unwrap();
    };
    let both = async { tokio::join!(work, disturb) };
    let (stats, ()) = tokio::time::timeout(DEADLINE, both).await.unwrap();
    assert_eq!(State::ALL.map(|state| stats.total(state)), [0, 0, 0, JOBS, 0, 0]);
    store.close().await;
}

/// What was committed although nobody said so is stale by then.
async fn end(store: &PostgresStore, lease: Lease) {
    let recorded = again(async || match store.record(record(lease, done()), NOW).await {
        Err(LedgerError::Stale(_)) => Ok(()),
        answer => answer,
    });
    recorded.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let server = Server::shared();
    let url = server.database();
    let proxy = Proxy::new(server.port()).await;
    let store = open(&proxy.through(&url)).await;
    let parent = start(&store).await;
    let mut rows = Rows::new(&GROUPS);
    for name in ["a", "b", "c"] {
        rows.push(vec![Cell::Text(name.into()), Cell::Null, Cell::Null], vec![]);
    }
    let receipt = Receipt {
        children: vec![job()],
        rejects: vec![Reject { key: None, reason: "no price\0".into(), raw: "{\0}".into() }],
        ..Receipt::new(parent.lease, Part::Page(0))
    };
    let batch = Batch { rows: vec![rows], ..Batch::default() };
    let delivery = Arc::new(Delivery { batch, receipt, received: 4 });
    let mut writer = store.writer().await.unwrap();
    proxy.set(Wire::LosesTheCommit);
    let lost = writer.commit(from_ref(&delivery), NOW).await;
    assert!(matches!(lost, Err(LedgerError::Unavailable(_))), "{lost:?}");
    assert_eq!(proxy.wire(), Wire::Whole, "a COMMIT was lost");
    assert_eq!(writer.commit(from_ref(&delivery), NOW).await, Ok(vec![Committed::default()]), "it is held already");
    let counts = Counts { received: 4, inserted: 3, rejected: 1, ..Counts::default() };
    let row = show(&store, parent.id).await;
    assert_eq!((row.counts, row.children.open, row.checkpoint.prefix), (counts, 1, 1));
    assert_eq!(store.count_rows(&GROUPS).await, Ok(3));
    assert_eq!(store.rejects(None, 9).await.unwrap().len(), 1);

    // So with the ends: of the parent, which then waits for its child, and of the child, which ends both.
    let child = store.claim(claim("here-1/1", 1)).await.unwrap().remove(0);
    for lease in [parent.lease, child.lease] {
        proxy.set(Wire::LosesTheCommit);
        let lost = store.record(record(lease, done()), NOW).await;
        assert!(matches!(lost, Err(LedgerError::Unavailable(_))), "{lost:?}");
        assert_eq!(store.record(record(lease, done()), NOW).await, Err(LedgerError::Stale(lease)));
    }
    let row = show(&store, parent.id).await;
    assert_eq!((row.state, row.children.open, row.children.completed), (State::Completed, 0, 1));
    assert_eq!(store.stats().await.unwrap().total(State::Completed), 2);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_unavailable_and_does_not_hold_up_the_end() {
    let server = Server::shared();
    let url = server.database();
    let proxy = Proxy::new(server.port()).await;
    let waits = |most| Settings { statement_timeout: most, connect_timeout: most, ..settings(&proxy.through(&url)) };
    // Should its end wait for the database, no deadline would hold.
    let patient = PostgresStore::open(waits(HOUR), NOW).await.unwrap();
    let lease = start(&patient).await.lease;
    let opened = async {
        // On a busy machine it takes some tries to be in time.
        loop {
            if let Ok(store) = PostgresStore::open(waits(Duration::from_millis(300)), NOW).await {
                let writer = again(async || store.writer().await).await;
                return (store, writer);
            }
        }
    };
    let (store, mut writer) = tokio::time::timeout(DEADLINE, opened).await.unwrap();
    proxy.set(Wire::Silent);
    let unavailable = |answer: Result<(), LedgerError>| assert!(matches!(answer, Err(LedgerError::Unavailable(_))));
    let delivery = || {
        let receipt = Receipt::new(lease, Part::Page(0));
        Arc::new(Delivery { batch: Batch::default(), receipt, received: 0 })
    };
    let asked = async {
        unavailable(store.probe(NOW).await);
        unavailable(store.record(record(lease, done()), NOW).await);
        unavailable(store.enqueue(vec![job()], NOW).await.map(drop));
        unavailable(store.claim(claim("here-1/1", 1)).await.map(drop));
        unavailable(writer.commit(&[delivery()], NOW).await.map(drop));
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap();
    let waiting = tokio::spawn({
        let patient = patient.clone();
        async move { patient.record(record(lease, done()), NOW).await }
    });
    let ended = async {
        patient.close().await;
        unavailable(waiting.await.unwrap());
        store.close().await;
    };
    tokio::time::timeout(DEADLINE, ended).await.unwrap();
    unavailable(store.probe(NOW).await);
    unavailable(store.record(record(lease, done()), NOW).await);
    unavailable(writer.commit(&[delivery()], NOW).await.map(drop));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_given_once_however_many_nodes_ask() {
    let server = Server::shared();
    let url = server.database();
    let (one, two) = (open(&url).await, open(&url).await);
    for round in 0..20 {
        // In opposite orders, so that each holds what the other one wants.
        let keyed = |number: usize| job().unique(format!("key {round} {number}"), UniqueScope::UntilCompleted);
        let up: Vec<NewJob> = (0..40).map(keyed).collect();
        let down: Vec<NewJob> = (0..40).rev().map(keyed).collect();
        let answers = tokio::join!(one.enqueue(up.clone(), NOW), two.enqueue(down, NOW), one.enqueue(up, NOW));
        let mut new = HashSet::new();
        let mut all = HashSet::new();
        for answer in [answers.0, answers.1, answers.2].into_iter().flat_map(Result::unwrap) {
            all.insert(answer.id());
            if let Enqueued::New(id) = answer {
                assert!(new.insert(id));
            }
        }
        assert_eq!((new.len(), all.len()), (40, 40), "every key has one job, and every answer names it");
    }
    assert_eq!(one.stats().await.unwrap().total(State::Waiting), 20 * 40);
    one.close().await;
    two.close().await;
}

/// Two nodes end the children of the same parents at the same time, and nobody is in anybody's way for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn families_end_once_whichever_node_ends_their_members() {
    const PARENTS: usize = 6;
    const CHILDREN: usize = 40;
    let server = Server::shared();
    let url = server.database();
    let (one, two) = (open(&url).await, open(&url).await);
    one.enqueue(vec![NewJob::new("catalog", "catalog.full", json!({})); PARENTS], NOW).await.unwrap();
    let parents = one.claim(claim("here-1/1", PARENTS)).await.unwrap();
    for parent in &parents {
        let receipt = Receipt { children: vec![job(); CHILDREN], ..Receipt::new(parent.lease, Part::Plan) };
        Ledger::commit(&one, receipt, Counts::default(), NOW).await.unwrap();
        one.record(record(parent.lease, done()), NOW).await.unwrap();
    }
    let work = async |store: &PostgresStore, owner: &str| {
        loop {
            let jobs = store.claim(claim(owner, 16)).await.unwrap();
            if jobs.is_empty() {
                return;
            }
            let ends = jobs.iter().rev().map(async |job| {
                let outcome = if job.id.0 % 3 == 0 { failed() } else { done() };
                store.record(record(job.lease, outcome), NOW).await.unwrap();
            });
            join_all(ends).await;
        }
    };
    tokio::join!(work(&one, "here-1/1"), work(&two, "there-1/1"));
    for parent in parents {
        let row = show(&two, parent.id).await;
        assert_eq!((row.state, row.children.open), (State::Completed, 0));
        assert_eq!(row.children.completed + row.children.failed, CHILDREN as u64);
    }
    let deadlocks = format!("SELECT deadlocks FROM pg_stat_database WHERE datname = '{}'", database_of(&url));
    assert_eq!(server.psql("postgres", &deadlocks), "0");
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn a_node_takes_back_what_the_dead_had_and_leaves_the_living_theirs() {
    let server = Server::shared();
    let url = server.database();
    let store = open(&url).await;
    store.enqueue(vec![job(); 5], NOW).await.unwrap();
    let owners = ["here-1/1", "alive-1/1", "lapsed-1/1", "gone-1/1", "here-1/2"];
    let mut jobs = Vec::new();
    for owner in owners {
        jobs.push(store.claim(claim(owner, 1)).await.unwrap().remove(0));
    }
    server.psql(
        database_of(&url),
        "INSERT INTO nodes (name, process, version, started_at, heartbeat_at) VALUES
            ('here', 'here-1', '1', now(), now()), ('alive', 'alive-1', '1', now(), now() - interval '5 s'),
            ('lapsed', 'lapsed-1', '1', now(), now() - interval '60 s')",
    );
    assert_eq!(store.rescue(Rescue::Lapsed { now: NOW }).await, Ok(1), "whose heartbeat lapsed, whatever its lease");
    let rescue = Rescue::Domain { domain: "catalog".into(), but: "here-1/2".into() };
    assert_eq!(store.rescue(rescue).await, Ok(2), "an earlier incarnation, and a process that nobody has heard of");
    let states: Vec<State> = {
        let mut states = Vec::new();
        for job in &jobs {
            states.push(show(&store, job.id).await.state);
        }
        states
    };
    assert_eq!(states, [State::Waiting, State::Active, State::Waiting, State::Waiting, State::Active]);
    assert_eq!(store.rescue_process("alive-1").await, Ok(1));
    assert_eq!(store.rescue_process("alive-1").await, Ok(0));
    store.close().await;
}

#[tokio::test]
async fn other_nodes_are_told_of_work_and_not_of_ends() {
    let server = Server::shared();
    let url = server.database();
    let store = open(&url).await;
    let (client, mut connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let (say, mut heard) = tokio::sync::mpsc::channel(100);
    let listening = tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = say.send(notification.payload().to_owned()).await;
            }
        }
    });
    client.batch_execute("LISTEN longshore").await.unwrap();
    let mut next = async || tokio::time::timeout(DEADLINE, heard.recv()).await.unwrap().unwrap();
    let active = start(&store).await;
    assert_eq!(next().await, "here-1 work catalog");
    store.record(record(active.lease, done()), NOW).await.unwrap();
    store.enqueue(vec![job().run_at(NOW.plus(HOUR))], NOW).await.unwrap();
    assert_eq!(next().await, "here-1 due", "the end of a job is nobody else's business");
    let active = start(&store).await;
    assert_eq!(next().await, "here-1 work catalog");
    store.change(active.id, Change::Cancel { reason: "enough".into() }, NOW).await.unwrap();
    assert_eq!(next().await, "here-1 revoked catalog");
    store.close().await;
    drop(client);
    listening.await.unwrap();
}

/// Every statement of the hot path, as the server itself planned it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_the_hot_path_reads_the_jobs_from_end_to_end() {
    let server = Server::start(&[
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
    ]);
    let url = server.database();
    let database = database_of(&url);
    for pooler in [Pooler::Session, Pooler::Transaction] {
        let store = PostgresStore::open(Settings { pooler, ..settings(&url) }, NOW).await.unwrap();
        server.psql(database, "TRUNCATE jobs, job_counts");
        server.psql(
            database,
            "INSERT INTO jobs (domain, kind, params, priority, state, run_at, enqueued_at)
             SELECT 'catalog', 'catalog.group', '{}', 0, 'waiting', 0, 0 FROM generate_series(1, 50000)",
        );
        server.psql(
            database,
            "INSERT INTO jobs (domain, kind, params, priority, state, run_at, enqueued_at, finished_at, bytes)
             SELECT 'catalog', 'catalog.group', '{}', 0, 'completed', 0, 0, 1750000000000 - number, 2
             FROM generate_series(1, 50000) AS number",
        );
        server.psql(database, "VACUUM ANALYZE jobs");
        let from = server.log().len();
        // More rounds than a plan for any values would need to be made: there must be none.
        for round in 0..8 {
            hot_path(&store, round).await;
        }
        store.close().await;
        let log = server.log();
        let plans = &log[from..];
        for index in
            ["jobs_ready", "jobs_due", "jobs_active", "jobs_finished", "jobs_unique", "jobs_parent", "jobs_pkey"]
        {
            assert!(plans.contains(index), "no plan uses {index}");
        }
        assert!(plans.contains("Seq Scan on job_counts"), "no plan reads anything from end to end: are there plans?");
        let scans: Vec<&str> = plans
            .split("LOG:  duration")
            .filter(|plan| plan.contains("Seq Scan on jobs") || plan.contains("Seq Scan on public.jobs"))
            .collect();
        assert!(scans.is_empty(), "{pooler:?}: {} plans, the first: {}", scans.len(), scans[0]);
    }
}

async fn hot_path(store: &PostgresStore, round: usize) {
    let keyed = |number: usize| job().unique(format!("{round} {number}"), UniqueScope::For(HOUR));
    store.enqueue(vec![job(); 30], NOW).await.unwrap();
    store.enqueue(vec![job(), job().run_at(NOW.plus(HOUR))], NOW).await.unwrap();
    store.enqueue(vec![keyed(1), keyed(1)], NOW).await.unwrap();
    let jobs = store.claim(claim("here-1/1", 30)).await.unwrap();
    let leases: Vec<Lease> = jobs.iter().map(|job| job.lease).collect();
    assert_eq!(store.renew(leases.clone(), NOW.plus(HOUR)).await, Ok(vec![]));
    let mut leases = leases.into_iter();
    let mut next = || leases.next().unwrap();
    let ends = (0..8).map(|_| store.record(record(next(), done()), NOW)).collect::<Vec<_>>();
    join_all(ends).await.into_iter().for_each(Result::unwrap);
    let parent = next();
    let children = vec![job().priority(-1), job().priority(-1), keyed(2)];
    let receipt = Receipt { children, ..Receipt::new(parent, Part::Plan) };
    Ledger::commit(store, receipt, Counts::default(), NOW).await.unwrap();
    store.writer().await.unwrap().commit(&[delivery(parent)], NOW).await.unwrap();
    store.record(record(parent, done()), NOW).await.unwrap();
    for child in store.claim(claim("here-1/1", 2)).await.unwrap() {
        assert_eq!(child.parent, Some(parent.job));
        store.record(record(child.lease, failed()), NOW).await.unwrap();
    }
    let retry = Outcome::Retry { at: NOW, reason: "busy".into() };
    store.record(record(next(), retry), NOW).await.unwrap();
    assert!(store.release(NOW).await.unwrap().count > 0);
    store.record_crash(next(), "panic".into(), NOW).await.unwrap();
    let ended = next();
    store.record(record(ended, failed()), NOW).await.unwrap();
    store.change(ended.job, Change::Retry, NOW).await.unwrap();
    store.change(parent.job, Change::Cancel { reason: "enough".into() }, NOW).await.unwrap();
    assert!(store.rescue(Rescue::Domain { domain: "catalog".into(), but: "here-1/2".into() }).await.unwrap() > 0);
    store.rescue(Rescue::Lapsed { now: NOW }).await.unwrap();
    store.rescue_process("nobody").await.unwrap();
    store.stats().await.unwrap();
    let retention = Retention {
        completed_for: Duration::from_millis(49_900),
        completed_max: 49_000,
        failed_for: HOUR,
        failed_max: 1,
        bytes_max: 10,
        batch: 100,
    };
    assert!(store.prune(retention, NOW).await.unwrap().jobs > 0);
    for states in [vec![State::Active], vec![State::Delayed], vec![State::Failed]] {
        store.jobs(Filter { states, ..Filter::default() }).await.unwrap();
    }
    store.jobs(Filter { parent: Some(parent.job), ..Filter::default() }).await.unwrap();
    store.jobs(Filter::default()).await.unwrap();
    store.fire("nightly", Timestamp(NOW.0 + round as i64), job(), NOW).await.unwrap();
}

fn delivery(lease: Lease) -> Arc<Delivery<Batch>> {
    Arc::new(Delivery { batch: Batch::default(), receipt: Receipt::new(lease, Part::Page(0)), received: 0 })
}

/// The numbers of `stats` are sums of what each statement left behind, folded now and then; they stay right.
#[tokio::test]
async fn the_counts_equal_the_table_however_often_they_are_folded() {
    let server = Server::shared();
    let url = server.database();
    let (one, two) = (open(&url).await, open(&url).await);
    let database = database_of(&url);
    for _ in 0..30 {
        one.enqueue(vec![job(); 5], NOW).await.unwrap();
        for (number, job) in one.claim(claim("here-1/1", 3)).await.unwrap().into_iter().enumerate() {
            one.record(record(job.lease, if number == 0 { failed() } else { done() }), NOW).await.unwrap();
        }
    }
    // As many as make it worth while.
    server.psql(
        database,
        "INSERT INTO job_counts SELECT 'catalog', 'catalog.group', 'waiting', n % 2 * 2 - 1, 0
         FROM generate_series(1, 2000) AS n",
    );
    for _ in 0..3 {
        let (here, there) = tokio::join!(one.stats(), two.stats());
        for stats in [here.unwrap(), there.unwrap()] {
            assert_eq!(State::ALL.map(|state| stats.total(state)), [60, 0, 0, 60, 30, 0]);
        }
    }
    let lines: usize = server.psql(database, "SELECT count(*) FROM job_counts").parse().unwrap();
    assert!(lines < 10, "{lines} lines are left");
    let bytes = "SELECT (SELECT sum(bytes) FROM job_counts WHERE state IN ('completed', 'failed'))
                 = (SELECT sum(bytes) FROM jobs)";
    assert_eq!(server.psql(database, bytes), "t");
    one.close().await;
    two.close().await;
}

/// Several nodes behind a pooler that gives each transaction another connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_works_behind_a_pooler_that_hands_connections_on() {
    let server = Server::shared();
    let pooler = PgBouncer::before(&server);
    let url = pooler.url(server.database().rsplit('/').next().unwrap());
    let node = |process: &str| Settings { pooler: Pooler::Transaction, process: process.into(), ..settings(&url) };
    let (one, two) = tokio::join!(PostgresStore::open(node("one"), NOW), PostgresStore::open(node("two"), NOW));
    let (one, two) = (one.unwrap(), two.unwrap());
    one.enqueue(vec![job(); 60], NOW).await.unwrap();
    let work = async |store: &PostgresStore, owner: &str| {
        let mut writer = store.writer().await.unwrap();
        let mut rows = 0;
        loop {
            let jobs = store.claim(claim(owner, 4)).await.unwrap();
            if jobs.is_empty() {
                return rows;
            }
            for job in &jobs {
                let mut groups = Rows::new(&GROUPS);
                for number in 0..100 {
                    groups.push(vec![Cell::Text(format!("{} {number}", job.id)), Cell::Null, Cell::Null], vec![]);
                }
                let batch = Batch { rows: vec![groups], ..Batch::default() };
                let receipt = Receipt::new(job.lease, Part::Page(0));
                let delivery = Arc::new(Delivery { batch, receipt, received: 100 });
                rows += writer.commit(&[delivery], NOW).await.unwrap()[0].counts.inserted;
            }
            let ends = jobs.iter().map(|job| store.record(record(job.lease, done()), NOW));
            join_all(ends).await.into_iter().for_each(Result::unwrap);
        }
    };
    let (here, there) = tokio::join!(work(&one, "one/1"), work(&two, "two/1"));
    assert_eq!(here + there, 6_000);
    assert_eq!(one.count_rows(&GROUPS).await, Ok(6_000));
    assert_eq!(two.stats().await.unwrap().total(State::Completed), 60);
    hot_path(&one, 0).await;
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_connections_are_all_busy_is_no_dead_one() {
    let server = Server::shared();
    let url = server.database();
    let lapse = Duration::from_secs(30);
    let named =
        |process: &str| Settings { process: process.into(), connections: 1, heartbeat_lapse: lapse, ..settings(&url) };
    let busy = PostgresStore::open(named("busy-1"), NOW).await.unwrap();
    busy.join("busy").await.unwrap();
    busy.heartbeat().await.unwrap();
    let holder = server.holder(database_of(&url), "BEGIN; LOCK TABLE meta");
    let probe = tokio::spawn({
        let busy = busy.clone();
        async move { busy.probe(NOW).await }
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database()";
    while server.psql(database_of(&url), waiting) == "0" {
        tokio::task::yield_now().await;
    }
    // Its one connection waits; its heart has another.
    assert_eq!(busy.heartbeat().await, Ok(Beat::Alive { nodes: 1 }));
    drop(holder);
    probe.await.unwrap().unwrap();
    busy.close().await;
}

#[tokio::test]
async fn after_an_outage_nobody_is_taken_for_dead_before_all_had_time_to_beat() {
    let server = Server::shared();
    let url = server.database();
    let proxy = Proxy::new(server.port()).await;
    let lapse = Duration::from_secs(3);
    let own = Settings { process: "back-1".into(), heartbeat_lapse: lapse, ..settings(&proxy.through(&url)) };
    let store = PostgresStore::open(own, NOW).await.unwrap();
    store.join("back").await.unwrap();
    again(|| store.heartbeat()).await;
    store.enqueue(vec![job()], NOW).await.unwrap();
    store.claim(claim("other-1/1", 1)).await.unwrap();
    server.psql(
        database_of(&url),
        "INSERT INTO nodes (name, process, version, started_at, heartbeat_at)
            VALUES ('other', 'other-1', '1', now(), now() - interval '1 hour')",
    );
    proxy.set(Wire::Silent);
    assert!(matches!(store.heartbeat().await, Err(LedgerError::Unavailable(_))));
    proxy.set(Wire::Whole);
    let lapsed = || store.rescue(Rescue::Lapsed { now: NOW });
    assert_eq!(lapsed().await, Ok(0), "it has not beaten itself");
    let back = Instant::now();
    assert_eq!(again(|| store.heartbeat()).await, Beat::Alive { nodes: 1 });
    let mut taken = 0;
    while taken == 0 {
        taken = again(lapsed).await;
    }
    assert!(back.elapsed() >= lapse, "the other may be about to: {:?}", back.elapsed());
    assert_eq!(taken, 1, "and then it is dead");
    store.close().await;
}

/// Connecting may take longer than a beat: given up with each beat, it would never come about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_slow_to_come_about_still_carries_a_heartbeat() {
    let server = Server::shared();
    let proxy = Proxy::new(server.port()).await;
    let lapse = Duration::from_secs(6);
    let own = Settings { heartbeat_lapse: lapse, ..settings(&proxy.through(&server.database())) };
    let store = PostgresStore::open(own, NOW).await.unwrap();
    store.join("slow").await.unwrap();
    proxy.set(Wire::SlowToGreet(lapse / 2));
    assert_eq!(store.heartbeat().await, Ok(Beat::Alive { nodes: 1 }));
    store.close().await;
}

#[tokio::test]
async fn what_a_node_that_left_had_is_anybodys_at_once() {
    let server = Server::shared();
    let url = server.database();
    let named = |process: &str| Settings { process: process.into(), ..settings(&url) };
    let (one, other) = (PostgresStore::open(named("one-1"), NOW).await.unwrap(), open(&url).await);
    one.join("one").await.unwrap();
    one.enqueue(vec![job()], NOW).await.unwrap();
    one.claim(claim("one-1/1", 1)).await.unwrap();
    one.leave().await.unwrap();
    assert_eq!(other.claim(claim("here-1/1", 5)).await.unwrap().len(), 1);
    one.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_job_that_cannot_be_put_fails_alone() {
    let server = Server::shared();
    let store = open(&server.database()).await;
    // Longer than a key of an index may be, and what no compression makes small.
    let long: String = (0..100_u32).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()).collect();
    let puts = (0..40).map(|n| {
        let key = if n == 20 { long.clone() } else { format!("k{n}") };
        store.enqueue(vec![job().unique(key, UniqueScope::UntilCompleted)], NOW)
    });
    let answers = join_all(puts).await;
    let failed: Vec<usize> = (0..40).filter(|n| answers[*n].is_err()).collect();
    assert_eq!(failed, [20]);
    store.close().await;
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_in_time_is_no_fault_of_the_job() {
    let server = Server::shared();
    let url = server.database();
    let database = database_of(&url);
    let first = open(&url).await;
    server.psql(database, &format!("ALTER DATABASE {database} SET lock_timeout = '100ms'"));
    let store = open(&url).await;
    let job = start(&store).await;
    let holder = server.holder(database, "BEGIN; LOCK TABLE catalog_groups");
    let mut writer = store.writer().await.unwrap();
    let mut rows = Rows::new(&GROUPS);
    rows.push(vec![Cell::Text("a".into()), Cell::Null, Cell::Null], vec![]);
    let batch = Batch { rows: vec![rows], ..Batch::default() };
    let delivery = Arc::new(Delivery { batch, receipt: Receipt::new(job.lease, Part::Page(0)), received: 1 });
    let answer = writer.commit(from_ref(&delivery), NOW).await;
    assert!(matches!(answer, Err(LedgerError::Unavailable(_))), "{answer:?}");
    drop(holder);
    // The server takes note in its own time that the holder has gone.
    again(async || store.writer().await?.commit(from_ref(&delivery), NOW).await).await;
    first.close().await;
    store.close().await;
}
