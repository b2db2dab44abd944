//! What goes wrong for a whole call.

use std::time::{Duration, Instant};

use dynos_sync_core::{Operation, Remote, RemoteError, wire::PushResult};
use dynos_sync_remote::SupabaseRemote;
use dynos_sync_testbed::{Database, Project, Supabase};
use serde_json::json;

use crate::support::{Device, User, at, now, token, unique};

fn is_auth(error: &RemoteError) -> bool {
    matches!(error, RemoteError::AuthExpired { .. })
}

fn refusal(error: &RemoteError) -> &str {
    match error {
        RemoteError::Refused { code, .. } => code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn nobody_syncs_without_signing_in() {
    let supabase = Supabase::shared();
    let builder = || SupabaseRemote::builder(&supabase.url, supabase.anon_key.as_str());
    let remote = builder().token(supabase.anon_key.as_str()).build().unwrap();
    let device = Device::new(remote, "tasks");
    assert!(is_auth(&device.remote.tables().await.unwrap_err()));
    assert!(is_auth(&device.remote.pull(device.page(None, 10)).await.unwrap_err()));
    assert!(is_auth(&device.remote.push(&device.request(Vec::new())).await.unwrap_err()));
    assert!(builder().build().is_err(), "there is no token");
}

#[tokio::test]
async fn an_expired_and_a_forged_token_are_no_session() {
    let supabase = Supabase::shared();
    let expired = token(&supabase, &uuid::Uuid::new_v4().to_string(), "authenticated", now() - 3600);
    let mut forged = supabase.clone();
    forged.jwt_secret = "another secret that is long enough".repeat(2);
    for token in [expired, User::new(&forged).token, "no token at all".to_owned()] {
        let remote = SupabaseRemote::builder(&supabase.url, supabase.anon_key.as_str());
        let error = remote.token(token.as_str()).build().unwrap().tables().await.unwrap_err();
        assert!(is_auth(&error), "{error}");
        assert!(!error.to_string().contains(&token), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_key_of_the_project_is_said_to_be_that() {
    let supabase = Supabase::shared();
    let user = User::new(&supabase);
    let remote = SupabaseRemote::builder(&supabase.url, "wrong").token(user.token).build().unwrap();
    assert_eq!(refusal(&remote.tables().await.unwrap_err()), "api_key");
}

#[tokio::test]
async fn a_project_without_the_functions_says_how_to_get_them() {
    let database = Database::create();
    let project = Project::start(database.url());
    let supabase = at(project.url());
    let error = User::new(&supabase).remote(&supabase).tables().await.unwrap_err();
    assert_eq!(refusal(&error), "not_installed");
    assert!(error.to_string().contains("dynos supabase init"), "{error}");
}

#[tokio::test]
async fn a_project_that_is_down_may_come_back() {
    let database = Database::create();
    database.sql(&dynos_sync_sql::script());
    let mut project = Project::start(database.url());
    let supabase = at(project.url());
    let remote = User::new(&supabase).remote(&supabase);
    remote.tables().await.unwrap();
    project.stop_rest();
    assert!(remote.tables().await.unwrap_err().is_transient());
    project.start_rest(database.url());
    remote.tables().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_gone_is_waited_for() {
    let mut postgres = dynos_sync_testbed::Postgres::start();
    let database = postgres.url().to_owned();
    postgres
        .sql("create role anon nologin; create role authenticated nologin; create role service_role nologin");
    postgres.sql(&dynos_sync_sql::script());
    let project = Project::start(&database);
    let supabase = at(project.url());
    let remote = User::new(&supabase).remote(&supabase);
    remote.tables().await.unwrap();
    postgres.stop_immediate();
    let error = remote.tables().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

/// A role that has half a second for a statement, and a table whose rows take their time.
struct Slow {
    supabase: Supabase,
    name: String,
}

impl Slow {
    fn new() -> Self {
        let (supabase, name) = (Supabase::shared(), unique("slow"));
        supabase.sql(&format!(
            "create role {name} nologin;
             grant {name} to authenticator;
             alter role {name} set statement_timeout = '500ms';
             grant usage on schema public to {name};
             select public.dynos_grant('{name}');
             create table {name} (id text primary key, user_id text not null, seconds float8 not null);
             grant all on {name} to {name};
             create function {name}() returns trigger language plpgsql as $$
             begin perform pg_sleep(new.seconds); return new; end $$;
             create trigger slow before insert on {name} for each row execute function {name}();
             select public.dynos_track('{name}', 'user_id');
             notify pgrst, 'reload config';"
        ));
        Self { supabase, name }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let name = &self.name;
        self.supabase.sql(&format!(
            "select public.dynos_untrack('{name}'); drop table {name}; drop function {name}();
             drop owned by {name}; drop role {name}; notify pgrst, 'reload config'"
        ));
    }
}

#[tokio::test]
async fn a_push_that_takes_too_long_may_pass_in_parts() {
    let slow = Slow::new();
    let user = User::with_role(&slow.supabase, &slow.name);
    let mut device = Device::new(user.remote(&slow.supabase), &slow.name);
    let entries = |device: &mut Device, count: usize, seconds: f64| {
        (0..count).map(|n| device.upsert(&format!("r{n}"), json!({"seconds": seconds}))).collect()
    };
    // PostgREST learns of the role's limit a moment after it was made.
    let deadline = Instant::now() + Duration::from_secs(30);
    let error = loop {
        let request = entries(&mut device, 2, 0.6);
        let request = device.request(request);
        match device.remote.push(&request).await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < deadline, "the limit does not hold"),
        }
        let gone = (0..2).map(|n| device.entry(Operation::Delete, &format!("r{n}"), json!({}))).collect();
        device.push(gone).await;
    };
    assert!(matches!(error, RemoteError::TooLarge), "{error}");
    let request = entries(&mut device, 1, 0.6);
    let request = device.request(request);
    let error = device.remote.push(&request).await.unwrap_err();
    assert!(error.is_transient(), "a single entry is not the batch's fault: {error}");
    let request = entries(&mut device, 2, 0.0);
    assert!(
        device.push(request).await.results.iter().all(|result| matches!(result, PushResult::Applied { .. }))
    );
}
