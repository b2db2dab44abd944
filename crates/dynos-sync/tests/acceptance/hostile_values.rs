//! Whatever a value, a name or an id looks like: it arrives as it was, or is refused by name. It is never altered.

use dynos_sync::{
    SyncError,
    core::{RecordKey, Value},
    json,
};
use proptest::prelude::*;

use crate::stack::{Device, Stack, TABLE, object, within};

/// Names and texts that have hurt somebody before.
fn nasty() -> Vec<String> {
    let mut texts: Vec<String> = [
        "'; DROP TABLE notes; --",
        "\"",
        "`",
        "\\",
        "\0",
        "a\0b",
        "../../etc/passwd",
        "..",
        "/",
        "%2e%2e%2f",
        "😀",
        "\u{202e}rtl\u{202c}",
        "\u{feff}bom",
        "__proto__",
        "constructor",
        "$blob",
        "$text",
        "$real",
        "null",
        "true",
        "0",
        "-0",
        "1e999",
        "NaN",
        "\r\nX-Injected: 1",
        "\u{7f}\u{1}\u{1b}[31m",
        "e\u{301}",
        "é",
        "\u{d7ff}\u{e000}\u{ffff}\u{10ffff}",
        " ",
        "  leading",
        "trailing ",
        "{}",
        "[1,2]",
        "\u{2028}",
        "${jndi:ldap://x}",
        "<script>alert(1)</script>",
        "=cmd|' /C calc'!A0",
        "+SUM(1)",
        "@x",
        "$gt",
        "$where",
        "data",
        "id",
    ]
    .map(str::to_owned)
    .into();
    texts.push("k".repeat(64 * 1024));
    texts
}

fn numbers() -> Value {
    json!([
        i64::MIN,
        i64::MAX,
        u64::MAX,
        9_007_199_254_740_993_u64,
        0,
        -1,
        0.0,
        -0.0,
        0.1,
        1e308,
        -1e308,
        5e-324,
        1.0,
        2.2250738585072014e-308,
        1e21,
        123456789.12345679,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::EPSILON,
    ])
}

