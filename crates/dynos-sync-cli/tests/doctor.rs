//! `dynos doctor`, as people call it: it says why, it changes nothing, and what it writes for support says nothing of the user's.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use support::{Ran, World, run, sql};

const ONE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 'a', 'b')";

/// Without a server, and without knowing of one.
fn doctor(database: &Path, more: &[&str]) -> Ran {
    let database = database.to_str().unwrap();
    run([&["doctor", "--json", database], more].concat())
}

#[track_caller]
fn record(database: &Path, id: &str, code: i32, conclusion: &str) -> Value {
    let ran = doctor(database, &["t", id]).code(code);
    let document = ran.json();
    assert_eq!(document["conclusion"], conclusion, "{document:#}");
    assert_eq!(document["synced"], code == 0, "{document:#}");
    assert!(!document["sentence"].as_str().unwrap().is_empty());
    if code != 0 {
        assert!(ran.error()["hint"].is_string(), "{ran:?}");
    }
    document
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).filter(|e| e.path().is_file());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn a_record_is_explained_from_its_first_edit_to_its_last_answer() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    let synced = record(&one, "1", 0, "synced");
    assert_eq!((&synced["pending"], &synced["row"]["state"]), (&json!([]), &json!("same")));
    assert!(synced["tracked"]["synced_at"].is_string());

    sql(&one, "UPDATE t SET x = 'later' WHERE id = 1");
    let noted = record(&one, "1", 3, "noted");
    assert_eq!((&noted["noted"]["changes"], &noted["row"]["state"]), (&json!(1), &json!("touched")));
    let before = files(world.dir.path());
    world.on(&["queue"], &one, &[]).ok();
    let waiting = record(&one, "1", 3, "waiting");
    assert_eq!(waiting["row"], json!({"state": "changed", "fields": ["x"]}));
    assert_eq!(waiting["pending"][0]["fields"], json!(["x"]), "names, and no values");
    assert_eq!(
        (&waiting["pending"][0]["sent"], &waiting["command"]),
        (&json!(false), &json!(format!("dynos sync {}", one.display())))
    );
    assert!(before != files(world.dir.path()), "the other command has collected the change");

    let closed = ["--remote", "http://127.0.0.1:9", "--retries", "0"];
    world.on(&["sync", "--json"], &one, &closed).failed(3, "unreachable");
    record(&one, "1", 3, "waiting");
    world.sync(&one).ok();
    record(&one, "1", 0, "synced");

    sql(&one, "UPDATE t SET x = printf('%.*c', 1100000, 'x') WHERE id = 1");
    world.sync(&one).code(3);
    let refused = record(&one, "1", 3, "refused");
    assert!(refused["next_attempt"].is_string() && refused["pending"][0]["attempts"] == 1, "{refused:#}");
    assert!(refused["sentence"].as_str().unwrap().contains("refused once; next attempt in"), "{refused:#}");
    assert_eq!(refused["pending"][0]["sent"], false);

    record(&one, "7", 1, "absent");
    record(&one, "no number", 1, "absent");
    doctor(&one, &["u", "1"]).failed(1, "not_tracked");
    doctor(&one, &["t"]).failed(2, "usage");
    doctor(&one, &["t", "1", "--bundle", "x"]).failed(2, "usage");
}

#[test]
fn what_was_refused_for_good_and_what_is_kept_aside_is_explained() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, user_id, x)");
    world.on(&["track", "--all", "--user", "ada"], &one, &[]).ok();
    sql(&one, "INSERT INTO t VALUES (1, 'eve', 'hers'), (2, 'ada', 'a')");
    world.sync(&one).code(3);
    let letter = record(&one, "1", 3, "dead_letter");
    assert_eq!(letter["dead_letters"][0]["code"], "forbidden");
    assert!(letter["last_answer"]["error"].as_str().unwrap().starts_with("forbidden: "), "{letter:#}");
    assert!(letter["command"].as_str().unwrap().contains("dead-letters"), "{letter:#}");
    world.on(&["dead-letters"], &one, &["discard", &letter["dead_letters"][0]["id"].to_string()]).ok();
    record(&one, "1", 3, "foreign");

    let strict = world.path("strict.sqlite");
    sql(&strict, "CREATE TABLE t (id INTEGER PRIMARY KEY, user_id, x CHECK (x <> 'a'))");
    world.on(&["track", "--all"], &strict, &[]).ok();
    world.sync(&strict).code(3);
    let aside = record(&strict, "2", 3, "quarantined");
    assert!(aside["quarantine"].as_str().unwrap().contains("CHECK"), "{aside:#}");
}

#[track_caller]
fn fields(document: &Value, expected: &str) {
    let mut expected: Vec<&str> = expected.split_whitespace().collect();
    expected.sort_unstable();
    let found: Vec<&String> = document.as_object().expect("an object").keys().collect();
    assert_eq!(found, expected);
}

