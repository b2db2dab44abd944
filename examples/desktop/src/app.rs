//! The window: where its parts are, what is being typed, and doing what the parts ask for.

use dynos_sync::{SyncError, blocking::SyncEngine};
use egui::{CentralPanel, Context, Key, Panel, TextEdit, Ui};

use crate::{
    action::Action,
    indicator,
    list::{self, Editing},
    news::{Feed, News},
    refused,
    task::Task,
};

/// What is in the window. It can be drawn anywhere: the tests have no screen.
pub struct App {
    engine: SyncEngine,
    feed: Feed,
    new_title: String,
    editing: Option<Editing>,
    /// Why the last action did nothing.
    problem: Option<String>,
}

impl App {
    /// It is drawn again whenever something has changed.
    ///
    /// # Errors
    /// [`SyncError`], where the tasks cannot be followed.
    pub fn new(engine: &SyncEngine, context: &Context) -> Result<Self, SyncError> {
        let feed = Feed::new(engine, context.clone())?;
        Ok(Self { engine: engine.clone(), feed, new_title: String::new(), editing: None, problem: None })
    }

    /// Draws it, and does what was clicked.
    pub fn draw(&mut self, ui: &mut Ui) {
        let (news, mut wanted) = (self.feed.latest(), Vec::new());
        Panel::top("indicator").show(ui, |ui| indicator::draw(ui, &news, self.problem.as_deref()));
        if let Some(letters) = news.refused.as_deref().ok().filter(|letters| !letters.is_empty()) {
            Panel::bottom("refused").show(ui, |ui| refused::draw(ui, letters, &mut wanted));
        }
        CentralPanel::default().show(ui, |ui| {
            self.draw_entry(ui, &mut wanted);
            self.draw_tasks(ui, &news, &mut wanted);
        });
        for action in wanted {
            self.problem = action.perform(&self.engine).err().map(|error| error.to_string());
        }
    }

    fn draw_entry(&mut self, ui: &mut Ui, wanted: &mut Vec<Action>) {
        let entry = TextEdit::singleline(&mut self.new_title).hint_text("What is to be done?");
        let entry = ui.add(entry.desired_width(f32::INFINITY)).accessible_name("New task");
        let is_entered = entry.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        if is_entered && !self.new_title.trim().is_empty() {
            wanted.push(Action::Add { title: std::mem::take(&mut self.new_title) });
            entry.request_focus();
        }
    }

    fn draw_tasks(&mut self, ui: &mut Ui, news: &News, wanted: &mut Vec<Action>) {
        let tasks = news.tasks.as_deref().unwrap_or_default();
        ui.horizontal(|ui| {
            let is_done = |task: &&Task| task.done;
            let (done, open): (Vec<_>, Vec<_>) = tasks.iter().partition(is_done);
            let together = |tasks: Vec<&Task>| tasks.into_iter().cloned().collect();
            ui.add_enabled_ui(!open.is_empty(), |ui| {
                if ui.button("Tick all").clicked() {
                    wanted.push(Action::TickAll(together(open)));
                }
            });
            ui.add_enabled_ui(!done.is_empty(), |ui| {
                if ui.button("Clear done").clicked() {
                    wanted.push(Action::Clear(together(done)));
                }
            });
        });
        ui.separator();
        list::draw(ui, &self.engine, tasks, &mut self.editing, wanted);
    }
}
