//! What a server reads from anybody who holds a token: pushes, pulls, questions for heads, declarations.
//!
//! An input is a user's requests, one a line: `T`, `H`, `P` or `L` and a body. `$c` in it stands for the cursor that was
//! answered last.

use std::collections::BTreeMap;

use dynos_sync_core::{
    TableName,
    plan::pull::check,
    wire::{ErrorBody, Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushResult, RejectCode, Tables},
};
use serde_json::{json, value::RawValue};

use crate::{
    script,
    stage::{Answered, Stage},
};

/// Who looks at the tables from beside.
const WITNESS: &str = "00000000-0000-4000-8000-00000000000f";

/// The body of the target.
pub fn run(data: &[u8]) {
    Stage::with(|stage| {
        let user = stage.newcomer();
        let mut session = Session { stage, user, cursor: String::new(), last: vec![] };
        session.call("/v1/tables", &session.tables());
        if script::lines(data).any(|line| line[0] == b'P') {
            session.last = session.everything();
        }
        for line in script::lines(data) {
            let body = script::replace(&line[1..], b"$c", session.cursor.as_bytes());
            match line[0] {
                b'P' => session.push(&body),
                b'L' => session.pull(&body),
                b'H' => session.heads(&body),
                b'T' => session.declare(&body),
                _ => {}
            }
        }
    });
}

struct Session<'a> {
    stage: &'a Stage,
    user: String,
    cursor: String,
    /// Everything, as it was after the last push, or before the first.
    last: Vec<Vec<Page>>,
}

