use super::*;
use crate::{
    cursor::Cursor,
    entry::{Edit, Sent},
    ids::ReplicaId,
    record::fields,
    replica::TablePolicy,
    table::{Shape, TableSpec},
};

const NOW: Millis = 1_000_000;

fn key() -> RecordKey {
    RecordKey::new("tasks", "7").unwrap()
}

fn state() -> State {
    let spec = TableSpec { name: key().table, shape: Shape::Document };
    let table = TableState {
        spec,
        policy: TablePolicy { user: Some("ada".to_owned()), ..TablePolicy::default() },
        cursor: Some(Cursor::new("c")),
        ahead: None,
        gained: std::collections::BTreeSet::new(),
        phase: Phase::Following,
        declared: true,
        synced_at: Some(5),
    };
    State {
        replica: ReplicaId::from_random([1; 16]),
        generation: 0,
        server: None,
        clock: 0,
        last_counter: 0,
        last_sent: 0,
        schema: 0,
        tables: vec![table],
        pending: 0,
        dead_letters: 0,
        conflicts: 0,
        quarantined: 0,
    }
}

fn entry() -> Entry {
    let edit = Edit::Patch(fields([("a", 1.into())]));
    Entry { counter: 3, key: key(), edit, at: 10, sent: None, attempts: 0, retry_at: None, transaction: None }
}

fn account() -> Account {
    Account { row: Some(fields([("a", 1.into())])), ..Account::empty(key()) }
}

fn pending(change: impl FnOnce(&mut Entry)) -> Account {
    let mut entry = entry();
    change(&mut entry);
    Account { base: Some(fields([("a", 0.into())])), entries: vec![entry], ..account() }
}

fn failed(needs_sign_in: bool) -> Option<Failed> {
    Some(Failed { at: 9, kind: "unreachable", error: "no route".to_owned(), needs_sign_in })
}

fn explain_in(change: impl FnOnce(&mut State), account: Account, recent: Recent) -> Explanation {
    let mut state = state();
    change(&mut state);
    Explanation::new(key(), &state, Some(account), recent, NOW)
}

fn explain(account: Account, recent: Recent) -> Explanation {
    explain_in(|_| (), account, recent)
}

#[track_caller]
fn concludes(explanation: &Explanation, word: &str, sentence: &str) {
    let conclusion = &explanation.conclusion;
    assert_eq!((conclusion.word(), conclusion.to_string().as_str()), (word, sentence));
    assert_eq!(conclusion.is_synced(), word == "synced");
    assert!(!conclusion.remedy().is_empty());
}

#[test]
fn what_is_pending_says_what_it_waits_for() {
    let none = Recent::default;
    concludes(&explain(pending(|_| ()), none()), "waiting", "queued, and not sent yet");

    let offline = Recent { failure: failed(false), resume_at: Some(NOW + 39_500), ..none() };
    let waits = explain(pending(|_| ()), offline);
    concludes(&waits, "failing", "waits for the network: last error no route; next attempt in 40 s");
    assert_eq!(waits.next_attempt, Some(NOW + 39_500));

    let sent = |entry: &mut Entry| entry.sent = Some(Sent { base: None });
    concludes(&explain(pending(sent), none()), "unanswered", "sent, and not answered yet");
    let server = Some(Failed { kind: "server", ..failed(false).unwrap() });
    let fails = explain(pending(sent), Recent { failure: server, ..none() });
    concludes(
        &fails,
        "failing",
        "sent, and not answered; syncing fails: last error no route; next attempt with the next sync",
    );

    let refused = |entry: &mut Entry| (entry.attempts, entry.retry_at) = (3, Some(NOW + 600_000));
    let refusal = Some(Failed { error: "constraint: no".to_owned(), ..failed(false).unwrap() });
    let waits = explain(pending(refused), Recent { refusal: refusal.clone(), ..none() });
    concludes(&waits, "refused", "refused 3 times: constraint: no; next attempt in 10 min");
    assert_eq!(waits.last_answer, refusal);
    let released = |entry: &mut Entry| entry.attempts = 1;
    concludes(
        &explain(pending(released), none()),
        "refused",
        "refused once; next attempt with the next sync",
    );

    let signed_out = Recent { failure: failed(true), ..none() };
    concludes(
        &explain(pending(refused), signed_out),
        "signed_out",
        "waits until somebody signs in: no route",
    );

    let walking = explain_in(|state| state.tables[0].phase = Phase::Resync, pending(|_| ()), none());
    concludes(&walking, "walking", "waits until the table was pulled from the beginning again");

    let damaged = Account { damaged: 1, ..pending(|_| ()) };
    concludes(&explain(damaged, none()), "damaged", "what is queued of the record is not as it was written");
}

