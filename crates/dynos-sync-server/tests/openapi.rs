//! The server is what it says it is: real exchanges, held against its own description.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use dynos_sync_core::{Cursor, Operation, Value, json};
use support::*;

/// The routes as they are registered.
const ROUTER: &str = include_str!("../src/http/mod.rs");

struct Described {
    document: Value,
    device: Device,
    /// The operations and statuses that were seen.
    seen: BTreeSet<(String, String)>,
}

impl Described {
    /// Makes a call, checks both bodies, and returns the status and the answer.
    async fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.device.base);
        let path =
            path.split('/').map(|part| if part.len() == 36 { "{id}" } else { part }).collect::<Vec<_>>();
        let path = path.join("/");
        let operation = self.document["paths"][&path][method].clone();
        assert!(operation.is_object(), "{method} {path} is not described");
        let mut request = self.device.http.request(method.to_uppercase().parse().unwrap(), url);
        if operation["security"] != json!([]) {
            request = request.bearer_auth(&self.device.token);
        }
        if let Some(body) = &body {
            self.check(&operation["requestBody"]["content"]["application/json"]["schema"], body);
            request = request.json(body);
        }
        let response = within(request.send()).await.unwrap();
        let status = response.status().as_u16();
        if status == 204 {
            return (status, Value::Null);
        }
        let kind = response.headers()["content-type"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut described = operation["responses"][status.to_string()].clone();
        if let Some(reference) = described["$ref"].as_str() {
            described = self.document.pointer(&reference[1..]).unwrap().clone();
        }
        let schema = &described["content"][&kind]["schema"];
        assert!(schema.is_object(), "{method} {path} → {status} {kind} is not described");
        self.seen.insert((format!("{method} {path}"), status.to_string()));
        if kind != "application/json" {
            return (status, Value::Null);
        }
        let answer: Value = serde_json::from_str(&within(response.text()).await.unwrap()).unwrap();
        self.check(schema, &answer);
        (status, answer)
    }

    fn check(&self, schema: &Value, instance: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let faults: Vec<_> = validator.iter_errors(instance).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{faults:?} in {instance}");
    }
}

async fn described(server: &Running) -> Described {
    let device = server.device("alice", 1);
    let document = read(within(device.http.get(server.url("/v1/openapi.json")).send()).await.unwrap()).await;
    Described { document, device, seen: BTreeSet::new() }
}

