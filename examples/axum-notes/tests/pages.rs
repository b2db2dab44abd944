//! What a browser and a device see of each other.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use dynos_sync::{Record, SyncEngine, blocking, remote::HttpRemote};
use dynos_sync_server::{config::Secret, mint};
use example_testing::until;
use serde::{Deserialize, Serialize};

const SECRET: &str = "the secret of an application that is tested";

/// The application's process.
struct Application {
    process: Child,
    url: String,
}

impl Application {
    fn start(dir: &Path) -> Self {
        std::fs::write(dir.join("secret"), SECRET).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_axum-notes"));
        command.current_dir(dir).args(["--secret-file", "secret", "--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, url }
    }

    fn page(&self) -> String {
        ureq::get(&self.url).call().unwrap().body_mut().read_to_string().unwrap()
    }

    fn until_page_has(&self, text: &str) {
        until(|| self.page().contains(text).then_some(()), || format!("{text} in {}", self.page()));
    }

    /// Ctrl-C. Answers whether the process ended well.
    fn stop(mut self) -> bool {
        let interrupted =
            Command::new("kill").args(["-INT", &self.process.id().to_string()]).status().unwrap();
        assert!(interrupted.success());
        until(|| self.process.try_wait().unwrap(), || "the application ends".to_owned()).success()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    id: String,
    text: String,
}

impl Record for Note {
    const TABLE: &'static str = "notes";
}

fn device(database: &Path, url: &str) -> blocking::SyncEngine {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let token =
        mint(&Secret::new(SECRET), "ada", Duration::from_secs(3600), now.try_into().unwrap()).unwrap();
    let remote = HttpRemote::builder(format!("{url}/sync")).token(token).build().unwrap();
    SyncEngine::open(database, remote).unwrap().record::<Note>().start_blocking().unwrap()
}

#[test]
fn a_page_and_a_device_show_each_others_notes() {
    let dir = tempfile::tempdir().unwrap();
    let application = Application::start(dir.path());
    assert!(!application.page().contains("<li>"), "{}", application.page());
    let device = device(&dir.path().join("device.sqlite"), &application.url);
    let notes = device.table::<Note>();

    notes.put(&Note { id: "1".to_owned(), text: "milk & <b>bread</b>".to_owned() }).unwrap();
    application.until_page_has("<li>milk &amp; &lt;b&gt;bread&lt;/b&gt;</li>");

    let answer = ureq::post(&application.url).send_form([("text", "from a browser")]).unwrap();
    assert_eq!(answer.status(), 200, "it is sent on to the page");
    assert!(application.page().contains("<li>from a browser</li>"), "at once, without waiting for the sync");
    let texts = || notes.all().unwrap().into_iter().map(|note| note.text).collect::<Vec<_>>();
    until(|| texts().contains(&"from a browser".to_owned()).then_some(()), || format!("{:?}", texts()));

    // The device still listens for changes: that keeps nobody from ending.
    assert!(application.stop());
    let application = Application::start(dir.path());
    assert_eq!(application.page().matches("<li>").count(), 2, "{}", application.page());
    device.close();
}
