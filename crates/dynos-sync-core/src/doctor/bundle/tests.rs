use super::*;
use crate::{
    conformance::block_on,
    doctor::{Level, of_replica},
    entry::Edit,
    ids::RecordKey,
    memory::MemoryReplica,
    record::fields,
    replica::{Batch, Op, Replica, Revert, TableOptions, TablePolicy},
};

/// In every place where there could be one.
const CANARY: &str = "canary";

fn with_canaries() -> (State, Inspection) {
    let replica = MemoryReplica::new([7; 16]);
    let key = RecordKey::new("canary_table", "canary-id").unwrap();
    let policy = TablePolicy {
        sensitive_fields: vec!["canary_field".to_owned()],
        owner_columns: vec!["canary_owner".to_owned()],
        user: Some("canary@example.com".to_owned()),
        ..TablePolicy::default()
    };
    let write = |id: &str| Op::Write {
        key: RecordKey { id: id.parse().unwrap(), ..key.clone() },
        edit: Edit::Upsert(fields([("canary_column", CANARY.into())])),
        at: 3,
    };
    let bury = Op::Bury {
        key: key.clone(),
        counter: 1,
        code: "canary_code".to_owned(),
        message: "constraint: canary is taken".to_owned(),
        at: 5,
        revert: Revert::Keep,
    };
    block_on(async {
        let options = TableOptions { policy, ..TableOptions::new(key.table.clone()) };
        replica.add_table(options).await.unwrap();
        let bind = Op::Bind { server: "canary-server".to_owned() };
        let ops = vec![bind, write("canary-id"), write("canary-other"), bury];
        replica.commit(Batch { ops, ..Batch::default() }).await.unwrap();
        let mut inspection = of_replica(&replica).await.unwrap();
        let found =
            Finding::new(Level::Fault, "queue", "row canary missing from index canary", "mend canary");
        inspection.findings.push(found.of(&key.table));
        inspection.survey.quarantined(&key.table, "UNIQUE constraint failed: canary.canary");
        (replica.state().await.unwrap(), inspection)
    })
}

fn bundled<'a>(state: &'a State, inspection: &'a Inspection) -> Bundled<'a> {
    let error = "error sending request for https://canary:canary@canary.example?token=canary".to_owned();
    Bundled {
        now: 5000,
        state: Some(state),
        inspection: Some(inspection),
        failures: vec![Failed { at: 1000, kind: "unreachable", error, needs_sign_in: false }],
        ..Bundled::default()
    }
}

#[test]
fn nothing_of_the_user_is_in_it() {
    let (state, inspection) = with_canaries();
    let bundle = support_bundle(&bundled(&state, &inspection), Names::Hidden);
    let text = bundle.to_string();
    assert!(!text.to_lowercase().contains(CANARY), "{bundle:#}");
    assert!(!text.contains(&state.replica.to_string()), "{bundle:#}");

    // And yet it says what somebody who is to help has to know.
    assert_eq!(bundle["replica"]["pending"], 1);
    assert_eq!(bundle["replica"]["has_met_server"], true);
    let held = &bundle["tables"]["t1"]["holds"];
    assert_eq!(held["queued"], json!({"upsert": 1}), "{bundle:#}");
    assert_eq!(held["dead_letters"], json!({"constraint": 1}), "{bundle:#}");
    assert_eq!(held["quarantined"], json!({"unique constraint failed": 1}), "{bundle:#}");
    assert_eq!(bundle["findings"][0]["problem"], "missing from index", "{bundle:#}");
    assert_eq!(bundle["findings"][0]["table"], "t1", "{bundle:#}");
    assert_eq!(bundle["failures"][0]["error"], "error sending request", "{bundle:#}");
    assert_eq!(bundle["failures"][0]["seconds_ago"], 4, "{bundle:#}");
}

#[test]
fn names_are_kept_where_somebody_says_so_and_nothing_else_is() {
    let (state, inspection) = with_canaries();
    let bundle = support_bundle(&bundled(&state, &inspection), Names::Kept);
    assert!(bundle["tables"]["canary_table"].is_object(), "{bundle:#}");
    let text = bundle.to_string().replace("canary_table", "");
    assert!(!text.to_lowercase().contains(CANARY), "{bundle:#}");
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let bundle = support_bundle(&Bundled::default(), Names::Hidden);
    assert_eq!((&bundle["format"], &bundle["replica"]), (&json!(1), &Value::Null));
    assert_eq!(bundle["tables"], json!({}));
}

#[test]
fn declared_types_are_told_by_what_they_amount_to() {
    for (declared, told) in [
        ("BOOLEAN", "boolean"),
        ("bigint", "integer"),
        ("VARCHAR(3)", "text"),
        ("", "blob"),
        ("DOUBLE", "real"),
        ("JSONB", "json"),
        ("my own canary", "numeric"),
    ] {
        assert_eq!(affinity(declared), told, "{declared}");
    }
}