async fn pair(stack: &Stack, schema: &str) -> (Device, Device) {
    let device = async |name| stack.device_with(name, |setup| setup.schema = schema.to_owned()).await;
    (device("one").await, device("two").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_arrive_as_they_were() {
    let stack = Stack::new().await;
    let (one, two) = pair(&stack, "").await;
    let mut documents = vec![json!({}), json!({"numbers": numbers()}), json!({"n": null, "e": {}, "l": []})];
    for text in nasty() {
        documents.push(json!({text.clone(): text.clone()}));
        documents.push(json!({"nested": {text.clone(): [text.clone(), {text.clone(): {text.clone(): 1}}]}}));
    }
    documents.push(json!({"": {"": {"": ""}}}));
    documents.push(
        json!({"$blob": "not base64!", "x": {"$blob": "AA=="}, "y": {"$real": "NaN"}, "z": {"$text": 1}}),
    );
    let mut deep = json!(1);
    for _ in 0..60 {
        deep = json!({"d": [deep]});
        if deep.to_string().matches(['[', '{']).count() > 60 {
            break;
        }
    }
    documents.push(deep);
    for (n, document) in documents.iter().enumerate() {
        one.write(&format!("d{n}"), document.clone()).await;
    }
    let records = stack.settle(&[&one, &two]).await;
    for (n, document) in documents.iter().enumerate() {
        let found = two.get(&format!("d{n}")).await.unwrap();
        assert_eq!(found.to_string(), document.to_string(), "bit for bit");
        assert_eq!(records[&format!("d{n}")].to_string(), document.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_arrive_as_they_were_or_are_refused() {
    for schema in ["", crate::stack::COLUMNS] {
        let stack = Stack::new().await;
        let (one, two) = pair(&stack, schema).await;
        let mut kept = Vec::new();
        for id in nasty() {
            match one.engine.write(TABLE, &id, object(json!({"a": "of this one"}))).await {
                Ok(()) => kept.push(id),
                Err(SyncError::Invalid(invalid)) => assert_eq!(invalid.field, "id", "{invalid}"),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(kept.len() > 35, "{}", kept.len());
        assert!(matches!(one.engine.write(TABLE, "", object(json!({}))).await, Err(SyncError::Invalid(_))));
        stack.settle(&[&one, &two]).await;
        for id in &kept {
            assert_eq!(two.get(id).await.unwrap()["a"], json!("of this one"), "{id:?}");
            two.remove(id).await;
        }
        assert!(stack.settle(&[&two, &one]).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_with_any_name_are_synced_or_refused() {
    let stack = Stack::new().await;
    let (one, two) = pair(&stack, "").await;
    for name in nasty() {
        let added = one.engine.add_table(&name, true).await;
        match added {
            Ok(_) => {
                one.engine.write(&name, "x", object(json!({"a": 1}))).await.unwrap();
                within(one.engine.sync_all()).await.unwrap();
                two.engine.add_table(&name, true).await.unwrap();
                within(two.engine.sync_all()).await.unwrap();
                assert_eq!(
                    two.engine.get(&name, "x").await.unwrap(),
                    Some(object(json!({"a": 1}))),
                    "{name:?}"
                );
            }
            Err(SyncError::Invalid(invalid)) => assert!(!invalid.field.is_empty(), "{invalid}"),
            Err(other) => panic!("{name:?}: {other:?}"),
        }
    }
    assert!(one.engine.tables().await.unwrap().len() > 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_arrive_as_they_were_or_are_refused_by_name() {
    let types = ["", "INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "BOOLEAN", "JSON"];
    let columns: Vec<String> = types.iter().map(|ty| format!("\"c{ty}\" {ty}")).collect();
    let schema = format!("CREATE TABLE notes (id TEXT PRIMARY KEY, {})", columns.join(", "));
    let stack = Stack::new().await;
    let (one, two) = pair(&stack, &schema).await;
    let mut values: Vec<Value> = numbers().as_array().unwrap().clone();
    values.extend(nasty().into_iter().map(Value::String));
    values.extend([
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([1, {"a": null}]),
        json!({"$blob": "AP8="}),
        json!({"$blob": "?"}),
        json!({"$real": "Infinity"}),
        json!({"$real": "NaN"}),
        json!({"$text": "/w=="}),
        json!({"$blob": "AA==", "other": 1}),
        json!("{\"$blob\":\"AA==\"}"),
    ]);
    let mut written = 0;
    for (n, value) in values.iter().enumerate() {
        for ty in types {
            let id = format!("{n}-{ty}");
            match one.engine.write(TABLE, &id, object(json!({format!("c{ty}"): value}))).await {
                Ok(()) => written += 1,
                Err(SyncError::Invalid(invalid)) => assert_eq!(invalid.field, format!("c{ty}"), "{invalid}"),
                Err(other) => panic!("{value} in {ty}: {other:?}"),
            }
        }
    }
    assert!(written > 400, "{written}");
    stack.settle(&[&one, &two]).await;
    // Same value, same type, in the files themselves.
    let dump = async |device: &Device| {
        device
            .replica
            .read_with(|db| {
                let sql = "SELECT id || ':' || typeof(c) || ':' || hex(c) FROM \
                    (SELECT id, coalesce(\"c\", cINTEGER, cTEXT, cREAL, cBLOB, cNUMERIC, cBOOLEAN, cJSON) AS c FROM notes) \
                    WHERE c IS NOT NULL ORDER BY 1";
                db.prepare(sql)?.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
            })
            .await
            .unwrap()
    };
    let here = dump(&one).await;
    assert!(here.len() > 400);
    assert_eq!(here, dump(&two).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_deep_or_too_large_is_refused_by_name() {
    let stack = Stack::new().await;
    let one = stack.device("one").await;
    let mut deep = json!(1);
    for _ in 0..5000 {
        deep = Value::Array(vec![deep]);
    }
    let refused = one.engine.write(TABLE, "x", object(json!({"abyss": deep}))).await.unwrap_err();
    assert!(matches!(&refused, SyncError::Invalid(invalid) if invalid.field == "abyss"), "{refused}");
    let refused = one.engine.write(TABLE, "x", object(json!({"a": "x".repeat(2 << 20)}))).await.unwrap_err();
    let key = RecordKey::new(TABLE, "x").unwrap();
    assert!(matches!(&refused, SyncError::PayloadTooLarge { key: k, .. } if *k == key), "{refused}");
    assert_eq!(one.state().await.pending, 0);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let key = prop_oneof![any::<String>(), Just("$blob".to_owned()), Just(String::new())];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Many documents at once: the journey is the same for one and for a hundred.
#[test]
fn any_document_survives_the_journey() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let documents =
        proptest::collection::vec(proptest::collection::btree_map(any::<String>(), any_json(), 0..5), 50);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 6,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let run = |documents: Vec<std::collections::BTreeMap<String, Value>>| {
        runtime.block_on(async {
            let stack = Stack::new().await;
            let (one, two) = pair(&stack, "").await;
            let documents: Vec<Value> =
                documents.into_iter().map(|map| Value::Object(map.into_iter().collect())).collect();
            for (n, document) in documents.iter().enumerate() {
                one.write(&n.to_string(), document.clone()).await;
            }
            stack.settle(&[&one, &two]).await;
            for (n, document) in documents.iter().enumerate() {
                let found = two.get(&n.to_string()).await.unwrap();
                assert_eq!(found.to_string(), document.to_string());
            }
        });
        Ok(())
    };
    runner.run(&documents, run).unwrap();
}

/// The statements that a file's tables, indexes and triggers are made of, and whether it is whole.
fn schema_of(path: &std::path::Path) -> Vec<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let mut statement = db.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
    let statements = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap);
    std::iter::once(check).chain(statements).collect()
}

/// Texts made of the pieces that break out of SQL, JSON, HTTP headers and paths.
fn pieces(n: usize) -> String {
    const PIECES: [&str; 16] = [
        "'",
        "\"",
        ";",
        "--",
        "/*",
        "*/",
        ")",
        "DROP TABLE notes",
        "\0",
        "\\",
        "`",
        "\r\n",
        "../",
        "${",
        "\u{202e}",
        "%00",
    ];
    (0..4).map(|place| PIECES[(n >> (4 * place)) % PIECES.len()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hostile_texts_are_values_and_never_anything_else() {
    for schema in ["", crate::stack::COLUMNS] {
        let stack = Stack::new().await;
        let (one, two) = pair(&stack, schema).await;
        stack.settle(&[&one, &two]).await;
        let server = stack.path("server").join("sync.db");
        let files = [one.path.clone(), two.path.clone(), server];
        let listing = || {
            let names = std::fs::read_dir(stack.path("")).unwrap().map(|file| file.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let before = (files.each_ref().map(|file| schema_of(file)), listing());
        // Written in two ways: as whole rows, and as patches of rows that are there.
        let id = |n: usize| format!("{n:x} {}", pieces(n * 7 + 1));
        let rows = |of: std::ops::Range<usize>| of.map(|n| (id(n), object(json!({"a": pieces(n * 6 + 5)}))));
        for start in (0..10_000).step_by(1000) {
            one.engine.write_many(TABLE, rows(start..start + 1000).collect()).await.unwrap();
        }
        for n in (0..10_000).step_by(50) {
            one.patch(&id(n), json!({"b": pieces(n * 3 + 2)})).await;
        }
        let records = stack.settle(&[&one, &two]).await;
        assert_eq!(records.len(), 10_000);
        for n in 0..10_000 {
            let record = &records[&id(n)];
            assert_eq!(record["a"], json!(pieces(n * 6 + 5)));
            if n % 50 == 0 {
                assert_eq!(record["b"], json!(pieces(n * 3 + 2)));
            }
        }
        assert_eq!((files.each_ref().map(|file| schema_of(file)), listing()), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn a_field_of_50_mb_is_refused_before_anything_is_stored() {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    device.write("x", json!({"a": 1})).await;
    let (before, state) = (device.bytes(), device.state().await);
    let payload = object(json!({"a": "x".repeat(50 << 20)}));
    let memory = peak();
    let refused = device.engine.write(TABLE, "x", payload).await.unwrap_err();
    assert!(matches!(refused, SyncError::PayloadTooLarge { bytes, .. } if bytes > 50 << 20), "{refused}");
    let used = peak() - memory;
    assert!(used < 10 * 1024, "{used} KiB to measure it");
    assert_eq!(device.state().await, state);
    assert!(device.bytes() == before, "the file was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_table_does_not_take_is_refused_before_anything_is_stored() {
    const STRICT: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, n INTEGER NOT NULL, t TEXT CHECK (t <> 'no'), u TEXT UNIQUE) STRICT;
                          INSERT INTO notes VALUES ('old', 1, 'a', 'taken')";
    let stack = Stack::new().await;
    let device = stack.device_with("device", |setup| setup.schema = STRICT.to_owned()).await;
    let before = (device.rows(TABLE).await, device.state().await);
    for (name, id, fields) in [
        ("null where none may be", "new", json!({"n": null})),
        ("nothing where something has to be", "new", json!({"t": "x"})),
        ("a text for a number", "new", json!({"n": "one"})),
        ("half a number", "new", json!({"n": 1.5})),
        ("an object for a number", "old", json!({"n": {"a": 1}})),
        ("a check", "old", json!({"t": "no"})),
        ("a value that is taken", "new", json!({"n": 2, "u": "taken"})),
        ("a column that is none", "new", json!({"n": 1, "none": 1})),
    ] {
        let refused = device.engine.write(TABLE, id, object(fields)).await.unwrap_err();
        let typed = matches!(
            &refused,
            SyncError::Invalid(_) | SyncError::Replica(dynos_sync::core::ReplicaError::Constraint { .. })
        );
        assert!(typed && !refused.is_transient(), "{name}: {refused:?}");
        assert_eq!((device.rows(TABLE).await, device.state().await), before, "{name}");
    }
    let refused = device.engine.patch(TABLE, "none", object(json!({"n": 1}))).await.unwrap_err();
    assert!(
        matches!(refused, SyncError::Replica(dynos_sync::core::ReplicaError::NotFound(_))),
        "{refused:?}"
    );
    assert_eq!((device.rows(TABLE).await, device.state().await), before);
}
