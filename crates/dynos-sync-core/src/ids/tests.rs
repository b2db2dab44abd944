use super::*;

#[test]
fn a_tables_name_has_its_limits() {
    let longest = "t".repeat(Limits::TABLE_NAME_BYTES);
    for name in ["t", "Tasks and more", "ä", "dynos", "sqlite", longest.as_str()] {
        let parsed: TableName = name.parse().unwrap();
        assert_eq!((parsed.as_str(), String::from(parsed.clone())), (name, name.to_owned()));
    }
    let too_long = "t".repeat(Limits::TABLE_NAME_BYTES + 1);
    for name in ["", "a\0", "dynos_queue", "DYNOS_x", "sqlite_master", "SQLite_", too_long.as_str()] {
        assert!(name.parse::<TableName>().is_err(), "{name:?}");
    }
}

#[test]
fn an_id_has_its_limits() {
    let longest = "i".repeat(Limits::RECORD_ID_BYTES);
    for id in ["1", "a\0b", longest.as_str()] {
        let parsed: RecordId = id.parse().unwrap();
        assert_eq!((parsed.as_str(), String::from(parsed.clone())), (id, id.to_owned()));
    }
    for id in ["", "i".repeat(Limits::RECORD_ID_BYTES + 1).as_str()] {
        assert!(id.parse::<RecordId>().is_err(), "{} bytes", id.len());
    }
}

#[test]
fn what_is_too_long_is_refused_with_the_limit() {
    let refused = "t".repeat(129).parse::<TableName>().unwrap_err();
    assert_eq!(refused.to_string(), "invalid table: 129 bytes, the limit is 128 (shorten it)");
}

#[test]
fn a_replicas_id_is_a_uuid_that_its_bytes_decide() {
    let [one, other] = [[1; 16], [2; 16]].map(ReplicaId::from_random);
    assert_ne!(one, other);
    assert_eq!(one.to_string().parse::<ReplicaId>().unwrap(), one);
    assert!("no uuid".parse::<ReplicaId>().is_err());
}