#[test]
fn documents_have_the_names_that_the_help_lists() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    sql(&one, "UPDATE t SET x = 'later' WHERE id = 1; DROP TRIGGER dynos_1_delete");
    let whole = doctor(&one, &[]).ok().json();
    fields(&whole, "database sound findings pending dead_letters conflicts quarantined tables storage");
    fields(&whole["findings"][0], "level check table problem remedy");
    fields(&whole["tables"][0], "table rows queued sent refused waiting noted dead_letters quarantined");
    let noted = record(&one, "1", 3, "noted");
    let all = "database table id conclusion synced sentence remedy command row tracked pending noted last_answer next_attempt \
               dead_letters conflicts quarantine";
    fields(&noted, all);
    fields(&noted["row"], "state fields");
    fields(&noted["noted"], "changes at");
    fields(&noted["tracked"], "phase pull declared synced_at sensitive_fields owner_columns user");
    world.on(&["queue"], &one, &[]).ok();
    let waiting = record(&one, "1", 3, "waiting");
    fields(&waiting["pending"][0], "counter operation fields at sent base attempts retry_at transaction");
    assert_eq!(
        doctor(&one, &["other", "1"]).code(1).json()["command"],
        format!("dynos track {} other", one.display())
    );
}

#[test]
fn looking_changes_no_file_and_makes_none() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    sql(&one, "INSERT INTO t VALUES (2, 'pending', '')");
    let before = files(world.dir.path());
    for more in [&[][..], &["--quick"], &["t", "1"], &["t", "2"], &["u", "1"]] {
        doctor(&one, more);
    }
    assert!(files(world.dir.path()) == before);
    let lonely = world.path("plain.sqlite");
    sql(&lonely, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    assert_eq!(doctor(&lonely, &[]).ok().json()["findings"][0]["check"], "version");
    doctor(&lonely, &["t", "1"]).failed(1, "not_tracked");
    doctor(&world.path("none.sqlite"), &[]).failed(1, "not_found");
}

#[test]
fn a_sound_database_is_sound_while_others_use_it() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    let db = support::open(&one);
    db.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2, 'not committed', '')").unwrap();
    let document = doctor(&one, &[]).ok().json();
    assert_eq!(
        (&document["sound"], &document["findings"], &document["pending"]),
        (&json!(true), &json!([]), &json!(0))
    );
    assert_eq!(document["tables"][0]["rows"], 1);
    assert_eq!(doctor(&one, &["--quick"]).ok().json()["tables"][0]["rows"], Value::Null);
    db.execute_batch("COMMIT").unwrap();
    let document = doctor(&one, &[]).ok().json();
    assert_eq!((&document["pending"], &document["tables"][0]["noted"]), (&json!(1), &json!(1)));
    let text = run(["doctor".as_ref(), one.as_os_str()]).ok().out;
    assert!(text.starts_with("nothing is wrong with the database\n") && text.contains("TABLE"), "{text}");
    let text = run(["doctor".as_ref(), one.as_os_str(), "t".as_ref(), "2".as_ref()]).code(3);
    assert!(text.out.starts_with("t/2: changed once by another program since the last sync\n"), "{text:?}");
}

#[test]
fn damage_is_a_finding_with_a_remedy() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    sql(&one, "INSERT INTO t VALUES (2, 'pending', '')");
    world.on(&["queue"], &one, &[]).ok();
    sql(&one, "UPDATE dynos_queue SET at = at + 1");
    let ran = doctor(&one, &[]).failed(1, "damaged");
    let document = ran.json();
    assert_eq!((&document["sound"], &document["findings"][0]["level"]), (&json!(false), &json!("fault")));
    assert_eq!(document["findings"][0]["check"], "queue");
    record(&one, "2", 1, "damaged");

    let torn = world.path("torn.sqlite");
    let mut bytes = fs::read(&one).unwrap();
    bytes[4096..8192].fill(0x5a);
    fs::write(&torn, &bytes).unwrap();
    let document = doctor(&torn, &[]).failed(1, "damaged").json();
    assert!(
        document["findings"].as_array().unwrap().iter().any(|found| found["level"] == "fault"),
        "{document:#}"
    );
    let report = world.path("torn.json");
    doctor(&torn, &["--bundle", report.to_str().unwrap()]).ok();

    let garbage = world.path("garbage.sqlite");
    fs::write(&garbage, [0x5a; 8192]).unwrap();
    doctor(&garbage, &[]).failed(1, "damaged");
}

