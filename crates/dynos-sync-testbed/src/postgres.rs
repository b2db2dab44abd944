//! A PostgreSQL of one's own.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::database::sql;

const LEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/testbed/lend");

/// A PostgreSQL that belongs to one test, on a port and with data of its own, and may be treated badly.
///
/// `scripts/testbed/lend` runs it and ends it with this value, or with the test's process if that is killed.
#[derive(Debug)]
pub struct Postgres {
    lender: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    url: String,
}

impl Postgres {
    /// Starts one, and waits until it accepts connections.
    ///
    /// # Panics
    /// Where it cannot be started; the script's message is on stderr.
    #[must_use]
    pub fn start() -> Self {
        let mut lender = Command::new(LEND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal to the test's group is not for the lender: it notices the end of the test by itself.
            .process_group(0)
            .spawn()
            .expect("scripts/testbed/lend can be run");
        let commands = lender.stdin.take();
        let answers = BufReader::new(lender.stdout.take().expect("a pipe"));
        let mut postgres = Self { lender, commands, answers, url: String::new() };
        let answer = postgres.answer();
        postgres.url = answer.strip_prefix("ready ").expect("the lender is ready").to_owned();
        postgres
    }

    /// Where it answers, as its superuser: `postgresql://USER:PASSWORD@127.0.0.1:PORT/DATABASE`. Stays the same.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs SQL as the superuser, as [`Database::sql`](crate::Database::sql) does.
    ///
    /// # Panics
    /// Where a statement fails, with the server's message.
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.url, statements)
    }

    /// Ends it as a crash would: connections break at once, and the next start recovers from the log.
    pub fn stop_immediate(&mut self) {
        self.command("stop");
    }

    /// Starts it again after [`stop_immediate`](Self::stop_immediate), at the same URL.
    pub fn start_again(&mut self) {
        self.command("start");
    }

    /// Lets it end in good order, and starts it again at the same URL.
    pub fn restart(&mut self) {
        self.command("restart");
    }

    fn command(&mut self, command: &str) {
        let commands = self.commands.as_mut().expect("open until dropped");
        writeln!(commands, "{command}").expect("the lender listens");
        assert_eq!(self.answer(), "done", "{command}");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the lender answers in UTF-8");
        assert!(!line.is_empty(), "PostgreSQL could not be started or stopped; the reason is above");
        line.trim_end().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.lender.wait();
    }
}
