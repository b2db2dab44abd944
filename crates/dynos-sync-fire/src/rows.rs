//! The application's rows, and what they have to be.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use crate::{
    journal::{Journal, fault},
    writer::TABLES,
};

/// Rows as text, by table and id.
pub(crate) type Rows = BTreeMap<(String, String), String>;

/// The application's rows, as text.
pub(crate) fn rows(db: &Connection) -> rusqlite::Result<Rows> {
    let mut rows = Rows::new();
    for table in TABLES {
        let mut select =
            db.prepare_cached(&format!("SELECT id, json_array(writer, n, a, b) FROM {table}"))?;
        for row in select.query_map([], |row| Ok(((table.to_owned(), row.get(0)?), row.get(1)?)))? {
            let (key, row) = row?;
            rows.insert(key, row);
        }
    }
    Ok(rows)
}

pub(crate) fn difference(one: &Rows, other: &Rows) -> String {
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let odd = keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).take(5);
    odd.map(|key| format!("{key:?}: {:?} and {:?}; ", brief(one.get(key)), brief(other.get(key)))).collect()
}

fn brief(row: Option<&String>) -> Option<String> {
    row.map(|row| row.chars().take(60).collect())
}

/// A record with one writer is what its writer wrote last.
pub(crate) fn own(rows: &Rows, journals: &[Journal]) -> Vec<String> {
    let mut expected = Rows::new();
    for (number, journal) in journals.iter().enumerate() {
        for (id, (n, a, b)) in &journal.own {
            let row = serde_json::json!([number, n, a, b]).to_string();
            expected.insert(("own".to_owned(), id.clone()), row);
        }
    }
    let there: Rows =
        rows.iter().filter(|((table, _), _)| table == "own").map(|(k, v)| (k.clone(), v.clone())).collect();
    if there == expected {
        return Vec::new();
    }
    vec![format!("what was acknowledged is not what is there: {}", difference(&expected, &there))]
}

/// A contended record is, whole, what somebody wrote last.
pub(crate) fn contended(rows: &Rows, journals: &[Journal]) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["hot", "gone"] {
        let lasts =
            |journal: &Journal| if table == "hot" { journal.hot.clone() } else { journal.gone.clone() };
        let lasts: Vec<_> = journals.iter().map(lasts).collect();
        let ids: BTreeSet<&String> = lasts.iter().flat_map(BTreeMap::keys).collect();
        for id in ids {
            let row = rows.get(&(table.to_owned(), id.clone()));
            let of_all: Vec<_> = lasts.iter().map(|lasts| lasts.get(id)).enumerate().collect();
            let problem = match row.map(|row| author(row)) {
                Some(None) => Some("is torn".to_owned()),
                Some(winner) => fault(&of_all, winner, table == "gone"),
                None => fault(&of_all, None, table == "gone"),
            };
            found.extend(problem.map(|problem| format!("{table} {id} {problem}: {:?}", brief(row))));
        }
    }
    found
}

/// Who wrote a contended record, and in which edit: all of its fields name the same one.
fn author(row: &str) -> Option<(usize, i64)> {
    let (writer, n, a, b): (usize, i64, String, String) = parts(row)?;
    let name = format!("{writer}#{n}");
    (a == name && b.split(' ').next() == Some(&name)).then_some((writer, n))
}

fn parts(row: &str) -> Option<(usize, i64, String, String)> {
    let row: serde_json::Value = serde_json::from_str(row).ok()?;
    let text = |at: usize| row[at].as_str().map(str::to_owned);
    Some((usize::try_from(row[0].as_u64()?).ok()?, row[1].as_i64()?, text(2)?, text(3)?))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{journal::Last, writer::SCHEMA};

    fn row(table: &str, id: &str, writer: usize, n: i64, a: &str, b: &str) -> ((String, String), String) {
        let row = serde_json::json!([writer, n, a, b]).to_string();
        ((table.to_owned(), id.to_owned()), row)
    }

    fn journals() -> Vec<Journal> {
        let mut journals = vec![Journal::default(), Journal::default()];
        journals[0].own.insert("0-1".to_owned(), (9, "0#9".to_owned(), "0#4 x".to_owned()));
        let now = SystemTime::now();
        journals[1].hot.insert("hot-1".to_owned(), Last { n: Some(5), began: now, ended: now });
        journals
    }

    #[test]
    fn what_was_written_is_there() {
        let rows =
            Rows::from([row("own", "0-1", 0, 9, "0#9", "0#4 x"), row("hot", "hot-1", 1, 5, "1#5", "1#5 y")]);
        assert_eq!(own(&rows, &journals()), [""; 0]);
        assert_eq!(contended(&rows, &journals()), [""; 0]);
    }

    #[test]
    fn what_was_lost_came_back_or_is_torn_is_found() {
        let lost = Rows::new();
        let old = Rows::from([row("own", "0-1", 0, 9, "0#9", "0#3 w")]);
        let resurrected =
            Rows::from([row("own", "0-1", 0, 9, "0#9", "0#4 x"), row("own", "0-2", 0, 3, "0#3", "0#3")]);
        for rows in [lost, old, resurrected] {
            assert_eq!(own(&rows, &journals()).len(), 1, "{rows:?}");
        }
        let torn = row("hot", "hot-1", 1, 5, "1#5", "0#7 y");
        let overtaken = row("hot", "hot-1", 1, 4, "1#4", "1#4 y");
        for rows in [Rows::new(), Rows::from([torn]), Rows::from([overtaken])] {
            assert_eq!(contended(&rows, &journals()).len(), 1, "{rows:?}");
        }
    }

    #[test]
    fn a_record_that_goes_back_is_noted_by_the_database() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        let steps = [
            ("INSERT INTO own VALUES ('x', 0, 1, '', '')", 0),
            ("UPDATE own SET n = 3", 0),
            ("UPDATE own SET n = 3", 0),
            ("UPDATE own SET n = 2", 1),
            ("UPDATE own SET n = 4", 1),
            ("DELETE FROM own", 1),
            ("INSERT INTO own VALUES ('x', 0, 4, '', '')", 2),
            ("DELETE FROM own", 2),
            ("INSERT INTO own VALUES ('x', 0, 5, '', '')", 2),
        ];
        for (step, expected) in steps {
            db.execute(step, []).unwrap();
            let noted: i64 = db.query_row("SELECT count(*) FROM backwards", [], |row| row.get(0)).unwrap();
            assert_eq!(noted, expected, "{step}");
        }
    }

    #[test]
    fn rows_differ_by_any_value() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db.execute_batch("INSERT INTO hot VALUES ('x', 0, 1, 'a', NULL)").unwrap();
        let before = rows(&db).unwrap();
        db.execute_batch("UPDATE hot SET b = ''").unwrap();
        assert_ne!(before, rows(&db).unwrap());
        assert!(difference(&before, &rows(&db).unwrap()).contains("\"x\""));
    }
}
