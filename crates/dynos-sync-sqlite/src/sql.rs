//! Building SQL text: quoting, and lists; and running the statements that come again and again.

use rusqlite::Connection;

use crate::error::{Result, of_theirs};

/// Runs a statement that answers nothing. It is parsed once a connection.
pub(crate) fn exec(db: &Connection, sql: &str) -> Result<()> {
    db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map_err(of_theirs).map(drop)
}

/// A name as an SQL identifier.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"a", "b", "c"`
pub(crate) fn idents<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    list(names.into_iter().map(|name| ident(name.as_ref())))
}

/// `a, b, c`
pub(crate) fn list<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> String {
    join(parts, ", ")
}

/// `a AND b AND c`
pub(crate) fn all<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> String {
    join(parts, " AND ")
}

pub(crate) fn join<S: AsRef<str>>(parts: impl IntoIterator<Item = S>, separator: &str) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str(separator);
        }
        text.push_str(part.as_ref());
    }
    text
}
