//! Somebody before the window, who sees it as assistive technology does, and somebody else with another device.

use std::path::Path;

use desktop::App;
use dynos_sync::{Fields, blocking::SyncEngine, fields, new_id};
use egui::Key;
use egui_kittest::{Harness, kittest::Queryable};
use example_testing::{TestServer, until};
use tempfile::TempDir;

pub(crate) fn files() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) struct Desk {
    window: Harness<'static, Option<App>>,
    engine: SyncEngine,
}

impl Desk {
    /// Opens the device and its window.
    pub(crate) fn open(files: &Path, server: &str, token: &str) -> Self {
        let engine = desktop::open(&files.join("desktop.sqlite"), server, token).unwrap();
        let shown = engine.clone();
        let draw = move |ui: &mut egui::Ui, app: &mut Option<App>| {
            app.get_or_insert_with(|| App::new(&shown, ui.ctx()).unwrap()).draw(ui);
        };
        Self { window: Harness::new_ui_state(draw, None), engine }
    }

    pub(crate) fn close(self) {
        drop(self.window);
        self.engine.close();
    }

    /// Types a new task, and waits until it is there.
    pub(crate) fn add(&mut self, title: &str) {
        self.type_into("New task", title);
        self.until_shows(title);
    }

    /// Gives a task another title, and waits until it has it.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        self.click(&format!("Edit {old}"));
        self.until_shows("Title");
        self.type_into("Title", new);
        self.until_gone("Title");
    }

    fn type_into(&mut self, field: &str, text: &str) {
        let field = self.window.get_by_label(field);
        field.focus();
        field.set_text_value_accesskit(text);
        self.window.step();
        self.window.key_press(Key::Enter);
        self.window.step();
    }

    /// Waits for something that is called just so, and clicks it.
    pub(crate) fn click(&mut self, label: &str) {
        self.until(label, |window| window.query_by_label(label).is_some());
        self.window.get_by_label(label).click();
        self.window.step();
    }

    /// Waits for something that is called about so, and clicks the first of it.
    pub(crate) fn click_first(&mut self, label: &str) {
        self.until_shows(label);
        self.window.get_all_by_label_contains(label).next().unwrap().click();
        self.window.step();
    }

    pub(crate) fn shows(&self, label: &str) -> bool {
        self.window.query_all_by_label_contains(label).next().is_some()
    }

    pub(crate) fn until_shows(&mut self, label: &str) {
        self.until(label, |window| window.query_all_by_label_contains(label).next().is_some());
    }

    pub(crate) fn until_gone(&mut self, label: &str) {
        let is_gone = |window: &Harness<'_, _>| window.query_all_by_label_contains(label).next().is_none();
        self.until(&format!("no {label}"), is_gone);
    }

    /// Draws until something is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Harness<'static, Option<App>>) -> bool) {
        let drawn = std::cell::RefCell::new(&mut self.window);
        let look = || {
            drawn.borrow_mut().step();
            is_so(&drawn.borrow()).then_some(())
        };
        until(look, || format!("{what} in {:#?}", drawn.borrow().root()));
    }
}

/// Another device, without a window.
pub(crate) struct Phone(SyncEngine);

impl Phone {
    pub(crate) fn open(files: &Path, server: &TestServer) -> Self {
        let file = files.join("phone.sqlite");
        Self(desktop::open(&file, &server.url(), &server.token("ada")).unwrap())
    }

    pub(crate) fn add(&self, title: &str) {
        let task = fields([("title", title.into()), ("done", false.into())]);
        self.0.write("tasks", &new_id(), task).unwrap();
    }

    /// Gives a task another title, and waits until the server has it.
    pub(crate) fn rename(&self, old: &str, new: &str) {
        let renamed: Vec<Fields> =
            self.0.query("SELECT id FROM tasks WHERE data ->> 'title' = ?", (old,)).unwrap();
        let id = renamed[0]["id"].as_str().unwrap();
        self.0.patch("tasks", id, fields([("title", new.into())])).unwrap();
        self.0.sync_all().unwrap();
    }

    fn tasks(&self) -> Vec<String> {
        let sql = "SELECT iif(data ->> 'done', '[x] ', '[ ] ') || (data ->> 'title') AS line FROM tasks ORDER BY id";
        let lines: Vec<Fields> = self.0.query(sql, ()).unwrap();
        lines.iter().map(|row| row["line"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn until_has(&self, tasks: &[&str]) {
        until(|| (self.tasks() == tasks).then_some(()), || format!("{tasks:?} in {:?}", self.tasks()));
    }
}
