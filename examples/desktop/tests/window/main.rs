//! What is in the window, and what others see of what is done in it.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod desk;

use desk::{Desk, Phone, files};
use example_testing::TestServer;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";
/// More than a record of the strict server may have.
const LONG: &str = "bread, butter, a dozen eggs, and everything else that a breakfast needs";

/// A server that takes short titles only.
fn strict(server: &mut TestServer) {
    server.restart_with(|config| config.limits.record_bytes = 110);
}

#[test]
fn what_is_done_in_the_window_arrives_and_what_others_do_appears() {
    let (server, files) = (TestServer::start(), files());
    let phone = Phone::open(files.path(), &server);
    let mut desk = Desk::open(files.path(), &server.url(), &server.token("ada"));
    desk.until_shows("Online");
    desk.add("bread");
    desk.until_shows("bread: synced");
    desk.until_shows("0 pending");
    phone.until_has(&["[ ] bread"]);

    phone.add("milk");
    desk.until_shows("milk: synced");
    desk.click("milk");
    desk.rename("bread", "rye bread");
    phone.until_has(&["[ ] rye bread", "[x] milk"]);

    desk.click("Delete milk");
    desk.until_gone("milk");
    phone.until_has(&["[ ] rye bread"]);
}

#[test]
fn without_a_server_edits_wait_and_all_converge_when_it_is_back() {
    let (mut server, files) = (TestServer::start(), files());
    let phone = Phone::open(files.path(), &server);
    let mut desk = Desk::open(files.path(), &server.url(), &server.token("ada"));
    desk.add("bread");
    phone.until_has(&["[ ] bread"]);

    server.stop();
    desk.until_shows("Offline");
    desk.click("bread");
    desk.add("milk");
    phone.add("eggs");
    desk.until_shows("bread: pending");
    desk.until_shows("milk: pending");
    desk.until_shows("2 pending");
    assert!(!desk.shows("eggs"));

    server.restart();
    for synced in ["Online", "0 pending", "bread: synced", "milk: synced", "eggs: synced"] {
        desk.until_shows(synced);
    }
    phone.until_has(&["[x] bread", "[ ] milk", "[ ] eggs"]);
}

#[test]
fn all_are_ticked_and_cleared_together() {
    let (server, files) = (TestServer::start(), files());
    let phone = Phone::open(files.path(), &server);
    let mut desk = Desk::open(files.path(), &server.url(), &server.token("ada"));
    desk.add("bread");
    desk.add("milk");
    desk.click("Tick all");
    phone.until_has(&["[x] bread", "[x] milk"]);
    phone.add("eggs");
    desk.until_shows("eggs");
    desk.click("Clear done");
    desk.until_gone("bread");
    phone.until_has(&["[ ] eggs"]);
}

#[test]
fn a_conflict_is_shown_and_can_be_undone() {
    let (server, files) = (TestServer::start(), files());
    let phone = Phone::open(files.path(), &server);
    let open = |server: &str, token: String| Desk::open(files.path(), server, &token);
    let mut desk = open(&server.url(), server.token("ada"));
    desk.add("bread");
    phone.until_has(&["[ ] bread"]);
    desk.until_shows("bread: synced");
    desk.close();

    phone.rename("bread", "rye bread");
    let mut desk = open(NOWHERE, server.token("ada"));
    desk.until_shows("Offline");
    desk.rename("bread", "oat bread");
    desk.until_shows("oat bread: pending");
    desk.close();

    let mut desk = open(&server.url(), server.token("ada"));
    desk.until_shows("oat bread: in conflict");
    desk.until_shows("1 in conflict");
    phone.until_has(&["[ ] oat bread"]);
    desk.click("Undo oat bread");
    desk.until_shows("rye bread: synced");
    desk.until_gone("1 in conflict");
    phone.until_has(&["[ ] rye bread"]);
}

#[test]
fn a_refused_edit_is_shown_and_offered_again() {
    let (mut server, files) = (TestServer::start(), files());
    strict(&mut server);
    let phone = Phone::open(files.path(), &server);
    let mut desk = Desk::open(files.path(), &server.url(), &server.token("ada"));
    desk.add("bread");
    desk.until_shows("bread: synced");
    desk.rename("bread", LONG);
    desk.until_shows("bread: refused");
    desk.until_shows("1 refused");
    desk.until_shows("the limit is 110");

    server.restart();
    desk.click_first("Retry bread, butter");
    desk.until_shows(&format!("{LONG}: synced"));
    desk.until_gone("1 refused");
    phone.until_has(&[&format!("[ ] {LONG}")]);
}

#[test]
fn a_refused_edit_can_be_given_up() {
    let (mut server, files) = (TestServer::start(), files());
    strict(&mut server);
    let mut desk = Desk::open(files.path(), &server.url(), &server.token("ada"));
    desk.add(LONG);
    desk.until_shows("1 refused");
    desk.until_gone(&format!("{LONG}: pending"));
    desk.click_first("Discard bread, butter");
    desk.until_gone("1 refused");
    desk.until_gone("Refused by the server");
}

#[test]
fn what_wants_somebody_is_said() {
    let (server, files) = (TestServer::start(), files());
    let mut desk = Desk::open(files.path(), &server.url(), "nobody's");
    desk.until_shows("Signed out");
    desk.until_shows("Not synced yet");
}
