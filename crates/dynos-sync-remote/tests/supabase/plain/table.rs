//! A table of the application's, in the shared project, with nothing installed.

use std::time::Duration;

use dynos_sync_core::{
    Cursor, Fields, Operation, Remote,
    wire::{PushEntry, PushResult},
};
use dynos_sync_remote::SupabaseRemote;
use dynos_sync_testbed::Supabase;
use serde_json::{Value, json};

use crate::support::{Device, User, unique};

/// A table whose rows belong to users, dropped at the end.
pub(crate) struct Table {
    pub(crate) supabase: Supabase,
    /// An id that no row has.
    nobody: &'static str,
    pub(crate) name: String,
}

impl Table {
    /// With rows of which each belongs to the user who made it, and nobody else sees.
    pub(crate) fn new() -> Self {
        Self::with(
            "deleted_at timestamptz, title text, done boolean, size integer check (size > 0), price float8",
        )
    }

    /// With these columns beside `id`, `updated_at` and `user_id`.
    pub(crate) fn with(columns: &str) -> Self {
        Self::of("text", "timestamptz", columns)
    }

    /// With a key and times of these types.
    pub(crate) fn of(key: &str, time: &str, columns: &str) -> Self {
        let (supabase, name) = (Supabase::shared(), unique("plain"));
        let columns = columns.replace("TABLE", &name);
        supabase.sql(&format!(
            "create table {name}_list (id integer primary key);
             insert into {name}_list values (1);
             create table {name}_parent (id text primary key, updated_at timestamptz not null default now());
             create table {name} (
                 id {key} primary key,
                 updated_at {time} not null default now(),
                 user_id uuid not null default auth.uid(),
                 {columns}
             );
             create index on {name} (updated_at, id);
             alter table {name} enable row level security;
             create policy own on {name} to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid());
             grant all on {name}, {name}_parent to authenticated;"
        ));
        supabase.reload();
        let nobody = match key {
            "bigint" => "0",
            "uuid" => "00000000-0000-0000-0000-000000000000",
            _ => "nobody",
        };
        Self { supabase, nobody, name }
    }

    /// A remote of the user's that lists nothing again: what a test writes is committed at once.
    pub(crate) fn remote(&self, user: &User) -> SupabaseRemote {
        self.remote_within(user, Duration::ZERO)
    }

    pub(crate) fn remote_within(&self, user: &User, window: Duration) -> SupabaseRemote {
        user.builder(&self.supabase).plain_within(window).build().unwrap()
    }

    pub(crate) async fn device(&self, user: &User) -> Device {
        self.device_of(self.remote(user)).await
    }

    /// PostgREST learns of a new table a moment later, and refuses to write to it until then.
    pub(crate) async fn device_of(&self, remote: SupabaseRemote) -> Device {
        let mut device = Device::new(remote, &self.name);
        eventually(async || {
            let nobody = device.entry(Operation::Patch, self.nobody, json!({}));
            (device.outcomes(vec![nobody]).await == ["not_found"]).then_some(())
        })
        .await;
        device
    }

    pub(crate) fn sql(&self, statements: &str) -> String {
        self.supabase.sql(&statements.replace("TABLE", &self.name))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.sql("drop table TABLE, TABLE_list, TABLE_parent");
    }
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "it does not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn outcome(result: &PushResult) -> &'static str {
    match result {
        PushResult::Applied { .. } => "applied",
        PushResult::Rejected { code, .. } => code.as_str(),
        PushResult::Duplicate { .. } => "duplicate",
        PushResult::Conflict { .. } => "conflict",
    }
}

/// What a device does in these tests.
impl Device {
    pub(crate) async fn outcomes(&self, entries: Vec<PushEntry>) -> Vec<&'static str> {
        self.push(entries).await.results.iter().map(outcome).collect()
    }

    /// Pushes an edit that builds on what was seen up to a cursor.
    pub(crate) async fn edit(
        &mut self,
        base: Option<&Cursor>,
        op: Operation,
        id: &str,
        data: Value,
    ) -> PushResult {
        let entry = PushEntry { base: base.cloned(), ..self.entry(op, id, data) };
        self.push(vec![entry]).await.results.remove(0)
    }

    /// What changed behind a cursor, and where that ends.
    pub(crate) async fn pull_from(
        &self,
        mut cursor: Option<Cursor>,
        limit: usize,
    ) -> (Vec<(String, Option<Fields>)>, Cursor) {
        let mut changes = Vec::new();
        loop {
            let page = self.remote.pull(self.page(cursor, limit)).await.unwrap();
            changes.extend(
                page.changes.into_iter().map(|change| (change.id.as_str().to_owned(), change.record)),
            );
            if !page.has_more {
                return (changes, page.next);
            }
            cursor = Some(page.next);
        }
    }

    pub(crate) async fn title_of(&self, id: &str) -> Option<Value> {
        let (changes, _) = self.pull_from(None, 1000).await;
        let found = changes.into_iter().find(|(found, _)| found == id)?;
        found.1.map(|record| record["title"].clone())
    }
}
