//! Whether an answer is one to the question.

use dynos_sync_core::{
    RemoteError, TableSpec,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest, Tables},
};

pub(crate) fn tables(answer: Tables) -> Result<Vec<TableSpec>, RemoteError> {
    match answer.tables.iter().position(|spec| spec.validate().is_err()) {
        None => Ok(answer.tables),
        Some(index) => protocol(format!("table {index} of the answer is not a valid declaration")),
    }
}

pub(crate) fn heads(request: &HeadsRequest, answer: Heads) -> Result<Heads, RemoteError> {
    match request.tables.iter().find(|table| !answer.heads.contains_key(table)) {
        None => Ok(answer),
        Some(table) => protocol(format!("the head of table {table} is missing")),
    }
}

pub(crate) fn push(request: &PushRequest, answer: PushAnswer) -> Result<PushAnswer, RemoteError> {
    let (sent, answered) = (request.entries.len(), answer.results.len());
    if sent == answered { Ok(answer) } else { protocol(format!("{answered} results for {sent} entries")) }
}

pub(crate) fn page(request: &PullRequest, answer: Page) -> Result<Page, RemoteError> {
    let (wanted, sent) = (request.limit, answer.changes.len());
    if sent <= wanted {
        Ok(answer)
    } else {
        protocol(format!("{sent} changes where {wanted} were asked for"))
    }
}

fn protocol<T>(problem: String) -> Result<T, RemoteError> {
    Err(RemoteError::Protocol(problem))
}
