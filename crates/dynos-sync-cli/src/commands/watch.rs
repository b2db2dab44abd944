//! `dynos sync --watch`: until interrupted.

use std::{pin::pin, sync::Arc};

use dynos_sync::{
    SyncEngine, SyncEvent, TimedEvent,
    core::{Remote, replica::State, wire::HeadsRequest},
    sqlite::SqliteReplica,
};
use serde_json::{Value, json};

use super::queue::operation;
use crate::{
    cli::SyncArgs,
    connection::Connection,
    database,
    error::{Code, Failure, wrong_server},
    output::{Output, count, plain},
    signals, time,
};

pub(crate) async fn run(args: &SyncArgs, output: &Output) -> Result<(), Failure> {
    let shutdown = signals::shutdown()?;
    let connection = Connection::resolve(&args.remote, &args.database)?;
    let remote = connection.open().await?;
    database::with_tracked(&args.database, async |replica, state| {
        if state.tables.is_empty() {
            return Err(database::not_tracked(&args.database));
        }
        let (checked, mut shutdown) = (check_server(&*remote, &state), pin!(shutdown));
        tokio::select! {
            checked = checked => match checked {
                // It will be looked at again when it can be reached.
                Err(failure) if failure.code() == Code::Unreachable => {}
                checked => checked?,
            },
            () = &mut shutdown => return Ok(()),
        }
        let engine = start(args, replica, remote.clone()).await?;
        let done = follow(&engine, output, shutdown).await;
        engine.close().await;
        done
    })
    .await
}

/// Ends at once where it could never succeed: with another server, or without a valid token.
async fn check_server(remote: &dyn Remote, state: &State) -> Result<(), Failure> {
    let heads = remote.heads(HeadsRequest { replica: state.replica, tables: Vec::new() }).await?;
    match &state.server {
        Some(bound) if *bound != heads.server => Err(wrong_server(bound, &heads.server)),
        _ => Ok(()),
    }
}

async fn start(
    args: &SyncArgs,
    replica: &SqliteReplica,
    remote: Arc<dyn Remote>,
) -> Result<SyncEngine, Failure> {
    let builder = SyncEngine::builder_on(Arc::new(replica.clone()), remote);
    Ok(builder.configure(|config| config.conflict_strategy = args.strategy.strategy()).start().await?)
}

async fn follow(
    engine: &SyncEngine,
    output: &Output,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let mut events = engine.events();
    let mut shutdown = pin!(shutdown);
    // The engine says when this changes, but may have noticed before anybody listened.
    let mut online = true;
    if engine.status().await?.connection == dynos_sync::ConnectionState::Offline {
        let error = "the server cannot be reached".to_owned();
        online = tell(output, &TimedEvent { at: time::now(), event: SyncEvent::Offline { error } }, online)?;
    }
    loop {
        let next = tokio::select! {
            next = events.next() => next,
            () = &mut shutdown => None,
        };
        let Some(event) = next else { return Ok(()) };
        online = tell(output, &event, online)?;
        if let SyncEvent::AuthRequired { error } = event.event {
            return Err(Failure::signed_out(format!("the token is not accepted: {error}")));
        }
    }
}

/// Prints an event. Answers whether the server can be reached.
fn tell(output: &Output, timed: &TimedEvent, online: bool) -> Result<bool, Failure> {
    let now_online = match timed.event {
        SyncEvent::Online => true,
        SyncEvent::Offline { .. } => false,
        _ => online,
    };
    let changed_or_other =
        now_online != online || !matches!(timed.event, SyncEvent::Online | SyncEvent::Offline { .. });
    if !changed_or_other {
        return Ok(now_online);
    }
    if output.is_json() {
        if let Some(document) = document(timed) {
            output.result(&document, "")?;
        }
    } else if let Some(text) = text(&timed.event) {
        output.say(format_args!("{}  {}", time::rfc3339(timed.at), plain(&text)))?;
    }
    Ok(now_online)
}

