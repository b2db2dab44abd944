//! Two users who do not trust each other: nothing foreign is read, written or revealed, whichever way is tried.

use dynos_sync_core::{Value, json};
use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::StatusCode;

use crate::{
    caller::{Caller, statuses},
    database::Database,
    support,
};

const SCHEMA: &str = "
    CREATE TABLE diary (id text PRIMARY KEY, user_id text NOT NULL, page text, stars int DEFAULT 0);
    ALTER TABLE diary ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON diary USING (user_id = dynos.subject()) WITH CHECK (user_id = dynos.subject());
    GRANT SELECT, DELETE ON diary TO authenticated;
    GRANT INSERT (id, user_id, page), UPDATE (page) ON diary TO authenticated;
    -- No row-level security: the owner column alone keeps users apart.
    CREATE TABLE plain (id text PRIMARY KEY, user_id text NOT NULL, page text);
    GRANT ALL ON plain TO authenticated;
    CREATE TABLE board (id text PRIMARY KEY, audience text, page text);
    ALTER TABLE board ENABLE ROW LEVEL SECURITY;
    CREATE POLICY addressed ON board USING (audience = dynos.subject());
    GRANT ALL ON board TO authenticated;
    SELECT dynos_track('diary', 'user_id'), dynos_track('plain', 'user_id'), dynos_track('board', shared => true)";

const CANARY: &str = "canary-of-ada";

async fn ada_and_bob() -> (Database, Caller, Caller) {
    let database = Database::installed().await;
    database.sql(SCHEMA).await;
    let (ada, bob) = (Caller::new(&database, "ada", 1).await, Caller::new(&database, "bob", 1).await);
    ada.call("declare", &json!({"tables": [{"name": "notes", "shape": {"kind": "document"}}]}))
        .await
        .unwrap();
    let entries = ["diary", "plain", "notes"].into_iter().zip(1..).map(|(table, counter)| {
        let fields = json!({"page": CANARY});
        Caller::entry(counter, table, CANARY, "upsert", fields)
    });
    let results = ada.push(entries.collect()).await;
    assert_eq!(statuses(&results), ["applied"; 3], "{results:?}");
    database.sql(&format!("INSERT INTO board VALUES ('{CANARY}', 'ada', '{CANARY}')")).await;
    (database, ada, bob)
}

fn assert_silent(answer: &Value, what: &str) {
    assert!(!answer.to_string().contains(CANARY), "{what}: {answer}");
}

#[tokio::test]
async fn nothing_foreign_is_read() {
    let (_database, ada, bob) = ada_and_bob().await;
    bob.call("declare", &json!({"tables": [{"name": "notes", "shape": {"kind": "document"}}]}))
        .await
        .unwrap();
    assert_silent(&bob.call("tables", &json!(null)).await.unwrap(), "tables");
    for table in ["diary", "plain", "notes", "board"] {
        let page = bob.page(table, &Value::Null, 10).await;
        assert_eq!(page["changes"], json!([]), "{table}");
        assert_silent(&page, table);
        // A cursor of hers is one of a history that is not his, or of one in which nothing is for him.
        let stolen = json!({"replica": bob.replica, "table": table, "cursor": ada.head(table).await});
        match bob.call("pull", &stolen).await {
            Ok(page) => assert_eq!(page["changes"], json!([]), "{table}"),
            Err(error) => assert_eq!(error.code().unwrap().code(), "PT410", "{table}"),
        }
        let asking = json!({"replica": ada.replica, "table": table, "unsettled": [1, 2, 3]});
        let page = bob.call("pull", &asking).await.unwrap();
        assert_eq!(
            (&page["settled"], &page["changes"]),
            (&json!([]), &json!([])),
            "{table}: another's replica"
        );
    }
    let heads = bob.call("heads", &json!({"replica": ada.replica, "tables": []})).await.unwrap();
    assert_eq!(heads["last_counter"], 0, "another's counters");
    assert_eq!(ada.records("diary").await[CANARY]["page"], CANARY);
    assert_eq!(ada.records("board").await[CANARY]["page"], CANARY);
}