impl Session<'_> {
    /// What every session begins with: a document table, and one with columns.
    fn tables(&self) -> Vec<u8> {
        let column = |name: &str, kind: &str| json!({"name": name, "type": kind});
        let columns = [column("id", "INTEGER"), column("a", "TEXT"), column("b", "REAL")];
        let tables = json!({"tables": [
            {"name": "d", "shape": {"kind": "document"}},
            {"name": "c", "shape": {"kind": "columns", "columns": columns, "key": ["id"]}},
        ]});
        tables.to_string().into_bytes()
    }

    /// A call. Whatever it was, the server stands, and says in its own words what was wrong.
    fn call(&self, path: &str, body: &[u8]) -> Answered {
        let answer = self.stage.call(self.user.as_bytes(), path, Some(body)).expect("an answer");
        if answer.status != 200 {
            assert!((400..500).contains(&answer.status), "{path} answered {}", answer.status);
            let error: ErrorBody = serde_json::from_slice(&answer.body).expect("an error has a body");
            assert_eq!(error.error.expired.is_some(), answer.status == 410, "{error:?}");
        }
        answer
    }

    /// A repeat of what was declared changes nothing, and what comes back is a declaration.
    fn declare(&self, body: &[u8]) {
        let [first, second] = [(); 2].map(|()| self.call("/v1/tables", body));
        assert_eq!((first.status, &first.body), (second.status, &second.body), "declared twice");
        if first.status == 200 {
            let declared: Tables = serde_json::from_slice(&first.body).expect("declared tables");
            for spec in declared.tables {
                spec.validate().expect("a device takes what the server declares");
            }
        }
    }

    fn heads(&mut self, body: &[u8]) {
        let answer = self.call("/v1/heads", body);
        if answer.status == 200 {
            let request: HeadsRequest = serde_json::from_slice(body).expect("a request that was answered");
            let heads: Heads = serde_json::from_slice(&answer.body).expect("heads");
            let all = request.tables.iter().all(|table| heads.heads.contains_key(table));
            assert!(all && heads.heads.len() <= request.tables.len(), "a head a table");
            self.keep(heads.heads.values().last().map(|cursor| cursor.as_str().to_owned()));
        }
    }

    /// A page is one that a device takes, and pages end.
    fn pull(&mut self, body: &[u8]) {
        let answer = self.call("/v1/pull", body);
        if answer.status != 200 {
            return;
        }
        let mut request: PullRequest = serde_json::from_slice(body).expect("a request that was answered");
        // A page has one change at least.
        request.limit = request.limit.max(1);
        let page: Page = serde_json::from_slice(&answer.body).expect("a page");
        check(&request, &page, 0).expect("a device takes the page");
        let last = page.changes.last().map_or(0, |change| change.seq);
        self.keep(Some(page.next.as_str().to_owned()));
        if page.has_more {
            request.cursor = Some(page.next);
            request.unsettled.clear();
            self.walk(request, last);
        }
    }

    /// Fetches the pages that follow.
    fn walk(&self, mut request: PullRequest, mut last: u64) -> Vec<Page> {
        let mut pages = Vec::new();
        loop {
            let body = serde_json::to_vec(&request).expect("a request");
            let answer = self.call("/v1/pull", &body);
            assert_eq!(answer.status, 200, "a cursor that was handed out is good");
            let page: Page = serde_json::from_slice(&answer.body).expect("a page");
            check(&request, &page, last).expect("a device takes the page");
            last = page.changes.last().map_or(last, |change| change.seq);
            request.cursor = Some(page.next.clone());
            let has_more = page.has_more;
            pages.push(page);
            if !has_more {
                return pages;
            }
            assert!(pages.len() < 1000, "pages do not end");
        }
    }

    /// Everything that the tables hold, and where their histories end.
    fn everything(&self) -> Vec<Vec<Page>> {
        let pages = |name: &str| {
            let request = PullRequest {
                replica: WITNESS.parse().expect("an id"),
                table: name.parse::<TableName>().expect("a name"),
                cursor: None,
                seen: None,
                limit: 1000,
                unsettled: vec![],
                all: true,
            };
            self.walk(request, 0)
        };
        ["d", "c"].map(pages).to_vec()
    }

    /// One result an entry; a call that is refused changes nothing, and neither does one that is repeated.
    fn push(&mut self, body: &[u8]) {
        let first = self.call("/v1/push", body);
        let between = self.everything();
        let second = self.call("/v1/push", body);
        assert_eq!(between, self.everything(), "a repeat changed something");
        assert_eq!(first.status, second.status, "a repeat is answered alike");
        let before = std::mem::replace(&mut self.last, between);
        if first.status != 200 {
            assert_eq!(before, self.last, "a call was refused, and changed something");
            return;
        }
        // A field that the server does not know may hold anything, even what is no text.
        let text = String::from_utf8_lossy(body);
        let request: BTreeMap<String, &RawValue> =
            serde_json::from_str(&text).expect("a request that was answered");
        let entries: Vec<&RawValue> =
            serde_json::from_str(request["entries"].get()).expect("entries that were answered");
        let entries = entries.len();
        let [first, second]: [PushAnswer; 2] =
            [first, second].map(|answer| serde_json::from_slice(&answer.body).expect("an answer"));
        assert_eq!(first.results.len(), entries, "one result an entry");
        assert_eq!(second.results.len(), entries, "one result an entry");
        for (first, second) in first.results.iter().zip(&second.results) {
            assert!(agree(first, second), "{first:?}, and then {second:?}");
        }
        for (table, moved) in &second.heads {
            assert_eq!(moved.before, moved.after, "a repeat moved {table}");
        }
        self.keep(first.heads.values().last().map(|moved| moved.after.as_str().to_owned()));
    }

    fn keep(&mut self, cursor: Option<String>) {
        self.cursor = cursor.unwrap_or_default();
    }
}

/// Whether the second answer is what a repeat gets after the first.
fn agree(first: &PushResult, second: &PushResult) -> bool {
    use PushResult::{Applied, Conflict, Duplicate, Rejected};
    let words = |result: &PushResult| -> Option<(RejectCode, String)> {
        if let Rejected { code, message, .. } = result { Some((*code, message.clone())) } else { None }
    };
    match (first, second) {
        (Applied { seq, .. } | Duplicate { seq, .. }, Duplicate { seq: again, .. }) => seq == again,
        (Rejected { .. }, Rejected { .. }) => words(first) == words(second),
        // A newer entry of the request got through in the meantime.
        (Conflict { .. }, Conflict { .. } | Duplicate { .. }) => true,
        _ => false,
    }
}
