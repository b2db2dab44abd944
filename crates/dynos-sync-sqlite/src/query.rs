//! The application's own queries, and following what they answer.

use std::collections::BTreeSet;

use async_trait::async_trait;
use dynos_sync_core::{Fields, Invalid, Queries, ReplicaError, Rows, Value};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use rusqlite::{
    Connection, Error, ErrorCode,
    hooks::{AuthAction, AuthContext, Authorization},
    params_from_iter,
    types::ValueRef,
};

use crate::{
    describe::DOCUMENT_TYPE,
    error::{Result, of_theirs},
    hub::{Listener, Whose},
    replica::SqliteReplica,
    sync::{Arc, Mutex, PoisonError},
    value::{Cell, Reading, to_json, to_sql},
};

#[async_trait]
impl Queries for SqliteReplica {
    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Rows> {
        let (sql, params) = (sql.to_owned(), cells(&params)?);
        self.on_reading(move |db| rows(db, &sql, &params)).await
    }

    fn watch(&self, sql: String, params: Vec<Value>) -> BoxStream<'static, Result<Rows>> {
        let params = match cells(&params) {
            Ok(params) => params,
            Err(error) => return stream::iter([Err(error.into())]).boxed(),
        };
        let live = Live {
            replica: self.clone(),
            commits: self.listen(Whose::Anybodys),
            sql,
            params,
            schema: None,
            last: None,
        };
        stream::unfold(live, async |mut live| Some((live.next().await?, live))).boxed()
    }
}

/// A query that is followed.
struct Live {
    replica: SqliteReplica,
    commits: Listener,
    sql: String,
    params: Vec<Cell>,
    /// The schema that the tables of interest were looked up in.
    schema: Option<i64>,
    last: Option<Rows>,
}

impl Live {
    async fn next(&mut self) -> Option<Result<Rows>> {
        loop {
            self.commits.next().await?;
            match self.ask().await {
                Err(ReplicaError::Closed) => return None,
                Err(error) => {
                    self.last = None;
                    return Some(Err(error));
                }
                Ok(rows) if self.last.as_ref() == Some(&rows) => {}
                Ok(rows) => {
                    self.last = Some(rows.clone());
                    return Some(Ok(rows));
                }
            }
        }
    }

    async fn ask(&mut self) -> Result<Rows> {
        let (sql, params, known) = (self.sql.clone(), self.params.clone(), self.schema);
        let look = move |db: &mut Connection| {
            let schema = db.query_row("PRAGMA schema_version", [], |row| row.get(0)).map_err(of_theirs)?;
            let tables = if known == Some(schema) { None } else { Some(tables(db, &sql)?) };
            Ok((schema, tables, rows(db, &sql, &params)?))
        };
        let (schema, tables, rows) = self.replica.on_reading(look).await?;
        if let Some(tables) = tables {
            // The engine's own tables change with nearly every commit.
            if !tables.iter().any(|table| table.starts_with("dynos_")) {
                self.commits.only(tables);
            }
            self.schema = Some(schema);
        }
        Ok(rows)
    }
}

fn cells(params: &[Value]) -> Result<Vec<Cell>, Invalid> {
    params.iter().enumerate().map(|(place, value)| to_sql(value, &format!("params[{place}]"))).collect()
}

/// What a query answers. Of columns with the same name the last counts.
fn rows(db: &Connection, sql: &str, params: &[Cell]) -> Result<Rows> {
    let mut statement = db.prepare_cached(sql).map_err(of_query)?;
    let wanted = statement.parameter_count();
    if wanted != params.len() {
        let problem = format!("{} given, the query has {wanted}", params.len());
        return Err(Invalid::new("params", problem).remedy("give one for each place").into());
    }
    let columns: Vec<Column> = statement.columns().map(|column| Column::of(&column)).collect();
    let mut found = statement.query(params_from_iter(params)).map_err(of_query)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(of_query)? {
        let mut fields = Fields::new();
        for (place, column) in columns.iter().enumerate() {
            fields.insert(column.name.clone(), column.read(row.get_ref(place).map_err(of_query)?));
        }
        rows.push(fields);
    }
    Ok(rows)
}

/// A column of an answer.
struct Column {
    name: String,
    reading: Reading,
    /// Whether it holds whole documents.
    documents: bool,
}

impl Column {
    fn of(column: &rusqlite::Column<'_>) -> Self {
        let declared = column.decl_type().unwrap_or_default();
        let documents = declared.eq_ignore_ascii_case(DOCUMENT_TYPE);
        Self { name: column.name().to_owned(), reading: Reading::of(declared), documents }
    }

    fn read(&self, value: ValueRef<'_>) -> Value {
        let document = value.as_bytes().ok().filter(|_| self.documents);
        let object = document.and_then(|text| serde_json::from_slice(text).ok()).map(Value::Object);
        object.unwrap_or_else(|| to_json(value, self.reading))
    }
}

/// The tables that a query reads, in lower case: what SQLite asks leave for while it prepares the statement.
fn tables(db: &mut Connection, sql: &str) -> Result<BTreeSet<String>> {
    let read = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&read);
    let note = move |context: AuthContext<'_>| {
        if let AuthAction::Read { table_name, .. } = context.action {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(table_name.to_lowercase());
        }
        Authorization::Allow
    };
    db.authorizer(Some(note)).map_err(of_theirs)?;
    let prepared = db.prepare(sql).map(drop).map_err(of_query);
    db.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(of_theirs)?;
    prepared?;
    Ok(std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Translates an error of the application's query.
fn of_query(error: Error) -> ReplicaError {
    let is_theirs = match &error {
        Error::SqlInputError { .. } | Error::MultipleStatement => true,
        error => matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown | ErrorCode::ReadOnly)),
    };
    if is_theirs {
        let remedy = "give one statement that reads, from tables that there are";
        return Invalid::new("sql", error.to_string()).remedy(remedy).into();
    }
    of_theirs(error)
}
