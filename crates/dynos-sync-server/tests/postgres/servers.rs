//! Several servers on one database, and a database that is not always there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynos_sync_core::{
    Operation, Remote, RemoteError, ReplicaId, TableSpec, fields, json,
    wire::{Hint, PushEntry, PushRequest, PushResult},
};
use dynos_sync_remote::HttpRemote;
use dynos_sync_server::{
    Server,
    store::{PostgresStore, postgres::PostgresOptions},
};
use dynos_sync_testbed::Postgres;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio::time::timeout;

use crate::{
    database::Database,
    support::{Home, Running},
};

async fn serve(home: &Home, options: &PostgresOptions) -> Running {
    let config = home.config();
    let store = PostgresStore::connect(options, &config).await.unwrap();
    home.serve(Server::with_store(Arc::new(store), config).unwrap()).await
}

fn remote(server: &Running, user: &str) -> HttpRemote {
    HttpRemote::builder(server.url("")).token(server.token(user)).build().unwrap()
}

fn request(counter: u64, ids: &[&str]) -> PushRequest {
    let entry = |(counter, id): (u64, &&str)| PushEntry {
        counter,
        table: "notes".parse().unwrap(),
        id: id.parse().unwrap(),
        op: Operation::Upsert,
        base: None,
        at: 5,
        data: Some(fields([("n", json!(1))])),
        transaction: None,
    };
    let entries = (counter..).zip(ids).map(entry).collect();
    PushRequest::new(ReplicaId::from_random([7; 16]), entries)
}

async fn declare(remote: &HttpRemote) {
    remote.declare(&[TableSpec::document("notes".parse().unwrap())]).await.unwrap();
}

async fn next(hints: &mut BoxStream<'static, Hint>) -> Vec<String> {
    let hint =
        timeout(Duration::from_secs(20), hints.next()).await.expect("a hint in time").expect("a stream");
    hint.tables.iter().map(ToString::to_string).collect()
}

/// Reads on until a hint names the table.
async fn hinted(hints: &mut BoxStream<'static, Hint>, table: &str) {
    while next(hints).await != [table] {}
}

