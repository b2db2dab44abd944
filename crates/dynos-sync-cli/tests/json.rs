//! Every command's `--json`: one document, with the fields that are documented.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use serde_json::Value;
use support::{World, sql};

#[track_caller]
fn fields(document: &Value, expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let found: Vec<&String> = document.as_object().expect("an object").keys().collect();
    assert_eq!(found, expected);
}

#[test]
fn documents_have_stable_names() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a')");

    let tracked = world.on(&["track", "--all", "--json"], &one, &[]).ok().json();
    fields(&tracked, &["database", "tables", "remembered"]);
    fields(&tracked["tables"][0], &["table", "status", "reason"]);

    let queue = world.on(&["queue", "--json"], &one, &[]).ok().json();
    fields(&queue, &["database", "pending", "entries"]);
    let entry = [
        "counter",
        "table",
        "id",
        "operation",
        "fields",
        "at",
        "sent",
        "attempts",
        "retry_at",
        "transaction",
    ];
    fields(&queue["entries"][0], &entry);
    assert_eq!(queue["entries"][0]["operation"], "upsert");

    let synced = world.sync(&one).ok().json();
    let report = ["database", "complete", "total", "tables", "pending", "dead_letters", "quarantined"];
    fields(&synced, &report);
    let counts = ["pushed", "pulled", "conflicts", "rejected", "dead_letters"];
    fields(&synced["total"], &counts);
    fields(&synced["tables"]["t"], &counts);
    assert_eq!(synced["tables"]["t"]["pushed"], 1);
    assert_eq!(synced["complete"], true);

    let status = world.on(&["status", "--json"], &one, &[]).ok().json();
    fields(
        &status,
        &[
            "database",
            "replica",
            "server",
            "remote",
            "token_remembered",
            "pending",
            "dead_letters",
            "conflicts",
            "quarantined",
            "quarantine",
            "tables",
        ],
    );
    fields(
        &status["tables"][0],
        &[
            "table",
            "kind",
            "phase",
            "pull",
            "declared",
            "cursor",
            "synced_at",
            "sensitive_fields",
            "owner_columns",
            "user",
        ],
    );
    assert_eq!(status["tables"][0]["phase"], "following");

    let other = world.path("other.sqlite");
    let cloned = world.on(&["clone", "--json"], &other, &[]).ok().json();
    fields(&cloned, &report);
    assert_eq!(cloned["total"]["pulled"], 1);

    fields(&world.on(&["dead-letters", "--json"], &one, &["list"]).ok().json(), &["dead_letters"]);
    fields(&world.on(&["conflicts", "--json"], &one, &["list"]).ok().json(), &["conflicts"]);
    let untracked = world.on(&["untrack", "--all", "--json"], &one, &[]).ok().json();
    fields(&untracked, &["database", "untracked", "forgotten"]);
}

#[test]
fn people_get_text() {
    let world = World::new();
    let one = world.path("one.sqlite");
    sql(&one, "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a')");
    assert!(world.on(&["track", "--all"], &one, &[]).ok().out.starts_with("TABLE  STATUS"));
    assert!(world.on(&["queue"], &one, &[]).ok().out.contains("t/1"));
    assert!(world.on(&["sync"], &one, &[]).ok().out.contains("PUSHED"));
    assert_eq!(world.on(&["sync"], &one, &[]).ok().out, "everything is up to date\n");
    assert_eq!(world.on(&["queue"], &one, &[]).ok().out, "nothing waits\n");
    assert!(world.on(&["status"], &one, &[]).ok().out.contains("pending       0"));
    assert!(world.on(&["dead-letters"], &one, &["list"]).ok().out.contains("no dead letters"));
    assert!(world.on(&["conflicts"], &one, &["list"]).ok().out.contains("no conflicts"));
    assert!(world.on(&["untrack"], &one, &["t"]).ok().out.contains("no longer synced"));
}

#[test]
fn a_measurement_has_both_sides_and_their_ratio() {
    let arguments = "bench --json --rows 300 --runs 1 w1 w64 wb wc p d di q c".split(' ');
    let measured = support::run(arguments).ok().json();
    fields(&measured, &["shape", "runs", "cores", "workloads"]);
    let workloads = measured["workloads"].as_array().unwrap();
    assert_eq!(workloads.len(), 9);
    for workload in workloads {
        fields(workload, &["workload", "title", "limit_title", "rows", "ratio", "limit", "ours"]);
        let sides = [&workload["limit"], &workload["ours"]];
        assert!(sides.iter().all(|side| side[0]["seconds"].as_f64().unwrap() > 0.0), "{workload}");
        assert!(workload["ratio"].as_f64().unwrap() > 0.0, "{workload}");
    }
}
