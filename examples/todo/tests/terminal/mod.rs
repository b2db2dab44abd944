//! The program in a terminal: keys go in, a screen comes out.

use std::{
    io::{Read, Write},
    num::NonZeroU16,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use example_testing::until;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

const ROWS: u16 = 7;
const COLUMNS: u16 = 84;

pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Dropped, the terminal is gone.
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    pub(crate) fn open(database: &Path, server: &str, token: &str) -> Self {
        let size = PtySize { rows: ROWS, cols: COLUMNS, ..PtySize::default() };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_todo"));
        command.arg("--db");
        command.arg(database);
        command.args(["--server", server, "--token", token]);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let [rows, columns] = [ROWS, COLUMNS].map(|size| NonZeroU16::new(size).unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut output = pair.master.try_clone_reader().unwrap();
        let drawn = Arc::clone(&screen);
        // It ends with the program.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.lock().unwrap().process(&bytes[..count]);
            }
        });
        let keys = pair.master.take_writer().unwrap();
        let terminal = Self { child, keys, screen, _master: pair.master };
        terminal.until_shows("Tasks");
        terminal
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Adds a task, and waits until it is there.
    pub(crate) fn add(&mut self, title: &str) {
        self.press(&format!("a{title}\r"));
        self.until_shows(&format!("[ ] {title}"));
    }

    /// Gives the selected task another title once it is there, and waits until it has it.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        self.until_shows(&format!("] {old}"));
        let erase = "\x7f".repeat(old.len());
        self.press(&format!("e{erase}{new}\r"));
        self.until_shows(&format!("] {new}"));
    }

    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    pub(crate) fn shows(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    pub(crate) fn until_shows(&self, text: &str) {
        until(|| self.shows(text).then_some(()), || format!("{text:?} on\n{}", self.text()));
    }

    /// Waits for a screen that shows all of these, and answers it.
    pub(crate) fn screen_with(&self, texts: &[&str]) -> String {
        let screen = || Some(self.text()).filter(|screen| texts.iter().all(|text| screen.contains(text)));
        until(screen, || format!("{texts:?} on\n{}", self.text()))
    }

    /// The tasks as they are shown.
    pub(crate) fn tasks(&self) -> Vec<String> {
        let text = self.text();
        let tasks =
            text.lines().filter_map(|line| Some(line[line.find(['['])?..].trim_end_matches([' ', '│'])));
        tasks.map(str::to_owned).collect()
    }

    /// Waits for the program's end, and says whether it was a good one.
    pub(crate) fn quit(mut self) -> bool {
        self.press("q");
        until(|| self.child.try_wait().unwrap(), || "the program ends".to_owned()).success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