#[test]
fn what_is_not_pending_says_why() {
    let none = Recent::default;
    let untracked = Explanation::new(RecordKey::new("notes", "7").unwrap(), &state(), None, none(), NOW);
    concludes(&untracked, "not_tracked", "the table is not synced on this device");
    concludes(
        &explain(account(), none()),
        "synced",
        "synced: nothing of it waits, and its table was pulled to the end",
    );
    let push_only = explain_in(
        |state| (state.tables[0].policy.pull, state.tables[0].phase) = (false, Phase::First),
        account(),
        none(),
    );
    concludes(&push_only, "synced", "synced: nothing of it waits");
    let first = explain_in(|state| state.tables[0].phase = Phase::First, account(), none());
    concludes(&first, "pulling", "nothing of it waits, but its table was not pulled to the end yet");
    concludes(
        &explain(Account::empty(key()), none()),
        "absent",
        "there is no such record here, and nothing of it waits",
    );

    let noted = Account { noted: Some(Noted { changes: 2, at: 5 }), ..account() };
    concludes(&explain(noted, none()), "noted", "changed 2 times by another program since the last sync");
    let letter = DeadLetter {
        id: 4,
        key: key(),
        edits: Vec::new(),
        code: "forbidden".to_owned(),
        message: "not yours".to_owned(),
        at: 1,
        transaction: None,
    };
    let given_up = Account { letters: vec![letter], ..account() };
    concludes(
        &explain(given_up, none()),
        "dead_letter",
        "refused for good: forbidden: not yours; see dead letter 4",
    );
    let aside = Account { quarantine: Some("UNIQUE".to_owned()), ..account() };
    concludes(&explain(aside, none()), "quarantined", "the local table refuses the server's version: UNIQUE");
    let theirs = Account { row: Some(fields([("user_id", "bob".into())])), ..account() };
    concludes(&explain(theirs, none()), "foreign", "not synced: user_id names another user");
    concludes(
        &explain(Account { never_offered: true, ..account() }, none()),
        "never_offered",
        "not synced: it was there before its table was, and has not changed since",
    );
}

#[test]
fn the_row_is_compared_with_what_it_was() {
    let local = |account: Account| explain(account, Recent::default()).local;
    assert_eq!(local(account()), Local::Same);
    assert_eq!(local(Account::empty(key())), Local::Missing);
    assert_eq!(local(pending(|_| ())), Local::Changed(vec!["a".to_owned()]));
    assert_eq!(local(Account { base: None, ..pending(|_| ()) }), Local::Created);
    assert_eq!(local(Account { row: None, ..pending(|_| ()) }), Local::Deleted);
    assert_eq!(local(Account { base: account().row, ..pending(|_| ()) }), Local::Same);

    let noted = Some(Noted { changes: 1, at: 5 });
    assert_eq!(local(Account { noted, ..account() }), Local::Touched);
    assert_eq!(local(Account { noted, ..Account::empty(key()) }), Local::Touched, "it may have been deleted");

    // The base image is masked, and the row in the application's table is not: that is no difference.
    let secret = |value: &str| Some(fields([("pin", value.into())]));
    let masked = Account { base: secret(crate::REDACTED), row: secret("1234"), ..pending(|_| ()) };
    let mask = |state: &mut State| state.tables[0].policy.sensitive_fields = vec!["pin".to_owned()];
    assert_eq!(explain_in(mask, masked, Recent::default()).local, Local::Same);
}
