//! Tables that devices sync are still an application's own: its other programs go on using supabase-js.
//!
//! PostgREST, PostgreSQL and supabase-js are the real ones; the authentication is an imitation (`scripts/testbed`).

#[path = "../support/mod.rs"]
mod support;

mod client;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use dynos_sync_testbed::Supabase;
use serde_json::{Value, json};
use support::{Ran, Server, dynos, open, sql, wait_for};
use tempfile::TempDir;

use client::Client;

/// A table of the application that no other test uses, with row-level security.
struct Table {
    supabase: Supabase,
    name: String,
    kind: Kind,
}

/// Who syncs a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody.
    Untracked,
    /// Devices, by what was installed in the database.
    Tracked,
    /// Devices, with nothing installed. What is deleted is marked.
    Plain,
}

impl Table {
    fn create(name: &str, kind: Kind) -> Self {
        let supabase = Supabase::shared();
        let name = format!("{name}_{}", std::process::id());
        let more = match kind {
            Kind::Untracked => String::new(),
            Kind::Tracked => format!("select dynos_track('{name}', 'user_id');"),
            Kind::Plain => format!(
                "alter table {name} add updated_at timestamptz not null default now(), add deleted_at timestamptz;
                 create function {name}_touch() returns trigger language plpgsql as
                     $$ begin new.updated_at = now(); return new; end $$;
                 create trigger touch before update on {name} for each row execute function {name}_touch();"
            ),
        };
        supabase.sql(&format!(
            "create table {name} (
                 id uuid primary key default gen_random_uuid(),
                 user_id uuid not null default auth.uid(),
                 title text not null check (title <> ''),
                 done boolean not null default false,
                 stars bigint
             );
             alter table {name} enable row level security;
             create policy own on {name} to authenticated
                 using (user_id = auth.uid()) with check (user_id = auth.uid());
             {more}"
        ));
        supabase.reload();
        Self { supabase, name, kind }
    }

    /// A client whose PostgREST knows the table, signed up as a new user.
    fn user(&self, name: &str) -> Client {
        let mut client = Client::start(&format!("{name}-{}@example.com", self.name));
        // Reading works before PostgREST knows the columns, writing does not.
        let nothing = json!({"id": "00000000-0000-0000-0000-000000000000"});
        let update = json!({"update": {"title": "x"}, "in": self.name, "where": nothing});
        wait_for("PostgREST notices the table", || client.ask(&update)["data"] == json!([]));
        client
    }

    /// The rows of a user in the database, in the form of [`rows`].
    fn rows(&self, user: &str) -> Vec<String> {
        let columns = "id, user_id, title, done::int, coalesce(stars::text, 'null')";
        let living = if self.kind == Kind::Plain { "and deleted_at is null" } else { "" };
        let rows = self.supabase.sql(&format!(
            "select json_build_array({columns}) from {} where user_id = '{user}' {living} order by id",
            self.name
        ));
        rows.lines().map(|row| serde_json::from_str::<Value>(row).expect("JSON").to_string()).collect()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !thread::panicking() {
            let untrack = format!("select dynos_untrack('{}');", self.name);
            let untrack = if self.kind == Kind::Tracked { &untrack } else { "" };
            self.supabase
                .sql(&format!("{untrack} drop table {0}; drop function if exists {0}_touch", self.name));
        }
    }
}

/// The rows of a device's file, each as a JSON array.
fn rows(device: &Path, table: &str) -> Vec<String> {
    let query = format!(
        "SELECT json_array(id, user_id, title, done, coalesce(CAST(stars AS TEXT), 'null')) FROM {table} ORDER BY id"
    );
    let db = open(device);
    let mut statement = db.prepare(&query).expect("the table is there");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    rows.map(|row| serde_json::from_str::<Value>(&row.expect("a row")).expect("JSON").to_string()).collect()
}

#[test]
fn supabase_js_signs_in_and_writes_what_row_level_security_lets_it() {
    let table = Table::create("note", Kind::Untracked);
    let (mut ada, mut bob) = (table.user("ada"), table.user("bob"));
    ada.sign_in();
    let into = &table.name;
    let row = ada.done(&json!({"insert": {"title": "milk", "stars": 3}, "into": into}))[0].clone();
    assert_eq!(row["user_id"], ada.user());
    let changed = ada.done(&json!({"update": {"done": true}, "in": into, "where": {"id": row["id"]}}));
    assert_eq!(changed[0]["done"], true);
    ada.done(&json!({"upsert": [{"id": row["id"], "title": "oat milk"}], "into": into}));

    assert_eq!(bob.done(&json!({"select": "*", "from": into})), json!([]));
    let theirs = json!({"title": "x", "user_id": ada.user()});
    assert_eq!(bob.ask(&json!({"insert": theirs, "into": into}))["error"]["code"], "42501");
    assert_eq!(bob.done(&json!({"delete": {"id": row["id"]}, "from": into})), json!([]));
    assert_eq!(ada.ask(&json!({"insert": {"title": ""}, "into": into}))["error"]["code"], "23514");

    let expected = json!([row["id"], ada.user(), "oat milk", 1, "3"]).to_string();
    assert_eq!(table.rows(ada.user()), [expected]);
    assert_eq!(ada.done(&json!({"delete": {"id": row["id"]}, "from": into}))[0]["id"], row["id"]);
    assert!(table.rows(ada.user()).is_empty());
}

/// Two devices of one user.
struct Devices {
    dir: TempDir,
    /// The environment of their commands: the backend, and who they are.
    env: Vec<(&'static str, String)>,
}

impl Devices {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, command: &str, device: &Path, more: &[&str]) -> Ran {
        let mut dynos = dynos();
        dynos.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ran::of(&dynos.arg(command).arg(device).args(more).output().expect("dynos runs"))
    }