#[tokio::test]
async fn nothing_foreign_is_written() {
    let (database, ada, bob) = ada_and_bob().await;
    bob.call("declare", &json!({"tables": [{"name": "notes", "shape": {"kind": "document"}}]}))
        .await
        .unwrap();
    let mut counter = 0;
    for table in ["diary", "plain", "board"] {
        let base = ada.head(table).await;
        for (op, data) in [
            ("upsert", json!({"page": "overwritten"})),
            ("replace", json!({"page": "overwritten"})),
            ("patch", json!({"page": "overwritten"})),
            ("upsert", json!({"page": "taken", "user_id": "bob"})),
            ("delete", Value::Null),
        ] {
            counter += 1;
            let mut guessed = Caller::entry(counter, table, CANARY, op, data.clone());
            let results = bob.push(json!([guessed.clone()])).await;
            assert_silent(&json!(results[0]["current"]), table);
            counter += 1;
            guessed["counter"] = counter.into();
            guessed["base"] = base.clone();
            bob.push(json!([guessed])).await;
        }
    }
    for table in ["diary", "plain", "notes"] {
        assert_eq!(ada.records(table).await[CANARY]["page"], CANARY, "{table}");
    }
    assert_eq!(ada.records("board").await[CANARY]["page"], CANARY);
    // Rows in somebody else's name.
    for (table, op) in [("diary", "upsert"), ("plain", "upsert"), ("plain", "replace")] {
        counter += 1;
        let forged = Caller::entry(
            counter,
            table,
            &format!("forged {counter}"),
            op,
            json!({"page": "x", "user_id": "ada"}),
        );
        let results = bob.push(json!([forged])).await;
        assert_eq!(statuses(&results), ["forbidden"], "{table} {op}: {results:?}");
    }
    counter += 1;
    let own = Caller::entry(counter, "plain", "bob's", "upsert", json!({"page": "x"}));
    assert_eq!(statuses(&bob.push(json!([own])).await), ["applied"]);
    counter += 1;
    let given_away = Caller::entry(counter, "plain", "bob's", "patch", json!({"user_id": "ada"}));
    assert_eq!(statuses(&bob.push(json!([given_away])).await), ["forbidden"]);
    assert_eq!(database.number("SELECT count(*) FROM plain WHERE user_id = 'ada'").await, 1);
    assert_eq!(database.number("SELECT count(*) FROM diary WHERE user_id <> 'ada'").await, 0);
}

#[tokio::test]
async fn counters_of_another_users_replica_mean_nothing() {
    let (_database, ada, bob) = ada_and_bob().await;
    // The same replica id, the same counters, the very same content.
    assert_eq!(ada.replica, bob.replica);
    let replayed = Caller::entry(1, "diary", "bob's own", "upsert", json!({"page": "mine"}));
    assert_eq!(statuses(&bob.push(json!([replayed])).await), ["applied"], "no duplicate, no fork");
    let next = Caller::entry(4, "diary", "next", "upsert", json!({"page": "hers"}));
    assert_eq!(statuses(&ada.push(json!([next])).await), ["applied"]);
}

#[tokio::test]
async fn protected_columns_are_written_by_nobody_who_may_not() {
    let (_database, ada, _bob) = ada_and_bob().await;
    let entry = |counter: u64, id: &str, op: &str, data: Value| Caller::entry(counter, "diary", id, op, data);
    // A device sends whole rows: what it may not write passes as long as nothing is to change there.
    let results = ada
        .push(json!([
            entry(10, "new", "upsert", json!({"page": "a", "stars": null})),
            entry(11, CANARY, "upsert", json!({"page": "b", "stars": 0})),
            entry(12, "starred", "upsert", json!({"page": "a", "stars": 5})),
            entry(13, CANARY, "patch", json!({"stars": 5})),
        ]))
        .await;
    let expected = ["applied", "forbidden", "forbidden"];
    assert_eq!(statuses(&results[..1]), ["applied"], "{results:?}");
    assert_eq!(statuses(&results[1..]), expected, "{results:?}");
    let records = ada.records("diary").await;
    assert_eq!(records[CANARY], json!({"user_id": "ada", "page": "b", "stars": 0}));
    assert_eq!(records.get("starred"), None);
}