#[test]
fn a_bundle_for_support_gives_nothing_away() {
    let world = World::new();
    let dir = world.path("canary-dir");
    fs::create_dir(&dir).unwrap();
    let one = dir.join("canary.sqlite");
    sql(
        &one,
        "CREATE TABLE canary_parent (id TEXT PRIMARY KEY, user_id, canary_column CANARYTEXT DEFAULT 'canary' CHECK (canary_column <> 'canary bad'));
         CREATE TABLE canary_child (id TEXT PRIMARY KEY, p REFERENCES canary_parent);
         INSERT INTO canary_parent VALUES ('canary-synced', 'canary@example.com', 'canary value')",
    );
    let track = ["--all", "--user", "canary@example.com", "--sensitive", "canary_secret", "--remember"];
    world.on(&["track"], &one, &track).ok();
    world.sync(&one).ok();
    sql(
        &one,
        "INSERT INTO canary_parent VALUES ('canary-foreign', 'somebody@canary.example', 'x');
         INSERT INTO canary_parent VALUES ('canary-large', NULL, printf('%.*c', 1100000, 'canary'));
         INSERT INTO canary_parent VALUES ('canary-pending', NULL, 'canary pending')",
    );
    world.sync(&one).code(3);
    sql(
        &one,
        "PRAGMA foreign_keys = 0; INSERT INTO canary_child VALUES ('canary-orphan', 'canary-nobody'); DROP TRIGGER dynos_1_insert",
    );
    sql(
        &one,
        "INSERT INTO dynos_quarantine SELECT n, 'canary-q', '{\"canary\": 1}', 'the table refuses canary_parent/canary-q: CHECK constraint failed: canary_column' FROM dynos_table WHERE n = 1",
    );

    let file = world.path("report.json");
    let name = file.to_str().unwrap();
    assert_eq!(doctor(&one, &["--bundle", name]).ok().json()["written"], name);
    let text = fs::read_to_string(&file).unwrap();
    let state = world.on(&["status", "--json"], &one, &[]).ok().json();
    for secret in [
        "canary",
        "127.0.0.1",
        &world.token,
        state["replica"].as_str().unwrap(),
        state["server"].as_str().unwrap(),
    ] {
        assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{secret}: {text}");
    }
    let bundle: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(bundle["replica"]["dead_letters"], 1, "{text}");
    let t = ["t1", "t2"].map(|table| &bundle["tables"][table]["holds"]);
    let sum = |field: &str| t.iter().filter_map(|held| held[field].as_u64()).sum::<u64>();
    assert_eq!((sum("refused"), sum("rows")), (1, 5), "{text}");
    let checks: Vec<&str> =
        bundle["findings"].as_array().unwrap().iter().filter_map(|found| found["check"].as_str()).collect();
    for check in ["tables", "foreign_keys", "dead_letters", "quarantine"] {
        assert!(checks.contains(&check), "{check}: {text}");
    }
    assert!(
        text.contains("check constraint failed") && text.contains("that refer to rows that are not here"),
        "{text}"
    );
    assert!(bundle["program"]["dynos_sync"].is_string(), "{text}");
    #[cfg(unix)]
    assert_eq!(support::mode(&file), 0o600);
    doctor(&one, &["--bundle", name]).failed(5, "exists");
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "it is left as it is");

    let named = world.path("named.json");
    doctor(&one, &["--bundle", named.to_str().unwrap(), "--names"]).ok();
    let text = fs::read_to_string(named).unwrap();
    assert!(text.contains("canary_parent") && text.contains("canary_column"), "{text}");
    let without = ["canary_parent", "canary_child", "canary_column"]
        .iter()
        .fold(text, |text, name| text.replace(name, ""));
    assert!(!without.to_lowercase().contains("canary"), "{without}");
}

#[test]
fn what_belongs_together_is_shown_together() {
    let world = World::new();
    let one = world.tracked("one.sqlite", ONE);
    sql(
        &one,
        "BEGIN; INSERT INTO dynos_transaction VALUES ('begin'); UPDATE t SET x = 'b' WHERE id = 1;
         INSERT INTO t VALUES (2, 'a', 'b'); INSERT INTO dynos_transaction VALUES ('end'); COMMIT;
         INSERT INTO t VALUES (3, 'a', 'b')",
    );
    let queue = world.on(&["queue", "--json"], &one, &[]).ok().json();
    let transactions: Vec<&Value> =
        queue["entries"].as_array().unwrap().iter().map(|entry| &entry["transaction"]).collect();
    let [Value::Number(first), Value::Number(second), Value::Null] = transactions[..] else {
        panic!("{queue:#}")
    };
    assert_eq!(first, second);
    let shown = world.on(&["queue"], &one, &[]).ok().out;
    assert_eq!(shown.lines().filter(|line| line.contains(&format!(" {first} "))).count(), 2, "{shown}");
    assert_eq!(record(&one, "2", 3, "waiting")["pending"][0]["transaction"], json!(first));
}
