//! Tables of the application, whose rows PostgreSQL's own rules protect.

use dynos_sync_core::{
    Operation, Remote, TableSpec,
    wire::{PushResult, RejectCode},
};
use dynos_sync_testbed::Supabase;
use serde_json::{Value, json};

use crate::support::{Device, User, fields, unique};

/// A tracked table with a constraint of every kind, and rules that let nobody near another one's rows.
struct Table {
    supabase: Supabase,
    name: String,
}

impl Table {
    fn new() -> Self {
        let (supabase, name) = (Supabase::shared(), unique("tasks"));
        supabase.sql(&format!(
            "create table {name}_list (id integer primary key);
             insert into {name}_list values (1);
             create table {name} (
                 id text primary key,
                 user_id uuid not null default auth.uid(),
                 title text not null,
                 done boolean not null default false,
                 size integer check (size > 0),
                 code text unique,
                 list integer references {name}_list,
                 span int4range,
                 exclude using gist (span with &&)
             );
             alter table {name} enable row level security;
             create policy own on {name} to authenticated
                 using (user_id = auth.uid()) with check (user_id = auth.uid() and title is distinct from 'forbidden');
             grant all on {name} to authenticated;
             create function {name}_guard() returns trigger language plpgsql as $$
             begin
                 if new.title = 'raised' then raise exception 'not this title'; end if;
                 return new;
             end $$;
             create trigger guard before insert or update on {name} for each row execute function {name}_guard();
             select public.dynos_track('{name}', 'user_id');"
        ));
        Self { supabase, name }
    }

    fn device(&self, user: &User) -> Device {
        Device::new(user.remote(&self.supabase), &self.name)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let name = &self.name;
        self.supabase.sql(&format!(
            "select public.dynos_untrack('{name}'); drop table {name}, {name}_list; drop function {name}_guard()"
        ));
    }
}

fn outcome(result: &PushResult) -> &'static str {
    match result {
        PushResult::Applied { .. } => "applied",
        PushResult::Rejected { code, .. } => code.as_str(),
        PushResult::Duplicate { .. } => "duplicate",
        PushResult::Conflict { .. } => "conflict",
    }
}

#[tokio::test]
async fn a_bad_row_is_refused_for_its_reason_and_the_good_ones_are_applied() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user);
    let rows = [
        ("applied", json!({"title": "milk", "code": "a", "size": 1, "list": 1, "span": "[1,5)"})),
        ("constraint", json!({"title": null})),
        ("applied", json!({"title": "bread"})),
        ("constraint", json!({"title": "unique", "code": "a"})),
        ("constraint", json!({"title": "check", "size": 0})),
        ("constraint", json!({"title": "foreign key", "list": 2})),
        ("constraint", json!({"title": "exclusion", "span": "[4,9)"})),
        ("constraint", json!({"title": "raised"})),
        ("forbidden", json!({"title": "forbidden"})),
        ("forbidden", json!({"title": "somebody else's", "user_id": User::new(&table.supabase).id})),
        ("unknown_column", json!({"title": "eggs", "colour": "blue"})),
        ("invalid", json!({"title": "eggs", "size": "many"})),
        ("invalid", json!({"title": "a NUL: \u{0}"})),
        ("applied", json!({"title": "butter", "done": true})),
    ];
    let entries = rows.iter().enumerate();
    let entries = entries.map(|(row, (_, data))| device.upsert(&format!("r{row}"), data.clone())).collect();
    let answer = device.push(entries).await;
    let outcomes: Vec<_> = answer.results.iter().map(outcome).collect();
    assert_eq!(outcomes, rows.each_ref().map(|(expected, _)| *expected), "{:?}", answer.results);

    let new = table.device(&user);
    let (records, _) = new.pull_all(1000).await;
    let titles: Vec<_> =
        records.iter().map(|(id, record)| (id.as_str(), &record.as_ref().unwrap()["title"])).collect();
    assert_eq!(titles, [("r0", &json!("milk")), ("r2", &json!("bread")), ("r13", &json!("butter"))]);
    let first = records[0].1.clone().unwrap();
    assert_eq!(first["user_id"], Value::String(user.id), "the owner is the caller");
}

#[tokio::test]
async fn users_see_nothing_of_each_other() {
    let table = Table::new();
    let (ada, bob) = (User::new(&table.supabase), User::new(&table.supabase));
    let (mut adas, mut bobs) = (table.device(&ada), table.device(&bob));
    let entry = adas.upsert("r", json!({"title": "hers"}));
    assert_eq!(outcome(&adas.push(vec![entry]).await.results[0]), "applied");
    assert!(bobs.pull_all(10).await.0.is_empty());

    // The same id, and rows that are not his.
    for op in [Operation::Upsert, Operation::Patch, Operation::Delete] {
        let entry = bobs.entry(op, "r", json!({"title": "his"}));
        let answer = bobs.push(vec![entry]).await;
        let told = serde_json::to_string(&answer).unwrap();
        assert!(!told.contains("hers") && !told.contains(&ada.id), "{told}");
    }
    let (records, _) = adas.pull_all(10).await;
    assert_eq!(records[0].1.as_ref().unwrap()["title"], "hers");
}

#[tokio::test]
async fn what_is_written_past_the_devices_reaches_them() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let (name, id) = (&table.name, &user.id);
    table
        .supabase
        .sql(&format!("insert into {name} (id, user_id, title) values ('web', '{id}', 'from the web')"));
    let device = table.device(&user);
    let (records, _) = device.pull_all(10).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].1.as_ref().unwrap()["title"], "from the web");

    table.supabase.sql(&format!("delete from {name} where id = 'web'"));
    assert_eq!(device.pull_all(10).await.0, [("web".to_owned(), None)]);
}

#[tokio::test]
async fn devices_learn_what_the_table_looks_like() {
    let table = Table::new();
    let remote = User::new(&table.supabase).remote(&table.supabase);
    let spec =
        remote.tables().await.unwrap().into_iter().find(|spec| spec.name.as_str() == table.name).unwrap();
    remote.declare(&[spec]).await.unwrap();
}

#[tokio::test]
async fn documents_need_no_table() {
    let supabase = Supabase::shared();
    let user = User::new(&supabase);
    let mut device = Device::with_documents(user.remote(&supabase), "notes").await;
    let entries = vec![
        device.upsert("a", json!({"body": {"deep": [1, 2.5, null, "ü"]}, "big": 9_007_199_254_740_993_i64})),
        device.upsert("b", json!({"body": "a NUL: \u{0}"})),
        device.upsert("c", json!({})),
    ];
    let sent = entries[0].data.clone();
    let answer = device.push(entries).await;
    assert!(
        matches!(
            answer.results.as_slice(),
            [
                PushResult::Applied { .. },
                PushResult::Rejected { code: RejectCode::Invalid, .. },
                PushResult::Applied { .. }
            ]
        ),
        "{answer:?}"
    );
    let (records, _) = device.pull_all(10).await;
    assert_eq!(records, [("a".to_owned(), sent), ("c".to_owned(), Some(fields(json!({}))))]);
    let tables = device.remote.tables().await.unwrap();
    assert!(tables.contains(&TableSpec::document("notes".parse().unwrap())), "{tables:?}");
}
