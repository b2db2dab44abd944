//! A table is made from what another device or a server declares: nothing in that is SQL.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Replica, ReplicaError, Value, json,
    replica::{TableOptions, TableState},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use tempfile::TempDir;

fn replica() -> (TempDir, SqliteReplica) {
    let dir = tempfile::tempdir().unwrap();
    let replica = SqliteReplica::open(dir.path().join("app"), &SqliteOptions::default()).unwrap();
    let made = "CREATE TABLE precious (x); INSERT INTO precious VALUES (1)";
    block_on(replica.write_with(move |db| db.execute_batch(made))).unwrap();
    (dir, replica)
}

/// The declaration of a table with one more column than its key, and what else is said.
fn declared(column: &Value, more: &Value) -> TableOptions {
    let mut shape =
        json!({"kind": "columns", "columns": [{"name": "id", "type": "TEXT"}, column], "key": ["id"]});
    shape.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let spec = serde_json::from_value(json!({"name": "t", "shape": shape})).unwrap();
    TableOptions { create: Some(spec), ..TableOptions::new("t".parse().unwrap()) }
}

/// All statements of the schema, and what is precious.
fn standing(replica: &SqliteReplica) -> (Vec<String>, i64) {
    let read = |db: &rusqlite::Connection| {
        let mut schema = db.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")?;
        let schema = schema.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok((schema, db.query_row("SELECT count(*) FROM precious", [], |row| row.get(0))?))
    };
    block_on(replica.read_with(read)).unwrap()
}

/// What would act as SQL if it were taken as it is.
const ATTACKS: [&str; 14] = [
    "TEXT); DROP TABLE precious; --",
    "TEXT) AS SELECT * FROM precious --",
    "TEXT DEFAULT (load_extension('x'))",
    "TEXT CHECK (1)",
    "TEXT GENERATED ALWAYS AS (x'00')",
    "TEXT REFERENCES precious",
    "(SELECT x FROM precious)",
    "(random())",
    "'a' || (SELECT 1)",
    "'a'); DROP TABLE precious; --'",
    "x'00'); DROP TABLE precious; --",
    "\"x\"",
    "1; DROP TABLE precious",
    "TEXT -- \n, y",
];

#[test]
fn what_would_act_as_sql_is_refused_and_nothing_is_made() {
    let (_dir, replica) = replica();
    let before = standing(&replica);
    for attack in ATTACKS {
        let column = |part: &str| {
            let mut column = json!({"name": "a", "type": "TEXT"});
            column[part] = attack.into();
            column
        };
        let foreign = |part: &str| {
            let mut foreign = json!({"columns": ["a"], "parent": "t", "parent_columns": ["id"],
                                     "on_delete": "CASCADE", "on_update": "CASCADE"});
            foreign[part] = attack.into();
            json!({"foreign_keys": [foreign]})
        };
        let plain = json!({"name": "a", "type": "TEXT"});
        for (what, options) in [
            ("type", declared(&column("type"), &json!({}))),
            ("default", declared(&column("default"), &json!({}))),
            ("collation", declared(&column("collation"), &json!({}))),
            ("on delete", declared(&plain, &foreign("on_delete"))),
            ("on update", declared(&plain, &foreign("on_update"))),
        ] {
            let refused = block_on(replica.add_table(options)).unwrap_err();
            assert!(matches!(refused, ReplicaError::Invalid(_)), "{what} {attack}: {refused:?}");
            assert_eq!(standing(&replica), before, "{what} {attack}");
        }
    }
}

#[test]
fn a_name_is_a_name_whatever_it_looks_like() {
    for attack in ATTACKS {
        let (_dir, replica) = replica();
        let index = json!({"indexes": [{"name": attack, "unique": false, "columns": [attack]}]});
        let options = declared(&json!({"name": attack, "type": "TEXT"}), &index);
        assert!(block_on(replica.add_table(options)).unwrap());
        let state = block_on(replica.state()).unwrap();
        let names =
            |table: &TableState| table.spec.field_names().unwrap().iter().map(ToString::to_string).collect();
        let names: Vec<Vec<String>> = state.tables.iter().map(names).collect();
        assert_eq!(names, [[attack]]);
        assert_eq!(standing(&replica).1, 1, "{attack}");
    }
}
