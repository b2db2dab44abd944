//! `dynos` and a Supabase project: the migration, signing in, two devices.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dynos_sync_testbed::Supabase;
use support::{Ran, dynos, mode, number, run, sql, text};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery";

/// A table of one's own in the shared project, and an account.
struct World {
    supabase: Supabase,
    table: String,
    email: String,
    dir: TempDir,
    is_plain: bool,
}

impl World {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let name = format!("cli_{}_{}", process::id(), since.subsec_nanos());
        let supabase = Supabase::shared();
        supabase.sql(&format!(
            "create table {name} (id text primary key, user_id uuid not null default auth.uid(), title text);
             alter table {name} enable row level security;
             create policy own on {name} to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid());
             grant all on {name} to authenticated;"
        ));
        // Not the whole migration again: other tests are using the functions.
        supabase.sql(&format!("select public.dynos_track('{name}', 'user_id')"));
        let world = Self {
            email: format!("{name}@example.com"),
            table: name,
            supabase,
            dir: TempDir::new().unwrap(),
            is_plain: false,
        };
        world.sign_up();
        world
    }

    /// With a table that is synced as it is.
    fn plain() -> Self {
        let mut world = Self::new();
        world.is_plain = true;
        let name = &world.table;
        world.supabase.sql(&format!(
            "select public.dynos_untrack('{name}');
             alter table {name} add updated_at timestamptz not null default now(), add deleted_at timestamptz"
        ));
        world.supabase.reload();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !world.knows_the_columns() {
            assert!(Instant::now() < deadline, "PostgREST does not hear of the columns");
        }
        world
    }

    /// PostgREST hears of new columns a moment later, and refuses to write to them until then.
    fn knows_the_columns(&self) -> bool {
        let Supabase { url, service_key, .. } = &self.supabase;
        let mut socket = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        let (table, body) = (&self.table, r#"{"updated_at": "now", "deleted_at": null}"#);
        write!(
            socket,
            "PATCH /rest/v1/{table}?id=eq.nobody HTTP/1.0\r\napikey: {service_key}\r\n\
             content-type: application/json\r\nprefer: return=representation\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.contains(" 200 ")
    }

    fn sign_up(&self) {
        let Supabase { url, anon_key, .. } = &self.supabase;
        let body = serde_json::json!({"email": self.email, "password": PASSWORD}).to_string();
        let mut socket = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
        write!(
            socket,
            "POST /auth/v1/signup HTTP/1.0\r\napikey: {anon_key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }

    /// The rows of the world's table. A clone may have tables of other tests too.
    fn rows(&self, database: &Path) -> String {
        let columns = "json_array(id, title)";
        text(
            database,
            &format!("SELECT group_concat({columns}, ' ') FROM (SELECT * FROM {} ORDER BY id)", self.table),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that knows the project, and the password.
    fn on(&self, command: &str, database: &Path, more: &[&str]) -> Ran {
        let mut dynos = dynos();
        dynos.env("DYNOS_SUPABASE_URL", &self.supabase.url).env("DYNOS_ANON_KEY", &self.supabase.anon_key);
        dynos.env("DYNOS_PASSWORD", PASSWORD).args([command, "--json"]).arg(database).args(more);
        Ran::of(&dynos.output().unwrap())
    }

    /// A command that knows only what is remembered.
    fn remembered(&self, command: &str, database: &Path) -> Ran {
        Ran::of(&dynos().args([command, "--json"]).arg(database).output().unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let name = &self.table;
        let untrack = format!("select public.dynos_untrack('{name}')");
        let untrack = if self.is_plain { "" } else { &untrack };
        self.supabase.sql(&format!("{untrack}; drop table {name}"));
    }
}

#[test]
fn a_user_signs_in_once_and_has_the_same_rows_on_every_device() {
    let world = World::new();
    let (table, phone, laptop) = (&world.table, world.path("phone.sqlite"), world.path("laptop.sqlite"));
    sql(&phone, &format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, user_id TEXT, title TEXT)"));
    world.on("track", &phone, &[table, "--email", &world.email, "--remember"]).ok();
    assert_eq!(mode(&world.path("phone.sqlite.dynos")), 0o600);
    let remembered = std::fs::read_to_string(world.path("phone.sqlite.dynos")).unwrap();
    assert!(remembered.contains("refresh_token") && !remembered.contains(PASSWORD));

    sql(&phone, &format!("INSERT INTO {table} (id, title) VALUES ('a', 'milk')"));
    world.remembered("sync", &phone).ok();
    let rotated = std::fs::read_to_string(world.path("phone.sqlite.dynos")).unwrap();
    assert_ne!(rotated, remembered, "the refresh token that was used up has a successor");
    assert_eq!(world.supabase.sql(&format!("select title from {table}")), "milk");

    world.on("clone", &laptop, &["--email", &world.email, "--remember"]).ok();
    assert_eq!(text(&laptop, &format!("SELECT title FROM {table}")), "milk");
    sql(&laptop, &format!("UPDATE {table} SET title = 'oat milk'"));
    world.remembered("sync", &laptop).ok();
    world.remembered("sync", &phone).ok();
    assert_eq!(number(&phone, &format!("SELECT count(*) FROM {table} WHERE title = 'oat milk'")), 1);
    assert_eq!(world.rows(&phone), world.rows(&laptop));
}

#[test]
fn devices_sync_a_table_as_it_is() {
    let world = World::plain();
    let (table, phone, laptop) = (&world.table, world.path("phone.sqlite"), world.path("laptop.sqlite"));
    for device in [&phone, &laptop] {
        // Without the owner: the database fills it in.
        let columns = "id TEXT PRIMARY KEY, title TEXT, updated_at TEXT";
        sql(device, &format!("CREATE TABLE {table} ({columns})"));
        world.on("track", device, &[table, "--plain", "--email", &world.email, "--remember"]).ok();
    }
    sql(
        &phone,
        &format!("INSERT INTO {table} (id, title) VALUES ('a', 'milk'), ('b', 'bread'), ('c', 'eggs')"),
    );
    world.remembered("sync", &phone).ok();
    world.remembered("sync", &laptop).ok();
    assert_eq!(number(&laptop, &format!("SELECT count(*) FROM {table}")), 3);

    sql(
        &laptop,
        &format!("UPDATE {table} SET title = 'oat milk' WHERE id = 'a'; DELETE FROM {table} WHERE id = 'b'"),
    );
    sql(&phone, &format!("UPDATE {table} SET title = 'eggs, 12' WHERE id = 'c'"));
    world.supabase.sql(&format!(
        "insert into {table} (id, user_id, title) select 'd', user_id, 'from the web' from {table} where id = 'a'"
    ));
    for device in [&laptop, &phone, &laptop] {
        world.remembered("sync", device).ok();
    }
    assert_eq!(world.rows(&phone), world.rows(&laptop));
    let rows = format!("SELECT group_concat(title, ', ') FROM (SELECT title FROM {table} ORDER BY id)");
    assert_eq!(text(&phone, &rows), "oat milk, eggs, 12, from the web");
    let database = "select string_agg(title, ', ' order by id) from TABLE where deleted_at is null";
    assert_eq!(world.supabase.sql(&database.replace("TABLE", table)), "oat milk, eggs, 12, from the web");

    let clone = world.on("clone", &world.path("new.sqlite"), &["--plain", "--email", &world.email]);
    assert!(clone.failed(2, "usage").err.contains("make the tables"), "a project does not tell them");
}

#[test]
fn who_is_not_signed_in_is_told_so() {
    let world = World::new();
    let (table, phone) = (&world.table, world.path("phone.sqlite"));
    sql(&phone, &format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, user_id TEXT, title TEXT)"));
    world.on("track", &phone, &[table]).ok();
    world.on("sync", &phone, &[]).failed(4, "sign_in_required");
    world.on("sync", &phone, &["--token", &world.supabase.anon_key]).failed(4, "sign_in_required");
    let nobody = world.on("sync", &phone, &["--email", "nobody@example.com"]).failed(4, "sign_in_required");
    assert!(!nobody.err.contains(PASSWORD));
    world
        .on("sync", &phone, &["--email", &world.email, "--supabase", "http://127.0.0.1:1"])
        .failed(3, "unreachable");
    world.on("sync", &phone, &["--email", &world.email, "--anon-key", "wrong"]).failed(1, "server");
    world.on("sync", &phone, &["--email", &world.email]).ok();
}

#[test]
fn the_migration_names_the_tables_and_is_written_once() {
    let printed = run(["supabase", "init", "--tables", "tasks,notes", "--shared", "rooms"]).ok().out;
    for call in [
        r#"dynos_track('"tasks"', 'user_id')"#,
        r#"dynos_track('"notes"', 'user_id')"#,
        r#"dynos_track('"rooms"', shared => true)"#,
    ] {
        assert!(printed.contains(call), "{call}");
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("sync.sql");
    let output = ["supabase", "init", "--json", "--tables", "tasks", "--owner-column", "who", "--output"];
    let again = || run(output.iter().map(AsRef::as_ref).chain([file.as_os_str()]));
    again().ok();
    assert!(std::fs::read_to_string(&file).unwrap().contains("dynos_track('\"tasks\"', 'who')"));
    again().failed(5, "exists");
    run(["--json", "supabase", "init", "--tables", "tasks", "--shared", "tasks"]).failed(2, "usage");
}
