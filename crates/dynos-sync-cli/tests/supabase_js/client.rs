//! supabase-js in a process of its own.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/supabase_js/client.mjs");

/// One user's program.
pub(crate) struct Client {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    email: String,
    session: Value,
}

impl Client {
    /// Starts it, and signs a new user up.
    pub(crate) fn start(email: &str) -> Self {
        let node =
            env::var("DYNOS_TEST_NODE").expect("run this through scripts/test: DYNOS_TEST_NODE is not set");
        let mut process = Command::new(node)
            .arg(PROGRAM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js runs");
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut client = Self { process, commands, answers, email: email.to_owned(), session: Value::Null };
        client.session = client.done(&json!({"signUp": {"email": email, "password": "correct horse 1"}}));
        client
    }

    /// Signs in again, as the same user.
    pub(crate) fn sign_in(&mut self) {
        let session = self.done(&json!({"signIn": {"email": self.email, "password": "correct horse 1"}}));
        assert_eq!(session["user"], self.session["user"]);
        self.session = session;
    }

    pub(crate) fn user(&self) -> &str {
        self.session["user"].as_str().expect("a user")
    }

    pub(crate) fn token(&self) -> &str {
        self.session["token"].as_str().expect("a token")
    }

    /// Gives a command; the answer is `{data, error}`.
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        writeln!(self.commands.as_mut().expect("open"), "{command}").expect("the program reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the program answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Gives a command that works, and answers its data.
    #[track_caller]
    pub(crate) fn done(&mut self, command: &Value) -> Value {
        let answer = self.ask(command);
        assert_eq!(answer["error"], Value::Null, "{command}");
        answer["data"].clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.commands = None;
        let _ = self.process.wait();
    }
}
