//! What the engine has told last. It tells it on threads of its own; the window is woken, and reads it when it draws.

use std::sync::{Arc, Mutex, PoisonError};

use dynos_sync::{
    Status, SyncError,
    blocking::{Subscription, SyncEngine},
    core::replica::DeadLetter,
};
use egui::Context;

use crate::task::Task;

/// What was told last; the error, where it cannot be read.
type Told<T> = Result<T, String>;

#[derive(Clone)]
pub(crate) struct News {
    pub(crate) tasks: Told<Vec<Task>>,
    /// `None`: nothing was told yet.
    pub(crate) status: Told<Option<Status>>,
    pub(crate) refused: Told<Vec<DeadLetter>>,
}

/// Follows the engine for as long as it lives.
pub(crate) struct Feed {
    board: Board,
    _subscriptions: [Subscription; 3],
}

impl Feed {
    pub(crate) fn new(engine: &SyncEngine, window: Context) -> Result<Self, SyncError> {
        let board = Board::new(window);
        let [on_tasks, on_status, on_refused] = [(); 3].map(|()| board.clone());
        let tasks = engine.table::<Task>().on_change("ORDER BY id", (), move |tasks| {
            on_tasks.write(|news| news.tasks = told(tasks));
        })?;
        let status = engine.on_status(move |status| {
            on_status.write(|news| news.status = told(status.map(Some)));
        })?;
        let refused = engine.on_dead_letters(move |letters| {
            on_refused.write(|news| news.refused = told(letters));
        })?;
        Ok(Self { board, _subscriptions: [tasks, status, refused] })
    }

    pub(crate) fn latest(&self) -> Arc<News> {
        self.board.read()
    }
}

fn told<T>(answer: Result<T, SyncError>) -> Told<T> {
    answer.map_err(|error| error.to_string())
}

/// Where the news is put up. Who draws takes what is there, and keeps nobody from writing meanwhile.
#[derive(Clone)]
struct Board {
    news: Arc<Mutex<Arc<News>>>,
    window: Context,
}

impl Board {
    fn new(window: Context) -> Self {
        let nothing = News { tasks: Ok(Vec::new()), status: Ok(None), refused: Ok(Vec::new()) };
        Self { news: Arc::new(Mutex::new(Arc::new(nothing))), window }
    }

    fn write(&self, change: impl FnOnce(&mut News)) {
        change(Arc::make_mut(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner)));
        self.window.request_repaint();
    }

    fn read(&self) -> Arc<News> {
        Arc::clone(&self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
