//! Makes a table from what another device declared.
//!
//! The declaration comes over the network: names are quoted, types are checked to be plain words, and only
//! literals are taken as defaults, so that nothing in it can act as SQL.

use dynos_sync_core::{Column, ForeignKey, Index, Invalid, Shape, TableSpec};

use crate::{
    describe::{DOCUMENT_TYPE, is_literal},
    sql::{ident, idents, list},
};

/// The statements that make the table and its indexes.
///
/// # Errors
/// [`Invalid`] for a declaration that is not plain.
pub(crate) fn statements(spec: &TableSpec) -> Result<Vec<String>, Invalid> {
    spec.validate()?;
    let table = ident(spec.name.as_str());
    let Shape::Columns { columns, key, indexes, foreign_keys, without_rowid, strict, autoincrement } =
        &spec.shape
    else {
        return Ok(vec![format!(
            "CREATE TABLE {table} (\"id\" TEXT PRIMARY KEY NOT NULL, \"data\" {DOCUMENT_TYPE} NOT NULL)"
        )]);
    };
    let inline_key = match key.as_slice() {
        [only] if is_rowid(columns, only) && !without_rowid => Some(only),
        _ => None,
    };
    let mut parts = Vec::new();
    for column in columns {
        let mut part = column_sql(column)?;
        if inline_key == Some(&column.name) {
            part.push_str(if *autoincrement { " PRIMARY KEY AUTOINCREMENT" } else { " PRIMARY KEY" });
        }
        parts.push(part);
    }
    if inline_key.is_none() {
        parts.push(format!("PRIMARY KEY ({})", idents(key)));
    }
    let constraints = indexes.iter().filter(|index| index.unique && index.name.is_none());
    parts.extend(constraints.map(|index| format!("UNIQUE ({})", idents(&index.columns))));
    for foreign in foreign_keys {
        parts.push(foreign_sql(foreign)?);
    }
    let options = [(*without_rowid, "WITHOUT ROWID"), (*strict, "STRICT")];
    let options = list(options.iter().filter(|(on, _)| *on).map(|(_, option)| option));
    let mut statements = vec![format!("CREATE TABLE {table} ({}) {options}", list(parts))];
    statements.extend(indexes.iter().filter_map(|index| index_sql(&table, index)));
    Ok(statements)
}

fn is_rowid(columns: &[Column], key: &str) -> bool {
    columns.iter().any(|column| column.name == key && column.declared.eq_ignore_ascii_case("INTEGER"))
}

fn column_sql(column: &Column) -> Result<String, Invalid> {
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_plain_type(&column.declared) {
        return Err(refuse(&column.name, "its declared type is not a plain type name"));
    }
    let mut sql = format!("{} {}", ident(&column.name), column.declared);
    if column.not_null {
        sql.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        if !is_literal(default) {
            return Err(refuse(&column.name, "its default is not a literal"));
        }
        sql.push_str(&format!(" DEFAULT {default}"));
    }
    if let Some(collation) = &column.collation {
        if !word(collation) {
            return Err(refuse(&column.name, "its collation is not a word"));
        }
        sql.push_str(&format!(" COLLATE {collation}"));
    }
    Ok(sql)
}

/// Words, and a size: `VARCHAR(160)`, `DOUBLE PRECISION`, `NUMERIC(10, 2)`. A word that begins a column constraint
/// would end the type.
fn is_plain_type(declared: &str) -> bool {
    const CONSTRAINTS: [&str; 13] = [
        "CONSTRAINT",
        "PRIMARY",
        "KEY",
        "NOT",
        "NULL",
        "UNIQUE",
        "CHECK",
        "DEFAULT",
        "COLLATE",
        "REFERENCES",
        "GENERATED",
        "ALWAYS",
        "AS",
    ];
    let (words, size) = match declared.split_once('(') {
        None => (declared, None),
        Some((words, rest)) => (words, Some(rest)),
    };
    let plain_word = |word: &str| {
        let first = word.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        let rest = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        first && rest && !CONSTRAINTS.contains(&word.to_uppercase().as_str())
    };
    let plain_size = |size: &str| {
        let numbers = size.strip_suffix(')').unwrap_or("x");
        numbers.split(',').all(|number| number.trim().parse::<u32>().is_ok())
    };
    words.split_whitespace().all(plain_word) && size.is_none_or(plain_size)
}

fn foreign_sql(foreign: &ForeignKey) -> Result<String, Invalid> {
    for action in [&foreign.on_delete, &foreign.on_update] {
        if !matches!(action.as_str(), "NO ACTION" | "RESTRICT" | "SET NULL" | "SET DEFAULT" | "CASCADE") {
            return Err(refuse(&foreign.parent, "its reference has an unknown action"));
        }
    }
    let target = match foreign.parent_columns.as_slice() {
        [] => String::new(),
        columns => format!(" ({})", idents(columns)),
    };
    Ok(format!(
        "FOREIGN KEY ({}) REFERENCES {}{target} ON DELETE {} ON UPDATE {}",
        idents(&foreign.columns),
        ident(&foreign.parent),
        foreign.on_delete,
        foreign.on_update
    ))
}

fn index_sql(table: &str, index: &Index) -> Option<String> {
    let name = ident(index.name.as_ref()?);
    let unique = if index.unique { "UNIQUE " } else { "" };
    Some(format!("CREATE {unique}INDEX IF NOT EXISTS {name} ON {table} ({})", idents(&index.columns)))
}

fn refuse(field: &str, problem: &str) -> Invalid {
    Invalid::new(field, problem).remedy("make the table by hand, then track it")
}
