//! The screens in the manual, between two marks. With `DYNOS_UPDATE_MANUAL` set they are replaced by what the program shows now.

use std::{env, fs};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples.md");
const BEGIN: &str = "<!-- screens of todo: made by its tests -->\n";
const END: &str = "<!-- end of the screens -->";

pub(crate) fn shows(screens: &[(&str, String)]) {
    let screens: String = screens.iter().map(|(title, screen)| block(title, screen)).collect();
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (old, after) = rest.split_once(END).unwrap();
    if env::var_os("DYNOS_UPDATE_MANUAL").is_some() {
        fs::write(PAGE, format!("{before}{BEGIN}{screens}{END}{after}")).unwrap();
    } else {
        assert_eq!(old, screens, "DYNOS_UPDATE_MANUAL=1 puts them into {PAGE}");
    }
}

fn block(title: &str, screen: &str) -> String {
    let lines: Vec<_> = screen.lines().map(str::trim_end).collect();
    format!("{title}:\n\n```text\n{}\n```\n\n", without_time(&lines.join("\n")))
}

/// The time of a sync, which is another each time, is noon.
fn without_time(screen: &str) -> String {
    const SYNCED: &str = "synced ";
    const NOON: &str = "12:00:00";
    let place = screen.find(SYNCED).map(|at| at + SYNCED.len());
    match place.filter(|at| screen[*at..].starts_with(|letter: char| letter.is_ascii_digit())) {
        Some(at) => format!("{}{NOON}{}", &screen[..at], &screen[at + NOON.len()..]),
        None => screen.to_owned(),
    }
}