#[tokio::test]
async fn an_owner_in_the_key_is_the_caller() {
    let database = Database::installed().await;
    database
        .sql(
            "CREATE TABLE entry (user_id text, day int, page text, PRIMARY KEY (user_id, day));
                  GRANT ALL ON entry TO authenticated; SELECT dynos_track('entry', 'user_id')",
        )
        .await;
    let (ada, bob) = (Caller::new(&database, "ada", 1).await, Caller::new(&database, "bob", 1).await);
    let entry = |counter, id, page| Caller::entry(counter, "entry", id, "upsert", json!({"page": page}));
    let results =
        ada.push(json!([entry(1, r#"["ada",1]"#, "mine"), entry(2, r#"["bob",1]"#, "forged")])).await;
    assert_eq!(statuses(&results), ["applied", "forbidden"], "{results:?}");
    assert_eq!(ada.records("entry").await, json!({r#"["ada",1]"#: {"page": "mine"}}));
    assert_eq!(bob.records("entry").await, json!({}));
}

#[tokio::test]
async fn the_books_are_out_of_reach() {
    let (database, _ada, bob) = ada_and_bob().await;
    let denied = |code: &str| code == "42501" || code.starts_with("PT");
    let tables = "SELECT string_agg(relname, ',') FROM pg_class WHERE relnamespace = 'dynos'::regnamespace AND relkind = 'r'";
    let tables: String = database.client().await.query_one(tables, &[]).await.unwrap().get(0);
    assert!(tables.split(',').count() > 10, "{tables}");
    for table in tables.split(',') {
        for sql in [
            format!("SELECT * FROM dynos.{table}"),
            format!("INSERT INTO dynos.{table} DEFAULT VALUES"),
            format!("DELETE FROM dynos.{table}"),
        ] {
            let code = bob.refused(&sql).await;
            assert!(denied(code.code()), "{sql}: {code:?}");
        }
    }
    for sql in [
        "SELECT dynos_track('plain', 'user_id')",
        "SELECT dynos_untrack('diary')",
        "SELECT dynos_share('notes')",
        "SELECT dynos_purge(0, 0)",
        "SELECT dynos_restored()",
        "SELECT dynos_grant('anon')",
        "SELECT dynos.call('ada', NULL, 'tables', NULL)",
        "SELECT dynos.number('{}')",
        "SELECT dynos.reconcile('diary', true)",
        "SELECT dynos.watch('diary')",
    ] {
        let code = bob.refused(sql).await;
        assert!(denied(code.code()), "{sql}: {code:?}");
    }
}

/// What the protocol's functions are made of can be called by whoever may call them: it must be of no use.
#[tokio::test]
async fn the_parts_of_the_functions_are_of_no_use_to_a_stranger() {
    let (database, ada, _bob) = ada_and_bob().await;
    let client = database.client().await;
    let tab: i64 = client
        .query_one("SELECT b.tab FROM dynos.tab b JOIN dynos.scope s USING (scope) WHERE s.name = 'u:ada' AND b.name = 'notes'", &[])
        .await
        .unwrap()
        .get(0);
    let seen = ada.head("diary").await;
    for sql in [
        // Pages that name another scope's table.
        format!("SELECT id FROM dynos.newest(row('notes', false, {tab}, 1, 0, 0, 9, 100, 100000, 1, true, '[]')::dynos.page)"),
        format!("SELECT dynos.documents_changed(row('notes', false, {tab}, 1, 0, 0, 9, 100, 100000, 1, true, '[]')::dynos.page)"),
        format!("SELECT dynos.document('notes', '{CANARY}')"),
        // Steps and acts that claim to be somebody else's.
        format!("SELECT dynos.pushed('{}', array[row(row(1, 9, 'diary', '{CANARY}', 'delete', null, 5, null, '', '{{}}', 'u:ada', true, true)::dynos.entry,
                 row('applied', null, true, null, null, null, null)::dynos.result)::dynos.step])", ada.replica),
        format!("SELECT dynos.write_documents('delete', array[row(1, 9, 'notes', '{CANARY}', 'delete', null, 5, null, '', '{{}}', 'u:ada', false, true)::dynos.entry])"),
        format!("SELECT dynos.write_documents('insert', array[row(1, 9, 'diary', '{CANARY}', 'upsert', null, 5, '{{}}', '', '{{}}', 'u:ada', false, true)::dynos.entry])"),
    ] {
        let claims = json!({"sub": "bob"}).to_string();
        let script = format!("BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{claims}', true); {sql}; COMMIT");
        let answers = client.simple_query(&script).await;
        if let Ok(answers) = answers {
            for answer in answers {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = answer {
                    assert!(!(0..row.len()).any(|column| row.get(column).is_some_and(|text| text.contains(CANARY))
                        && !row.get(column).unwrap().contains("u:bob")), "{sql}: {row:?}");
                }
            }
        } else {
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
    assert_eq!(ada.changes("diary", &seen).await, [], "nothing of hers has moved");
    assert_eq!(ada.records("notes").await[CANARY]["page"], CANARY);
    assert_eq!(ada.records("diary").await[CANARY]["page"], CANARY);
}

/// In a shared table, a caller who cannot see a row cannot mark it deleted for those who can.
#[tokio::test]
async fn a_shared_row_that_is_hidden_is_not_deleted_for_others() {
    let (_database, ada, bob) = ada_and_bob().await;
    let seen = ada.head("board").await;
    let results = bob.push(json!([Caller::entry(1, "board", CANARY, "delete", Value::Null)])).await;
    assert_ne!(statuses(&results), ["applied"], "{results:?}");
    let mut guessed = Caller::entry(2, "board", CANARY, "delete", Value::Null);
    guessed["base"] = bob.head("board").await;
    let results = bob.push(json!([guessed])).await;
    assert_ne!(statuses(&results), ["applied"], "{results:?}");
    assert_eq!(ada.changes("board", &seen).await, []);
    assert_eq!(ada.records("board").await[CANARY]["page"], CANARY);
}

#[tokio::test]
async fn through_postgrest_only_the_protocol_can_be_called_and_only_by_the_signed_in() {
    let supabase = dynos_sync_testbed::Supabase::shared();
    let http = support::client();
    let claims = json!({"sub": "4f9d2c5e-0000-4000-8000-000000000001", "role": "authenticated", "exp": 4_000_000_000_u64});
    let key = EncodingKey::from_secret(supabase.jwt_secret.as_bytes());
    let bob = encode(&Header::default(), &claims, &key).unwrap();
    let call = |name: &str, token: &str, body: Value, profile: &str| {
        http.post(format!("{}/rest/v1/rpc/{name}", supabase.url))
            .header("apikey", &supabase.anon_key)
            .header("Content-Profile", profile)
            .bearer_auth(token)
            .json(&body)
            .send()
    };
    let replica = "4f9d2c5e-0000-4000-8000-0000000000aa";
    let heads = json!({"replica": replica, "tables": []});
    let answer = call("dynos_heads", &bob, heads.clone(), "public").await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    let anonymous = call("dynos_heads", &supabase.anon_key, heads.clone(), "public").await.unwrap();
    assert!([401, 403, 404].contains(&anonymous.status().as_u16()), "{}", anonymous.status());
    for (name, body) in [
        ("dynos_track", json!({"table": "users", "shared": true})),
        ("dynos_untrack", json!({"table": "users"})),
        ("dynos_share", json!({"names": ["x"]})),
        ("dynos_purge", json!({"tombstones_before": 0})),
        ("dynos_restored", json!({})),
        ("dynos_grant", json!({"role": "anon"})),
    ] {
        let status = call(name, &bob, body, "public").await.unwrap().status().as_u16();
        assert!([401, 403, 404].contains(&status), "{name}: {status}");
    }
    for name in ["call", "number", "document", "subject"] {
        let status = call(name, &bob, json!({}), "dynos").await.unwrap().status().as_u16();
        assert!([400, 404, 406].contains(&status), "{name} in the schema of the books: {status}");
    }
    for table in ["change", "document", "outcome"] {
        let url = format!("{}/rest/v1/{table}", supabase.url);
        let answer = http
            .get(url)
            .header("apikey", &supabase.anon_key)
            .header("Accept-Profile", "dynos")
            .bearer_auth(&bob);
        let status = answer.send().await.unwrap().status().as_u16();
        assert!([400, 404, 406].contains(&status), "{table}: {status}");
    }
}
