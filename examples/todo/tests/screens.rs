//! What is on the screens of two devices.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod manual;
mod terminal;

use example_testing::{TestServer, until};
use terminal::Terminal;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn two_devices_that_were_edited_offline_converge() {
    let (mut server, files) = (TestServer::start(), tempfile::tempdir().unwrap());
    let open = |name| Terminal::open(&files.path().join(name), &server.url(), &server.token("ada"));
    let (mut phone, mut laptop) = (open("phone.sqlite"), open("laptop.sqlite"));
    phone.add("milk");
    laptop.until_shows("[ ] milk");
    laptop.press(" ");
    phone.until_shows("[x] milk");
    laptop.until_shows("pending 0");

    server.stop();
    phone.rename("milk", "oat milk");
    phone.add("bread");
    laptop.rename("milk", "soy milk");
    laptop.add("eggs");
    for device in [&phone, &laptop] {
        device.until_shows("offline · pending 2");
    }

    server.restart();
    let expected = ["[x] soy milk", "[ ] bread", "[ ] eggs"];
    for device in [&phone, &laptop] {
        until(|| (device.tasks() == expected).then_some(()), || device.text());
        device.until_shows("online · pending 0 · synced");
    }

    // Whoever came second has met the conflict.
    let second = || [&phone, &laptop].iter().position(|device| device.shows("conflicts 1"));
    let device = match until(second, || phone.text() + &laptop.text()) {
        0 => &mut phone,
        _ => &mut laptop,
    };
    device.press("c");
    device.until_shows("it is [x] soy milk");
    assert!(device.shows("[x] oat milk"), "{}", device.text());
    device.press("uc");
    let undone = ["[x] oat milk", "[ ] bread", "[ ] eggs"];
    for device in [&phone, &laptop] {
        until(|| (device.tasks() == undone).then_some(()), || device.text());
        until(|| (!device.shows("conflicts 1")).then_some(()), || device.text());
        device.until_shows("pending 0");
    }
    assert!(phone.quit() && laptop.quit());
}

#[test]
fn without_a_server_everything_works_and_lasts() {
    let files = tempfile::tempdir().unwrap();
    let open = || Terminal::open(&files.path().join("todo.sqlite"), NOWHERE, "nobody's");
    let mut device = open();
    device.until_shows("offline · pending 0 · not synced yet");
    device.add("milk");
    device.add("bread");
    device.press("jd");
    until(|| (device.tasks() == ["[ ] milk"]).then_some(()), || device.text());
    device.press(" ");
    device.until_shows("[x] milk");
    assert!(device.quit());
    open().until_shows("[x] milk");
}

#[test]
fn the_manual_has_these_screens() {
    let (server, files) = (TestServer::start(), tempfile::tempdir().unwrap());
    let open = |name, url: &str| Terminal::open(&files.path().join(name), url, &server.token("ada"));
    let mut phone = open("phone.sqlite", &server.url());
    let laptop = open("laptop.sqlite", &server.url());
    phone.add("milk");
    phone.add("bread");
    laptop.until_shows("[ ] bread");
    laptop.until_shows("online · pending 0 · synced");
    assert!(laptop.quit());

    let mut laptop = open("laptop.sqlite", NOWHERE);
    laptop.rename("milk", "oat milk");
    laptop.press("j ");
    let offline = laptop.screen_with(&["offline · pending 2", "[x] bread"]);
    assert!(laptop.quit());
    phone.rename("milk", "soy milk");
    let online = phone.screen_with(&["online · pending 0 · synced"]);
    // Now the server has it: the laptop comes second.
    open("tablet.sqlite", &server.url()).until_shows("soy milk");

    let mut laptop = open("laptop.sqlite", &server.url());
    let converged = phone.screen_with(&["online · pending 0 · synced", "[x] bread"]);
    laptop.press("c");
    let conflict = laptop.screen_with(&["online · pending 0 · synced", "conflicts 1", "it is [ ] soy milk"]);
    manual::shows(&[
        ("The phone, which has a connection", online),
        ("The laptop, which has none", offline),
        ("The phone, when the laptop is back", converged),
        ("The laptop then, and the conflict that it has met (`c`)", conflict),
    ]);
}