    /// A new device, with all rows.
    fn begin(&self, device: &Path, table: &Table) {
        if table.kind != Kind::Plain {
            self.run("clone", device, &[]).ok();
            return;
        }
        let columns =
            "id TEXT PRIMARY KEY, user_id TEXT, title TEXT, done BOOLEAN, stars INTEGER, updated_at TEXT";
        sql(device, &format!("CREATE TABLE {} ({columns})", table.name));
        self.run("track", device, &[&table.name, "--plain", "--remember"]).ok();
        self.sync(device);
    }

    fn sync(&self, device: &Path) {
        self.run("sync", device, &[]).ok();
    }
}

/// A server on the project's own database that takes the project's own tokens.
fn serve(dir: &Path, supabase: &Supabase) -> Server {
    let data = dir.join("server");
    fs::create_dir_all(&data).expect("a directory");
    let secret = dir.join("secret");
    fs::write(&secret, &supabase.jwt_secret).expect("a file");
    let secret = secret.to_str().expect("text");
    Server::start_with(
        &data,
        "127.0.0.1:0",
        &[
            "--secret-file",
            secret,
            "--database-role",
            "authenticated",
            "--database-url",
            &supabase.database_url,
        ],
    )
}

#[test]
fn devices_that_sync_through_dynos_serve_meet_what_supabase_js_writes_meanwhile() {
    let table = Table::create("served_note", Kind::Tracked);
    let ada = table.user("ada");
    let dir = tempfile::tempdir().expect("a directory");
    let server = serve(dir.path(), &table.supabase);
    let env = vec![("DYNOS_REMOTE", server.url.clone()), ("DYNOS_TOKEN", ada.token().to_owned())];
    meet(&table, ada, &Devices { dir, env });
}

#[test]
fn devices_that_sync_with_the_project_meet_what_supabase_js_writes_meanwhile() {
    meet_in_the_project("managed_note", Kind::Tracked);
}

#[test]
fn devices_that_sync_a_table_as_it_is_meet_what_supabase_js_writes_meanwhile() {
    meet_in_the_project("plain_note", Kind::Plain);
}

fn meet_in_the_project(name: &str, kind: Kind) {
    let table = Table::create(name, kind);
    let ada = table.user("ada");
    let Supabase { url, anon_key, .. } = table.supabase.clone();
    let env = vec![
        ("DYNOS_SUPABASE_URL", url),
        ("DYNOS_ANON_KEY", anon_key),
        ("DYNOS_TOKEN", ada.token().to_owned()),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    meet(&table, ada, &Devices { dir, env });
}

/// Three writers at once: supabase-js and two devices, of which one goes offline. In the end all hold the same.
fn meet(table: &Table, mut ada: Client, devices: &Devices) {
    let name = &table.name;
    let user = ada.user().to_owned();
    let delete = |id: &str| match table.kind {
        Kind::Plain => json!({"update": {"deleted_at": "now"}, "in": name, "where": {"id": id}}),
        _ => json!({"delete": {"id": id}, "from": name}),
    };
    let seeds: Vec<_> = (0..40).map(|n| json!({"title": format!("seed {n}"), "stars": n})).collect();
    let seeds = ada.done(&json!({"insert": seeds, "into": name}));
    let ids: Vec<&str> =
        seeds.as_array().expect("rows").iter().map(|row| row["id"].as_str().expect("text")).collect();

    let (phone, laptop) = (devices.path("phone.sqlite"), devices.path("laptop.sqlite"));
    for device in [&phone, &laptop] {
        devices.begin(device, table);
        assert_eq!(rows(device, name), table.rows(&user));
    }

    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..60 {
                let id = ids[n % ids.len()];
                match n % 3 {
                    0 => ada.done(&json!({"insert": {"title": format!("web {n}")}, "into": name})),
                    1 => ada.done(&json!({"update": {"title": format!("web {n}"), "done": true}, "in": name, "where": {"id": id}})),
                    _ => ada.done(&delete(id)),
                };
            }
        });
        for (device, word) in [(&phone, "phone"), (&laptop, "laptop")] {
            let (ids, user) = (&ids, &user);
            scope.spawn(move || {
                for n in 0..15_usize {
                    let id = ids[(n * 7 + word.len()) % ids.len()];
                    sql(device, &format!("UPDATE {name} SET stars = {n} WHERE id = '{id}'"));
                    let new = format!("{:08x}-0000-4000-8000-{:012x}", n, word.len());
                    sql(device, &format!("INSERT INTO {name} (id, user_id, title, done) VALUES ('{new}', '{user}', '{word} {n}', 0)"));
                    if n % 5 == 4 {
                        sql(device, &format!("DELETE FROM {name} WHERE id = '{id}'"));
                    }
                    // The laptop is offline until the end.
                    if word == "phone" {
                        devices.sync(device);
                    }
                }
            });
        }
    });

    // What one gives up, the other may take up: until nothing moves.
    for _ in 0..2 {
        devices.sync(&laptop);
        devices.sync(&phone);
    }
    let expected = table.rows(&user);
    assert!(
        expected.iter().any(|row| row.contains("web")) && expected.iter().any(|row| row.contains("laptop"))
    );
    assert_eq!(rows(&phone, name), expected);
    assert_eq!(rows(&laptop, name), expected);
    let status = devices.run("status", &laptop, &["--json"]).ok().json();
    assert_eq!((&status["pending"], &status["dead_letters"]), (&json!(0), &json!(0)), "{status}");
}