fn document(timed: &TimedEvent) -> Option<Value> {
    let (name, mut fields) = match &timed.event {
        SyncEvent::DrainComplete(report) => (
            "drain_complete",
            json!({"pushed": report.pushed, "conflicts": report.conflicts, "retried": report.retried, "dead_letters": report.dead_letters}),
        ),
        SyncEvent::PullComplete { table, row_count } => {
            ("pull_complete", json!({"table": table, "pulled": row_count}))
        }
        SyncEvent::SyncComplete(report) => (
            "sync_complete",
            json!({"pushed": report.drain.pushed, "pulled": report.pull.rows(), "conflicts": report.pull.conflicts()}),
        ),
        SyncEvent::AuthRequired { error } => ("auth_required", json!({"error": error})),
        SyncEvent::Conflict { table, record_id, base, local, remote, resolved, strategy_used } => (
            "conflict",
            json!({
                "table": table, "record_id": record_id, "base": base, "local": local, "remote": remote,
                "outcome": resolved, "strategy": strategy_used.as_str(),
            }),
        ),
        SyncEvent::PoisonPill { entry, error } => ("dead_letter", with_entry(entry, error)),
        SyncEvent::RetryScheduled { entry, next_retry_at, error } => {
            let mut fields = with_entry(entry, error);
            fields["retry_at"] = time::rfc3339(*next_retry_at).into();
            ("retry_scheduled", fields)
        }
        SyncEvent::SyncError { error, context } => ("error", json!({"error": error, "context": context})),
        SyncEvent::Pushed { key } => ("pushed", json!({"table": key.table, "record_id": key.id})),
        SyncEvent::Progress { table, rows } => ("progress", json!({"table": table, "pulled": rows})),
        SyncEvent::Resync { table, phase } => ("resync", json!({"table": table, "phase": phase})),
        SyncEvent::ForeignRow { key } => ("foreign_row", json!({"table": key.table, "record_id": key.id})),
        SyncEvent::UnknownColumns { table, columns } => {
            ("unknown_columns", json!({"table": table, "columns": columns}))
        }
        SyncEvent::Quarantined { key, error } => {
            ("quarantined", json!({"table": key.table, "record_id": key.id, "error": error}))
        }
        SyncEvent::Online => ("online", json!({})),
        SyncEvent::Offline { error } => ("offline", json!({"error": error})),
        SyncEvent::Missed { count } => ("missed", json!({"count": count})),
        _ => return None,
    };
    fields["event"] = name.into();
    fields["at"] = time::rfc3339(timed.at).into();
    Some(fields)
}

fn with_entry(entry: &dynos_sync::core::Entry, error: &str) -> Value {
    json!({
        "table": entry.key.table,
        "record_id": entry.key.id,
        "operation": operation(entry.edit.operation()),
        "attempts": entry.attempts,
        "error": error,
    })
}

fn text(event: &SyncEvent) -> Option<String> {
    Some(match event {
        SyncEvent::DrainComplete(report) if report.pushed > 0 => {
            format!("pushed {}", count(report.pushed as u64, "change"))
        }
        SyncEvent::PullComplete { table, row_count } if *row_count > 0 => {
            format!("pulled {} of {table}", count(*row_count as u64, "change"))
        }
        SyncEvent::Conflict { table, record_id, strategy_used, .. } => {
            format!("conflict in {table}/{record_id}, decided by {}", strategy_used.as_str())
        }
        SyncEvent::PoisonPill { entry, error } => format!("refused for good: {}: {error}", entry.key),
        SyncEvent::RetryScheduled { entry, next_retry_at, error } => {
            format!("refused: {}: {error}; again at {}", entry.key, time::rfc3339(*next_retry_at))
        }
        SyncEvent::SyncError { error, context } => format!("{context} failed: {error}"),
        SyncEvent::Resync { table, .. } => format!("pulling {table} from the beginning"),
        SyncEvent::ForeignRow { key } => format!("left out, it belongs to somebody else: {key}"),
        SyncEvent::UnknownColumns { table, columns } => {
            format!("left out, {table} has no such columns: {}", columns.join(", "))
        }
        SyncEvent::Quarantined { key, error } => format!("kept aside, the table refuses it: {key}: {error}"),
        SyncEvent::Online => "online".to_owned(),
        SyncEvent::Offline { error } => format!("offline: {error}"),
        SyncEvent::Missed { count } => format!("{count} events were not shown"),
        SyncEvent::SyncComplete(report) => {
            format!("in sync: {} pushed, {} pulled", report.drain.pushed, report.pull.rows())
        }
        _ => return None,
    })
}