#[tokio::test]
async fn every_exchange_is_as_described() {
    let home = Home::new();
    let mut config = home.config();
    config.snapshots.rows = 1;
    let server = home.start_with(config).await;
    let mut api = described(&server).await;
    let replica = api.device.replica.to_string();
    let columns = json!({"kind": "columns", "strict": true, "without_rowid": true,
        "columns": [{"name": "id", "type": "INTEGER", "not_null": true}, {"name": "v", "type": "", "default": "'x'", "collation": "NOCASE"}],
        "key": ["id"], "indexes": [{"name": "i", "unique": true, "columns": ["v"]}, {"columns": ["v"]}],
        "foreign_keys": [{"columns": ["v"], "parent": "t", "parent_columns": ["id"],
            "on_delete": "CASCADE", "on_update": "NO ACTION"}]});
    let tables =
        json!({"tables": [{"name": "t", "shape": {"kind": "document"}}, {"name": "c", "shape": columns}]});
    assert_eq!(api.call("post", "/v1/tables", Some(tables.clone())).await, (200, tables));
    assert_eq!(api.call("get", "/v1/tables", None).await.0, 200);
    let wrong =
        json!({"tables": [{"name": "t", "shape": {"kind": "columns", "columns": [], "key": ["id"]}}]});
    assert_eq!(api.call("post", "/v1/tables", Some(wrong)).await.0, 422);

    // Somebody else's change, for a conflict.
    server.device("alice", 2).push(vec![upsert(1, "theirs", json!({})), delete(2, "gone")]).await;
    let entries = [
        upsert(1, "a", json!({"x": [1, "y", {"z": null}]})),
        upsert(1, "a", json!({"x": [1, "y", {"z": null}]})),
        upsert(2, "theirs", json!({})),
        entry(3, Operation::Patch, "none", json!({})),
        entry(4, Operation::Replace, "b", json!({})).table("unknown"),
        delete(5, "a"),
        upsert(u64::MAX, "a", json!({})),
    ];
    let push = |entries: &[_]| Some(json!({"replica": replica, "entries": entries}));
    let (status, answer) = api.call("post", "/v1/push", push(&entries)).await;
    let statuses: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|result| result["status"].clone()).collect();
    assert_eq!(status, 200);
    assert_eq!(
        statuses,
        ["applied", "duplicate", "conflict", "rejected", "rejected", "applied", "rejected"].map(Value::from)
    );
    assert_eq!(api.call("post", "/v1/push", push(&[upsert(1, "a", json!({}))])).await.0, 409);

    let (_, heads) =
        api.call("post", "/v1/heads", Some(json!({"replica": replica, "tables": ["t", "none"]}))).await;
    let pull = |cursor: Option<&Value>, limit: usize| {
        let mut request =
            json!({"replica": replica, "table": "t", "limit": limit, "all": true, "unsettled": [1, 9]});
        if let Some(cursor) = cursor {
            request["cursor"] = cursor.clone();
        }
        Some(request)
    };
    let (_, page) = api.call("post", "/v1/pull", pull(None, 2)).await;
    assert_eq!((&page["has_more"], &page["settled"]), (&json!(true), &Value::Null));
    let (_, page) = api.call("post", "/v1/pull", pull(Some(&page["next"]), 2)).await;
    assert_eq!((&page["changes"][0]["own"], &page["next"]), (&json!(true), &heads["heads"]["t"]));
    assert_eq!(page["settled"], json!([1]));
    assert_eq!(api.call("post", "/v1/pull", pull(Some(&json!("nonsense")), 2)).await.0, 422);
    let foreign = Cursor::new(format!("{:027x}.5", 1));
    let (status, expired) = api.call("post", "/v1/pull", pull(Some(&json!(foreign)), 2)).await;
    assert_eq!((status, &expired["error"]["expired"]), (410, &json!({"reason": "rolled_back", "common": 0})));

    let tables = json!([{"name": "t", "shape": {"kind": "document"}}]);
    let none = json!({"replica": replica, "tables": []});
    assert_eq!(api.call("post", "/v1/snapshot", Some(none)).await.0, 204);
    let request = json!({"replica": replica, "tables": tables});
    let (status, snapshot) = api.call("post", "/v1/snapshot", Some(request)).await;
    assert_eq!((status, &snapshot["tables"]["t"]["rows"]), (200, &json!(1)));
    let path = format!("/v1/snapshot/{}", snapshot["id"].as_str().unwrap());
    assert_eq!(api.call("get", &path, None).await.0, 206);
    assert_eq!(api.call("get", &format!("/v1/snapshot/{replica}"), None).await.0, 404);

    for path in ["/v1/events", "/v1/openapi.json", "/healthz", "/metrics"] {
        assert_eq!(api.call("get", path, None).await.0, 200, "{path}");
    }
    api.device.token = "none".to_owned();
    for path in ["/v1/tables", "/v1/events"] {
        assert_eq!(api.call("get", path, None).await.0, 401, "{path}");
    }
    let successes = api
        .seen
        .iter()
        .filter(|(_, status)| matches!(status.as_str(), "200" | "206"))
        .map(|(operation, _)| operation.clone());
    assert_eq!(successes.collect::<BTreeSet<_>>(), operations(&api.document), "each operation was tried");
    server.stop().await;
}

fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect()
}

#[tokio::test]
async fn what_is_served_is_described_and_nothing_else() {
    let home = Home::new();
    let server = home.start().await;
    let api = described(&server).await;
    let documented: BTreeSet<_> = api.document["paths"].as_object().unwrap().keys().cloned().collect();
    let registered = ROUTER.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    assert_eq!(registered.collect::<BTreeSet<_>>(), documented);
    for path in &documented {
        let described = &api.document["paths"][path];
        // No path takes a PATCH; the refusal says what it takes.
        let request = api.device.http.patch(server.url(path)).bearer_auth(&api.device.token);
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers()["allow"].to_str().unwrap().to_lowercase();
        let allowed: BTreeSet<_> =
            allowed.split(',').filter(|method| *method != "head").map(str::to_owned).collect();
        assert_eq!(allowed, described.as_object().unwrap().keys().cloned().collect(), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_description_holds_together() {
    let home = Home::new();
    let server = home.start().await;
    let api = described(&server).await;
    for (name, schema) in api.document["components"]["schemas"].as_object().unwrap() {
        let mut schema = schema.clone();
        schema["components"] = api.document["components"].clone();
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    server.stop().await;
}
