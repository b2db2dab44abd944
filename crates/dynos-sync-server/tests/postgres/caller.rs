//! Users who call the functions as the server does, and programs that write beside them.

use dynos_sync_core::{ReplicaId, Value, json};
use tokio_postgres::{Client, error::SqlState};

use crate::database::Database;

/// A replica of a user's, on a connection of its own.
pub(crate) struct Caller {
    client: Client,
    subject: String,
    role: Option<&'static str>,
    pub(crate) replica: ReplicaId,
}

impl Caller {
    /// A user without rights of their own beyond those of signed-in users.
    pub(crate) async fn new(database: &Database, subject: &str, number: u8) -> Self {
        let replica = ReplicaId::from_random([number; 16]);
        let subject = subject.to_owned();
        Self { client: database.client().await, subject, role: Some("authenticated"), replica }
    }

    pub(crate) async fn call(&self, verb: &str, request: &Value) -> Result<Value, tokio_postgres::Error> {
        let sql = "SELECT dynos.call($1, $2, $3, $4::text::json)::text";
        let request = request.to_string();
        let row = self.client.query_one(sql, &[&self.subject, &self.role, &verb, &request]).await?;
        Ok(serde_json::from_str(row.get(0)).unwrap())
    }

    pub(crate) async fn push(&self, entries: Value) -> Vec<Value> {
        let answer = self.answer(entries).await;
        answer["results"].as_array().unwrap().clone()
    }

    pub(crate) async fn answer(&self, entries: Value) -> Value {
        self.call("push", &json!({"replica": self.replica, "entries": entries})).await.unwrap()
    }

    /// An entry: table, id, operation, fields.
    pub(crate) fn entry(counter: u64, table: &str, id: &str, op: &str, data: Value) -> Value {
        let mut entry = json!({"counter": counter, "table": table, "id": id, "op": op, "at": 1000});
        if op != "delete" {
            entry["data"] = data;
        }
        entry
    }

    pub(crate) async fn page(&self, table: &str, cursor: &Value, limit: usize) -> Value {
        let request =
            json!({"replica": self.replica, "table": table, "cursor": cursor, "limit": limit, "all": true});
        self.call("pull", &request).await.unwrap()
    }

    /// The table's living records by id.
    pub(crate) async fn records(&self, table: &str) -> Value {
        let mut records = json!({});
        let mut cursor = Value::Null;
        loop {
            let page = self.page(table, &cursor, 1000).await;
            for change in page["changes"].as_array().unwrap() {
                if let Some(record) = change.get("record") {
                    records[change["id"].as_str().unwrap()] = record.clone();
                }
            }
            if page["has_more"] == false {
                return records;
            }
            cursor = page["next"].clone();
        }
    }

    pub(crate) async fn head(&self, table: &str) -> Value {
        let heads = self.call("heads", &json!({"replica": self.replica, "tables": [table]})).await.unwrap();
        heads["heads"][table].clone()
    }

    /// What others changed since a cursor: ids, and whether they live.
    pub(crate) async fn changes(&self, table: &str, cursor: &Value) -> Vec<(String, bool)> {
        let page = self.page(table, cursor, 1000).await;
        let change =
            |change: &Value| (change["id"].as_str().unwrap().to_owned(), change.get("record").is_some());
        page["changes"].as_array().unwrap().iter().map(change).collect()
    }

    /// The SQLSTATE with which a statement fails that the caller runs with their own rights.
    pub(crate) async fn refused(&self, sql: &str) -> SqlState {
        let claims = json!({"sub": self.subject, "role": "authenticated"}).to_string();
        let script = format!(
            "BEGIN; SET LOCAL ROLE authenticated; SELECT set_config('request.jwt.claims', '{claims}', true); {sql}"
        );
        let error = self.client.batch_execute(&script).await.expect_err(sql);
        self.client.batch_execute("ROLLBACK").await.unwrap();
        error.code().cloned().unwrap_or_else(|| panic!("{sql}: {error}"))
    }
}

/// The status of a result, and its code where it was rejected.
pub(crate) fn status(result: &Value) -> &str {
    result["code"].as_str().or_else(|| result["status"].as_str()).unwrap()
}

pub(crate) fn statuses(results: &[Value]) -> Vec<&str> {
    results.iter().map(status).collect()
}
