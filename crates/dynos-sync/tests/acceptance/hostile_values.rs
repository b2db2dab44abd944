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

pub(crate) async fn pair(stack: &Stack, schema: &str) -> (Device, Device) {
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
