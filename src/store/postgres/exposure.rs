//! Who but the owner can read the tables: what `longshore check` says of a database that serves them to others.
//!
//! Supabase and PostgREST show every table of an exposed schema to `anon` and `authenticated`, unless row level
//! security is on and no policy lets them in; a view shows what its owner may see, unless it is told to ask as its
//! caller.

use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;

/// Tables of this schema without row level security, whoever made them and whatever is granted now.
const OPEN_TABLES: &str = "
SELECT c.relname::text FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
ORDER BY 1";

/// Policies that let everybody in, or the roles that the outside world has.
const POLICIES: &str = "
SELECT tablename::text, policyname::text, array_to_string(roles, ', ') FROM pg_policies
WHERE schemaname = current_schema() AND roles && '{public, anon, authenticated}'::name[]
ORDER BY 1, 2";

/// Views that answer as their owner, with those roles that may ask them.
const OPEN_VIEWS: &str = "
SELECT c.relname::text, string_agg(DISTINCT coalesce(r.rolname::text, 'public'), ', ')
FROM pg_class c, aclexplode(c.relacl) AS acl LEFT JOIN pg_roles r ON r.oid = acl.grantee
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'v' AND acl.privilege_type = 'SELECT'
    AND (acl.grantee = 0 OR r.rolname IN ('anon', 'authenticated'))
    AND NOT coalesce(c.reloptions::text[] && '{security_invoker=true, security_invoker=on}', false)
GROUP BY 1 ORDER BY 1";

/// A line for each table or view that others can read, with what to do.
pub async fn exposed(session: &Session) -> OpResult<Vec<String>> {
    let mut lines = Vec::new();
    for row in session.query(OPEN_TABLES, &[]).await? {
        let table: &str = row.get(0);
        lines.push(format!(
            "the table {table} has no row level security: ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        ));
    }
    for row in session.query(POLICIES, &[]).await? {
        let (table, policy, roles): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        lines.push(format!(
            "the policy {policy:?} lets {roles} into {table}: DROP POLICY \"{policy}\" ON {table}, unless that is meant"
        ));
    }
    for row in session.query(OPEN_VIEWS, &[]).await? {
        let (view, roles): (&str, &str) = (row.get(0), row.get(1));
        lines.push(format!("the view {view} answers {roles} as its owner: REVOKE ALL ON {view} FROM {roles}"));
    }
    Ok(lines)
}
