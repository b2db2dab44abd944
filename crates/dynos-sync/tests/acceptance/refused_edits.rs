//! What cannot be taken is refused by name, before anything is stored or queued.

use dynos_sync::{SyncError, json};

use crate::stack::{Stack, TABLE, object};

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
