//! The sync protocol as SQL: what turns a Postgres database into a backend.
//!
//! The same functions serve `dynos serve --database-url`, which calls them for the users whose tokens it has checked,
//! and Supabase, where devices call them through PostgREST. They need Postgres 14 or later, no extension and no
//! superuser. `docs/postgres.md` is their manual, `docs/scaling.md` says what they lock.
//!
//! ```
//! let sql = dynos_sync_sql::script();
//! assert!(sql.contains("function public.dynos_track"));
//! // psql "$DATABASE_URL" -f that, and then: select dynos_track('tasks', 'user_id');
//! ```
//!
//! This crate is text, and depends on nothing.
//!
//! # What is installed
//!
//! A schema `dynos`, with the books of the protocol and the parts of its functions, and in schema `public`:
//!
//! | function | for whom | |
//! |---|---|---|
//! | `dynos_push`, `dynos_pull`, `dynos_heads`, `dynos_declare`, `dynos_tables` | callers | the protocol (`docs/protocol.md`), as the user in `request.jwt.claims` |
//! | `dynos_grant(role)` | the owner | lets a role call these |
//! | `dynos_track(table, owner, shared, name)`, `dynos_untrack(table)` | the owner | which tables are synced |
//! | `dynos_share(names…)` | the owner | document tables that all users share |
//! | `dynos_purge(…)` | the owner | forgets old tombstones and outcomes |
//! | `dynos_restored()` | the owner | says that an older copy was put in place |
//!
//! Tables that are tracked get four triggers. `dynos.call(subject, role, verb, request)` is the server's way in: it
//! takes the caller's word for who the user is, and is granted to nobody.

use std::fmt::Write as _;

/// The version that [`INSTALL`] installs, as `dynos.meta` keeps it.
pub const VERSION: i32 = 3;

/// Installs the functions, or brings them up to date. To be run in one transaction.
pub const INSTALL: &str = concat!(
    include_str!("../sql/00_begin.sql"),
    "\n",
    include_str!("../sql/01_schema.sql"),
    "\n",
    include_str!("../sql/02_history.sql"),
    "\n",
    include_str!("../sql/03_values.sql"),
    "\n",
    include_str!("../sql/04_track.sql"),
    "\n",
    include_str!("../sql/05_number.sql"),
    "\n",
    include_str!("../sql/06_push.sql"),
    "\n",
    include_str!("../sql/07_write.sql"),
    "\n",
    include_str!("../sql/07_shown.sql"),
    "\n",
    include_str!("../sql/08_pull.sql"),
    "\n",
    include_str!("../sql/09_declare.sql"),
    "\n",
    include_str!("../sql/10_purge.sql"),
    "\n",
    include_str!("../sql/11_grants.sql"),
);

/// Takes everything out again. The application's tables and their rows stay; documents and the history go.
pub const UNINSTALL: &str = include_str!("../sql/uninstall.sql");

/// [`INSTALL`] as a script of its own, with its transaction.
pub fn script() -> String {
    format!("begin;\n{INSTALL}\ncommit;\n")
}

/// A table that is to be synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The table, as in SQL without quotes: `tasks`, or `app.tasks`.
    pub table: String,
    /// The column that holds a row's user. `None`: all users share the rows that row-level security lets them see.
    pub owner: Option<String>,
}

/// A migration for a Supabase project: the functions, the tables that are synced, and live hints for them.
///
/// ```
/// use dynos_sync_sql::{Tracked, migration};
/// let tasks = Tracked { table: "tasks".into(), owner: Some("user_id".into()) };
/// assert!(migration(&[tasks]).ends_with("select public.dynos_track('\"tasks\"', 'user_id');\n\
///     do $$ begin alter publication supabase_realtime add table \"tasks\"; exception when duplicate_object or undefined_object then null; end $$;\n\
///     notify pgrst, 'reload schema';\ncommit;\n"));
/// ```
pub fn migration(tables: &[Tracked]) -> String {
    let mut sql = format!("begin;\n{INSTALL}\n");
    for Tracked { table, owner } in tables {
        let name =
            table.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>();
        let name = name.join(".");
        let how = owner.as_ref().map_or_else(|| "shared => true".to_owned(), |owner| literal(owner));
        // Writing to a String cannot fail.
        let _ = writeln!(sql, "select public.dynos_track({}, {how});", literal(&name));
        let _ = writeln!(
            sql,
            "do $$ begin alter publication supabase_realtime add table {name}; \
             exception when duplicate_object or undefined_object then null; end $$;"
        );
    }
    sql.push_str("notify pgrst, 'reload schema';\ncommit;\n");
    sql
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
