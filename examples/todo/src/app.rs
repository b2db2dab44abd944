//! What is shown, and what keys do. Edits go to the engine alone: their effect comes back through the live query.

use crossterm::event::KeyCode;
use dynos_sync::{
    Status, SyncEngine, SyncError, Table,
    core::replica::{Journaled, Resolved},
    new_id,
};

use crate::task::Task;

/// What the keys are for at the moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// The list of tasks.
    Tasks,
    /// A title is typed: for the task with this id, or for a new one.
    Typing { id: Option<String>, title: String },
    /// The list of conflicts, one of them selected.
    Conflicts { selected: usize },
    /// The end.
    Quit,
}

pub(crate) struct App {
    engine: SyncEngine,
    table: Table<Task>,
    pub(crate) mode: Mode,
    pub(crate) tasks: Vec<Task>,
    /// The id of a task, so that it stays selected when others come and go above it.
    selected: Option<String>,
    pub(crate) status: Option<Status>,
    /// Those that can still be read, newest first.
    pub(crate) conflicts: Vec<(i64, Resolved)>,
    /// Why the last key did nothing.
    pub(crate) problem: Option<String>,
}

impl App {
    pub(crate) fn new(engine: SyncEngine) -> Self {
        Self {
            table: engine.table(),
            engine,
            mode: Mode::Tasks,
            tasks: Vec::new(),
            selected: None,
            status: None,
            conflicts: Vec::new(),
            problem: None,
        }
    }

    pub(crate) fn has_quit(&self) -> bool {
        self.mode == Mode::Quit
    }

    /// The place of the selected task; the first one's where it is gone.
    pub(crate) fn selected(&self) -> usize {
        let place = |id: &String| self.tasks.iter().position(|task| task.id == *id);
        self.selected.as_ref().and_then(place).unwrap_or(0)
    }

    pub(crate) fn show_tasks(&mut self, tasks: Vec<Task>) {
        self.tasks = tasks;
    }

    /// The status tells of each new conflict: there is no other time to read them again.
    pub(crate) async fn show_status(&mut self, status: Status) -> Result<(), SyncError> {
        self.status = Some(status);
        let readable = |Journaled { id, resolved }| Some((id, resolved?));
        self.conflicts = self.engine.conflicts().await?.into_iter().filter_map(readable).collect();
        Ok(())
    }

    pub(crate) async fn press(&mut self, key: KeyCode) {
        let done = match self.mode.clone() {
            Mode::Tasks => self.press_in_tasks(key).await,
            Mode::Typing { id, title } => self.press_in_title(key, id, title).await,
            Mode::Conflicts { selected } => self.press_in_conflicts(key, selected).await,
            Mode::Quit => Ok(()),
        };
        self.problem = done.err().map(|error| error.to_string());
    }

    async fn press_in_tasks(&mut self, key: KeyCode) -> Result<(), SyncError> {
        let task = self.tasks.get(self.selected()).cloned();
        match (key, task) {
            (KeyCode::Char('q'), _) => self.mode = Mode::Quit,
            (KeyCode::Char('a'), _) => self.mode = Mode::Typing { id: None, title: String::new() },
            (KeyCode::Char('c'), _) => self.mode = Mode::Conflicts { selected: 0 },
            (KeyCode::Up | KeyCode::Char('k'), _) => self.select(self.selected().saturating_sub(1)),
            (KeyCode::Down | KeyCode::Char('j'), _) => self.select(self.selected() + 1),
            (KeyCode::Char('e'), Some(task)) => {
                self.mode = Mode::Typing { id: Some(task.id), title: task.title };
            }
            (KeyCode::Char(' '), Some(task)) => {
                self.table.update(task.id, |task| task.done = !task.done).await?;
            }
            (KeyCode::Char('d'), Some(task)) => {
                self.table.remove(task.id).await?;
            }
            _ => {}
        }
        Ok(())
    }

    fn select(&mut self, place: usize) {
        if let Some(task) = self.tasks.get(place) {
            self.selected = Some(task.id.clone());
        }
    }

    async fn press_in_title(
        &mut self,
        key: KeyCode,
        id: Option<String>,
        mut title: String,
    ) -> Result<(), SyncError> {
        self.mode = Mode::Tasks;
        match key {
            KeyCode::Esc => return Ok(()),
            KeyCode::Enter => return self.store(id, title).await,
            KeyCode::Backspace => drop(title.pop()),
            KeyCode::Char(letter) => title.push(letter),
            _ => {}
        }
        self.mode = Mode::Typing { id, title };
        Ok(())
    }

    async fn store(&mut self, id: Option<String>, title: String) -> Result<(), SyncError> {
        match id {
            Some(id) => drop(self.table.update(id, |task| task.title.clone_from(&title)).await?),
            None => self.table.put(&Task { id: new_id(), title, done: false }).await?,
        }
        Ok(())
    }

    async fn press_in_conflicts(&mut self, key: KeyCode, selected: usize) -> Result<(), SyncError> {
        let last = self.conflicts.len().saturating_sub(1);
        let selected = match key {
            KeyCode::Esc | KeyCode::Char('c' | 'q') => {
                self.mode = Mode::Tasks;
                return Ok(());
            }
            KeyCode::Up | KeyCode::Char('k') => selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => selected + 1,
            _ => selected,
        };
        self.mode = Mode::Conflicts { selected: selected.min(last) };
        if let (KeyCode::Char('u'), Some((id, _))) = (key, self.conflicts.get(selected)) {
            self.engine.undo_conflict(*id).await?;
        }
        Ok(())
    }
}
