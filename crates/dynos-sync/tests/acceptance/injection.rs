//! Texts that break out of SQL, JSON, headers and paths elsewhere.

use dynos_sync::json;

use crate::{
    hostile_values::pair,
    stack::{Stack, TABLE, object},
};

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
