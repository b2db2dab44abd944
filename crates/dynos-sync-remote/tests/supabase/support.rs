//! Users, tables and devices of one's own.

use std::time::{SystemTime, UNIX_EPOCH};

use dynos_sync_core::{
    Cursor, Fields, Operation, Remote, ReplicaId, TableSpec,
    wire::{Page, PullRequest, PushAnswer, PushEntry, PushRequest},
};
use dynos_sync_remote::{SupabaseRemote, SupabaseRemoteBuilder};
use dynos_sync_testbed::Supabase;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// A word that nothing else is named.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::new_v4().simple())
}

/// The seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// A token as the authentication makes them.
pub(crate) fn token(supabase: &Supabase, user: &str, role: &str, expires: i64) -> String {
    let claims = json!({"sub": user, "role": role, "aud": "authenticated", "exp": expires});
    let key = EncodingKey::from_secret(supabase.jwt_secret.as_bytes());
    encode(&Header::default(), &claims, &key).unwrap()
}

/// The shared project at another URL.
pub(crate) fn at(url: &str) -> Supabase {
    let mut supabase = Supabase::shared();
    url.clone_into(&mut supabase.url);
    supabase
}

/// A user who signed in.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl User {
    pub(crate) fn new(supabase: &Supabase) -> Self {
        Self::with_role(supabase, "authenticated")
    }

    pub(crate) fn with_role(supabase: &Supabase, role: &str) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        Self { token: token(supabase, &id, role, now() + 3600), id }
    }

    pub(crate) fn remote(&self, supabase: &Supabase) -> SupabaseRemote {
        self.builder(supabase).build().unwrap()
    }

    pub(crate) fn builder(&self, supabase: &Supabase) -> SupabaseRemoteBuilder {
        SupabaseRemote::builder(&supabase.url, supabase.anon_key.as_str()).token(self.token.as_str())
    }
}

/// A device of a user's.
pub(crate) struct Device {
    pub(crate) remote: SupabaseRemote,
    pub(crate) replica: ReplicaId,
    pub(crate) table: String,
    counter: i64,
}

impl Device {
    pub(crate) fn new(remote: SupabaseRemote, table: &str) -> Self {
        let replica = ReplicaId::from_random(*uuid::Uuid::new_v4().as_bytes());
        Self { remote, replica, table: table.to_owned(), counter: 0 }
    }

    /// One whose table is kept as documents.
    pub(crate) async fn with_documents(remote: SupabaseRemote, table: &str) -> Self {
        remote.declare(&[TableSpec::document(table.parse().unwrap())]).await.unwrap();
        Self::new(remote, table)
    }

    pub(crate) fn entry(&mut self, op: Operation, id: &str, data: Value) -> PushEntry {
        self.counter += 1;
        PushEntry {
            counter: self.counter.try_into().unwrap(),
            table: self.table.parse().unwrap(),
            id: id.parse().unwrap(),
            op,
            base: None,
            at: 1_700_000_000_000,
            data: (op != Operation::Delete).then(|| fields(data)),
            transaction: None,
        }
    }

    pub(crate) fn upsert(&mut self, id: &str, data: Value) -> PushEntry {
        self.entry(Operation::Upsert, id, data)
    }

    pub(crate) fn request(&self, entries: Vec<PushEntry>) -> PushRequest {
        PushRequest::new(self.replica, entries)
    }

    pub(crate) async fn push(&self, entries: Vec<PushEntry>) -> PushAnswer {
        self.remote.push(&self.request(entries)).await.unwrap()
    }

    pub(crate) fn page(&self, cursor: Option<Cursor>, limit: usize) -> PullRequest {
        let table = self.table.parse().unwrap();
        PullRequest {
            replica: self.replica,
            table,
            cursor,
            seen: None,
            limit,
            unsettled: Vec::new(),
            all: true,
        }
    }

    /// Everything, as a new device pulls it, and the number of pages.
    pub(crate) async fn pull_all(&self, limit: usize) -> (Vec<(String, Option<Fields>)>, usize) {
        let (mut records, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let Page { changes, next, has_more, .. } =
                self.remote.pull(self.page(cursor, limit)).await.unwrap();
            records.extend(changes.into_iter().map(|change| (change.id.as_str().to_owned(), change.record)));
            pages += 1;
            cursor = Some(next);
            if !has_more {
                return (records, pages);
            }
        }
    }
}

pub(crate) fn fields(data: Value) -> Fields {
    match data {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}
