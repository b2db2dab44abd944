//! Requests to PostgREST's table endpoints.

use dynos_sync_core::{RemoteError, TableName};
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde::Serialize;

use super::{
    place::Mark,
    row::{ID, UPDATED_AT},
    time::{self, Micros},
};
use crate::{supabase::client::Client, transport::Request};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Reads rows.
pub(super) fn select(table: &str) -> Request {
    Request::new(Method::GET, path(table))
}

/// Writes rows, and wants to know what became of them.
pub(super) fn write(
    client: &Client,
    method: Method,
    table: &TableName,
    body: &impl Serialize,
) -> Result<Request, RemoteError> {
    Ok(returning(client.json(method, path(table.as_str()), body)?, "return=representation"))
}

/// Inserts rows that all have the same columns, and passes over those that there are.
pub(super) fn insert(
    client: &Client,
    table: &TableName,
    columns: &[String],
    rows: &impl Serialize,
) -> Result<Request, RemoteError> {
    let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let request = client.json(Method::POST, path(table.as_str()), rows)?;
    let request = request.query("on_conflict", ID).query("columns", columns.join(","));
    Ok(returning(request, "resolution=ignore-duplicates,return=representation"))
}

/// Removes rows.
pub(super) fn delete(table: &TableName) -> Request {
    returning(Request::new(Method::DELETE, path(table.as_str())), "return=representation")
}

fn returning(request: Request, preference: &'static str) -> Request {
    request.header(PREFER, HeaderValue::from_static(preference))
}

/// Of these ids.
pub(super) fn of_ids<'a>(request: Request, ids: impl IntoIterator<Item = &'a str>) -> Request {
    let ids: Vec<String> = ids.into_iter().map(quoted).collect();
    request.query(ID, format!("in.({})", ids.join(",")))
}

/// Not written later than that.
pub(super) fn until(request: Request, at: Micros) -> Request {
    request.query(UPDATED_AT, format!("lte.{}", time::format(at)))
}

/// The first `limit` rows behind a mark, in the order of (`updated_at`, `id`), as the database orders ids. Rows without a
/// time, or with one that cannot be compared, are passed over.
pub(super) fn page(table: &TableName, from: Option<&Mark>, limit: usize) -> Request {
    let [first, last] = time::RANGE;
    let request = select(table.as_str()).query(UPDATED_AT, format!("lte.{last}"));
    let request = match from {
        None => request.query(UPDATED_AT, format!("gte.{first}")),
        Some(mark) => {
            let at = time::format(mark.at);
            // The first condition says nothing new, but lets an index be used.
            let request = request.query(UPDATED_AT, format!("gte.{at}"));
            match &mark.id {
                None => request,
                Some(id) => {
                    let same_time = format!("and({UPDATED_AT}.eq.{at},{ID}.gt.{})", quoted(id));
                    request.query("or", format!("({UPDATED_AT}.gt.{at},{same_time})"))
                }
            }
        }
    };
    request.query("order", format!("{UPDATED_AT}.asc,{ID}.asc")).query("limit", limit.to_string())
}

/// A name or value in a list, where it may hold anything.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// How many bytes a text takes in a URL, at most.
pub(super) fn size_in_url(text: &str) -> usize {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() || byte == b'-' { 1 } else { 3 }).sum::<usize>()
        + 9
}

fn path(table: &str) -> String {
    let mut path = String::from("/rest/v1/");
    for byte in table.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_part_of_the_url() {
        assert_eq!(path("tasks_1"), "/rest/v1/tasks_1");
        assert_eq!(path("a/b?c#d%e.. ü"), "/rest/v1/a%2Fb%3Fc%23d%25e%2E%2E%20%C3%BC");
    }

    #[test]
    fn values_end_where_they_end() {
        assert_eq!(quoted(r#"a",b\"#), r#""a\",b\\""#);
        assert!(size_in_url(&"ü".repeat(10)) >= 60);
    }
}
