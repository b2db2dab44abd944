use super::*;
use crate::record::fields;

fn column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        declared: "TEXT".to_owned(),
        not_null: false,
        default: None,
        collation: None,
    }
}

fn spec(name: &str, key: &[&str], columns: &[&str], parents: &[&str]) -> TableSpec {
    let refers = |parent: &&str| ForeignKey {
        columns: vec![key[0].to_owned()],
        parent: (*parent).to_owned(),
        parent_columns: Vec::new(),
        on_delete: "NO ACTION".to_owned(),
        on_update: "NO ACTION".to_owned(),
    };
    TableSpec {
        name: name.parse().unwrap(),
        shape: Shape::Columns {
            columns: columns.iter().map(|name| column(name)).collect(),
            key: key.iter().map(|&name| name.to_owned()).collect(),
            indexes: Vec::new(),
            foreign_keys: parents.iter().map(refers).collect(),
            without_rowid: false,
            strict: false,
            autoincrement: false,
        },
    }
}

fn document() -> TableSpec {
    TableSpec::document("docs".parse().unwrap())
}

#[test]
fn fields_are_the_columns_outside_the_key() {
    let table = spec("t", &["a", "c"], &["a", "b", "c", "d"], &[]);
    assert_eq!(table.field_names(), Some(BTreeSet::from(["b", "d"])));
    assert_eq!(table.column("b"), Some(&column("b")));
    assert_eq!((table.column("x"), document().column("b"), document().field_names()), (None, None, None));
}

#[test]
fn a_field_without_a_column_is_named() {
    let table = spec("t", &["id"], &["id", "a"], &[]);
    let with = |name: &str| fields([("id", 1.into()), (name, 1.into())]);
    assert!(table.check(&with("a")).is_ok() && document().check(&with("other")).is_ok());
    assert_eq!(table.check(&with("other")).unwrap_err().field, "other");
}

#[test]
fn parents_come_before_their_children() {
    let names = |specs: Vec<TableSpec>| -> Vec<String> {
        TableSpec::parents_first(specs).into_iter().map(|spec| spec.name.into()).collect()
    };
    let table = |name, parents: &[&str]| spec(name, &["id"], &["id"], parents);
    // In any case of letters, past a table that refers to itself, and to one that is not there.
    let chain = vec![table("c", &["B"]), table("b", &["b", "A"]), table("a", &["elsewhere"]), document()];
    assert_eq!(names(chain), ["a", "b", "c", "docs"]);
    let circle = vec![table("x", &["y"]), table("y", &["x"]), table("z", &[])];
    assert_eq!(names(circle), ["z", "x", "y"]);
}

#[test]
fn a_declaration_that_cannot_be_a_table_is_refused() {
    let most: Vec<String> = (0..TableSpec::MAX_COLUMNS).map(|n| format!("c{n}")).collect();
    let most: Vec<&str> = most.iter().map(String::as_str).collect();
    let longest = "c".repeat(Limits::TABLE_NAME_BYTES);
    for good in
        [spec("t", &["id"], &["id", &longest], &["other"]), spec("t", &["c0"], &most, &[]), document()]
    {
        assert_eq!(good.validate(), Ok(()));
    }
    let too_long = "c".repeat(Limits::TABLE_NAME_BYTES + 1);
    let more: Vec<&str> = most.iter().copied().chain(["one more"]).collect();
    let mut indexed = spec("t", &["id"], &["id", "a"], &[]);
    if let Shape::Columns { indexes, .. } = &mut indexed.shape {
        indexes.push(Index { name: None, unique: false, columns: vec!["gone".to_owned()] });
    }
    for (field, bad) in [
        ("columns", spec("t", &["c0"], &more, &[])),
        ("columns", spec("t", &["id"], &["id", ""], &[])),
        ("columns", spec("t", &["id"], &["id", "a\0"], &[])),
        ("columns", spec("t", &["id"], &["id", &too_long], &[])),
        ("columns", spec("t", &["id"], &["id", "ID"], &[])),
        ("key", spec("t", &[], &["id"], &[])),
        ("key", spec("t", &["id", "gone"], &["id", "a"], &[])),
        ("key", indexed),
    ] {
        assert_eq!(bad.validate().unwrap_err().field, field);
    }
}

#[test]
fn declarations_are_joined_where_they_can_be_one_table() {
    let [old, new] = [&["id", "a"][..], &["id", "b", "a"]].map(|columns| spec("t", &["id"], columns, &[]));
    assert_eq!(old.joined(&new).unwrap(), spec("t", &["id"], &["id", "a", "b"], &[]));
    assert_eq!(document().joined(&document()).unwrap(), document());
    assert!(old.joined(&spec("t", &["a"], &["id", "a"], &[])).is_err(), "another key");
    assert!(old.joined(&document()).is_err() && document().joined(&old).is_err());
}