#[tokio::test]
async fn a_change_is_a_hint_on_every_server() {
    let (database, home) = (Database::new(), Home::new());
    let options = PostgresOptions::new(database.url());
    let (one, two) = (serve(&home, &options).await, serve(&home, &options).await);
    let ada = remote(&one, "ada");
    declare(&ada).await;
    let mut hints = remote(&two, "ada").hints();
    let mut bobs = remote(&two, "bob").hints();
    // The stream begins somewhere between a push and the next.
    let heard = async { hinted(&mut hints, "notes").await };
    let pushing = async {
        for counter in 1.. {
            ada.push(&request(counter, &["x"])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! { () = heard => {}, () = pushing => {} }
    // And what a program does beside the servers.
    database.sql("UPDATE dynos.document SET data = '{}'").await;
    hinted(&mut hints, "notes").await;
    let stranger = timeout(Duration::from_millis(300), bobs.next()).await;
    assert!(!matches!(&stranger, Ok(Some(hint)) if !hint.tables.is_empty()), "another user's: {stranger:?}");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn servers_that_start_at_once_install_once() {
    let (database, home) = (Database::new(), Home::new());
    let options = PostgresOptions::new(database.url());
    let starting = (0..4).map(|_| async {
        let config = home.config();
        PostgresStore::connect(&options, &config).await.map(drop)
    });
    for started in futures_util::future::join_all(starting).await {
        started.unwrap();
    }
    assert_eq!(database.number("SELECT count(*) FROM dynos.meta").await, 1);
    assert_eq!(database.number("SELECT count(*) FROM dynos.incarnation").await, 1);
}

/// Version 1 knew no transactions.
#[tokio::test]
async fn an_older_installation_is_brought_up_to_date() {
    let (database, home) = (Database::new(), Home::new());
    let options = PostgresOptions::new(database.url());
    serve(&home, &options).await.stop().await;
    database.sql("UPDATE dynos.meta SET version = 1; ALTER TYPE dynos.entry DROP ATTRIBUTE unit").await;
    let server = serve(&home, &options).await;
    let ada = remote(&server, "ada");
    declare(&ada).await;
    let mut together = request(1, &["a", "b"]);
    together.entries.iter_mut().for_each(|entry| entry.transaction = Some(1));
    let answer = ada.push(&together).await.unwrap();
    assert!(answer.results.iter().all(PushResult::is_done), "{answer:?}");
    assert_eq!(database.number("SELECT version::bigint FROM dynos.meta").await, 3);
    server.stop().await;
}

#[tokio::test]
async fn a_restart_of_postgres_passes() {
    let (mut postgres, home) = (Postgres::start(), Home::new());
    let mut options = PostgresOptions::new(postgres.url());
    options.connections = 2;
    options.wait_time = Duration::from_millis(500);
    let server = serve(&home, &options).await;
    let ada = remote(&server, "ada");
    declare(&ada).await;
    ada.push(&request(1, &["x"])).await.unwrap();
    let mut hints = ada.hints();
    assert!(next(&mut hints).await.is_empty(), "so begins every stream");
    for immediately in [false, true] {
        if immediately {
            postgres.stop_immediate();
            let error = ada.push(&request(2, &["y"])).await.expect_err("the database is down");
            assert!(error.is_transient(), "{error:?}");
            postgres.start_again();
        } else {
            postgres.restart();
        }
        // The listener has missed what happened meanwhile, and says so.
        while !next(&mut hints).await.is_empty() {}
        let start = Instant::now();
        let results = loop {
            match ada.push(&request(2, &["y"])).await {
                Ok(answer) => break answer.results,
                Err(error) => {
                    assert!(error.is_transient() && start.elapsed() < Duration::from_secs(20), "{error:?}");
                }
            }
        };
        assert!(
            matches!(results[..], [PushResult::Applied { .. } | PushResult::Duplicate { .. }]),
            "{results:?}"
        );
        // A cursor from before the restart goes on: nothing was lost.
        let page = ada.pull(dynos_sync_core::wire::PullRequest {
            replica: ReplicaId::from_random([8; 16]),
            table: "notes".parse().unwrap(),
            cursor: None,
            seen: None,
            limit: 10,
            unsettled: Vec::new(),
            all: true,
        });
        assert_eq!(page.await.unwrap().changes.len(), 2);
        hinted_by_a_push(&ada, &mut hints).await;
    }
    server.stop().await;
}

async fn hinted_by_a_push(remote: &HttpRemote, hints: &mut BoxStream<'static, Hint>) {
    remote.push(&request(next_counter(), &["x"])).await.unwrap();
    hinted(hints, "notes").await;
}

fn next_counter() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(100);
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test]
async fn a_push_that_takes_too_long_comes_again_in_halves() {
    let (database, home) = (Database::new(), Home::new());
    let mut options = PostgresOptions::new(database.url());
    options.statement_time = Duration::from_millis(300);
    let server = serve(&home, &options).await;
    let ada = remote(&server, "ada");
    declare(&ada).await;
    ada.push(&request(1, &["x", "y"])).await.unwrap();
    // Somebody holds a row for longer than a statement may wait.
    let client = database.client().await;
    client.batch_execute("BEGIN; SELECT FROM dynos.document WHERE id = 'x' FOR UPDATE").await.unwrap();
    let error = ada.push(&request(3, &["x", "y"])).await.expect_err("the row is locked");
    assert!(matches!(error, RemoteError::TooLarge), "{error:?}");
    let error = ada.push(&request(3, &["x"])).await.expect_err("the row is locked");
    assert!(error.is_transient(), "there is nothing to halve: {error:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    let results = ada.push(&request(3, &["x", "y"])).await.unwrap().results;
    assert!(results.iter().all(|result| matches!(result, PushResult::Applied { .. })), "{results:?}");
    server.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_pool_are_asked_to_come_back() {
    let (database, home) = (Database::new(), Home::new());
    let mut options = PostgresOptions::new(database.url());
    (options.connections, options.wait_time) = (1, Duration::from_millis(50));
    let server = serve(&home, &options).await;
    let ada = remote(&server, "ada");
    declare(&ada).await;
    ada.push(&request(1, &["x"])).await.unwrap();
    let client = database.client().await;
    client.batch_execute("BEGIN; SELECT FROM dynos.document WHERE id = 'x' FOR UPDATE").await.unwrap();
    let waiting = request(2, &["x"]);
    let holding = ada.push(&waiting);
    let refused = async {
        loop {
            if let Err(error) = ada.tables().await {
                return error;
            }
        }
    };
    tokio::pin!(holding);
    let error = tokio::select! { _ = &mut holding => panic!("the row is locked"), error = refused => error };
    assert!(error.retry_after().is_some(), "{error:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    holding.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_told_plainly_and_without_its_password() {
    let config = Home::new().config();
    for (url, part) in [
        ("postgres://u:canary@127.0.0.1:1/x", "cannot be reached"),
        ("nonsense canary", "is not of the form"),
        ("postgres://u:canary@127.0.0.1:1/x?sslmode=what", "is not of the form"),
    ] {
        let error = PostgresStore::connect(&PostgresOptions::new(url), &config).await.expect_err(url);
        let message = format!("{error} {error:?}");
        assert!(message.contains(part) && !message.contains("canary"), "{message}");
    }
}
