//! PostgreSQL as store and ledger, on a server of the tests' own.

use longshore::store::migrations::POSTGRES;

use crate::support::postgres::Server;

#[test]
fn the_schema_is_made_on_an_empty_database() {
    let server = Server::shared();
    let url = server.database();
    let database = url.rsplit('/').next().unwrap();
    for migration in POSTGRES {
        server.psql(database, migration.sql);
    }
    let open = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                AND NOT relrowsecurity";
    assert_eq!(server.psql(database, open), "0", "row level security is on for every table");
}
