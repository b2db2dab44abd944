//! The demo ends well, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use support::{Ran, dynos, run};

#[test]
fn all_devices_and_the_server_end_up_equal() {
    let temp = tempfile::tempdir().unwrap();
    let ran = Ran::of(&dynos().arg("demo").env("TMPDIR", temp.path()).output().unwrap()).ok();
    for expected in
        ["SIGKILL", "sent and never answered", "2 conflicts", "All devices and the server are equal."]
    {
        assert!(ran.out.contains(expected), "{}", ran.out);
    }
    assert_eq!(ran.err, "");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn its_result_is_one_document() {
    let document = run(["demo", "--json"]).ok().json();
    assert_eq!(document["equal"], true);
    assert_eq!(document["tables"]["task"], 302);
}
