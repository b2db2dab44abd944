//! Ids and values that backends are known to mangle.

use serde_json::{Value, json};

use super::{
    super::{
        hostile::{self, assert_identical, has_nul},
        patch, upsert,
    },
    Client, Fixture,
    client::{TABLE, entry},
};
use crate::{
    entry::Edit,
    ids::RecordId,
    record::{Fields, fields},
    wire::PushResult,
};

fn records(with_nul: bool) -> Vec<Fields> {
    hostile::records()
        .into_iter()
        .filter(|record| has_nul(&Value::Object(record.clone())) == with_nul)
        .collect()
}

pub async fn every_value_and_field_name_travels_as_it_is(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let records = records(false);
    for (counter, record) in (1..).zip(&records) {
        one.apply(entry(counter, &counter.to_string(), Edit::Replace(record.clone()))).await;
    }
    let page = two.pull(None).await;
    assert_eq!(page.changes.len(), records.len());
    for (change, record) in page.changes.iter().zip(&records) {
        assert_identical(change.record.as_ref(), record);
    }
}

pub async fn every_id_is_a_record_of_its_own(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let ids: Vec<RecordId> = hostile::ids().into_iter().filter(|id| !id.as_str().contains('\0')).collect();
    for (counter, id) in (1..).zip(&ids) {
        one.apply(entry(counter, id.as_str(), upsert(json!({"is": id.as_str()})))).await;
    }
    let page = two.pull(None).await;
    assert_eq!(
        page.changes.iter().map(|change| &change.id).collect::<Vec<_>>(),
        ids.iter().collect::<Vec<_>>()
    );
    for change in page.changes {
        assert_eq!(change.record, Some(fields([("is", change.id.as_str().into())])));
    }
}

/// Some databases cannot store a NUL. They have to say so, not to leave it out.
pub async fn a_nul_travels_or_is_rejected(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let with_nul = hostile::ids().into_iter().filter(|id| id.as_str().contains('\0'));
    let by_id = with_nul.map(|id| (id.to_string(), fields([("a", 1.into())])));
    let by_value =
        records(true).into_iter().enumerate().map(|(number, record)| (format!("value {number}"), record));
    let all: Vec<(String, Fields)> = by_id.chain(by_value).collect();
    assert!(all.len() > 3);
    let mut expected = Vec::new();
    for (counter, (id, record)) in (1..).zip(all) {
        match client.push_one(entry(counter, &id, Edit::Replace(record.clone()))).await {
            PushResult::Applied { .. } => expected.push((id, record)),
            PushResult::Rejected { .. } => {}
            other => panic!("{id:?}: {other:?}"),
        }
    }
    let contents = client.contents_of(TABLE).await;
    assert_eq!(contents.len(), expected.len());
    for (id, record) in expected {
        assert_identical(contents.get(&id.parse::<RecordId>().unwrap()), &record);
    }
}

pub async fn every_value_survives_a_patch_of_another_field(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    for (counter, mut record) in (1..).step_by(2).zip(records(false)) {
        let id = counter.to_string();
        client.apply(entry(counter, &id, Edit::Upsert(record.clone()))).await;
        client.apply(entry(counter + 1, &id, patch(json!({"another": true})))).await;
        record.insert("another".into(), true.into());
        assert_identical(client.record(&id).await.as_ref(), &record);
    }
}
