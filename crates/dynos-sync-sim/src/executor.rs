//! Tasks on one thread, in an order that is drawn.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// A task's number.
pub type TaskId = u64;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks. Which of those that can go on does so next is drawn from a generator.
#[derive(Debug, Default)]
pub struct Executor {
    tasks: BTreeMap<TaskId, Task>,
    spawner: Spawner,
}

struct Task {
    work: Work,
    waker: Waker,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// Where tasks are handed in, and where they are woken.
#[derive(Clone, Debug, Default)]
pub struct Spawner(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    last: TaskId,
    new: Vec<(TaskId, Work)>,
    ready: BTreeSet<TaskId>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("last", &self.last).field("ready", &self.ready).finish_non_exhaustive()
    }
}

struct Alarm {
    task: TaskId,
    spawner: Spawner,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.spawner.lock().ready.insert(self.task);
    }
}

impl Spawner {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands in a task.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> TaskId {
        let mut queue = self.lock();
        queue.last += 1;
        let task = queue.last;
        queue.new.push((task, Box::pin(work)));
        queue.ready.insert(task);
        task
    }
}

impl Executor {
    /// Where tasks are handed in.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Lets one task go on, if any can.
    pub fn run_one(&mut self, random: &mut fastrand::Rng) -> bool {
        let chosen = {
            let mut queue = self.spawner.lock();
            for (id, work) in std::mem::take(&mut queue.new) {
                let waker = Waker::from(Arc::new(Alarm { task: id, spawner: self.spawner.clone() }));
                self.tasks.insert(id, Task { work, waker });
            }
            if queue.ready.is_empty() {
                return false;
            }
            let place = random.usize(..queue.ready.len());
            let Some(chosen) = queue.ready.iter().nth(place).copied() else { return false };
            queue.ready.remove(&chosen);
            chosen
        };
        let id = chosen;
        let Some(task) = self.tasks.get_mut(&id) else { return true };
        let mut context = Context::from_waker(&task.waker);
        if task.work.as_mut().poll(&mut context).is_ready() {
            self.tasks.remove(&id);
        }
        true
    }

    /// Drops tasks, wherever they stand.
    pub fn abort(&mut self, tasks: &[TaskId]) {
        for task in tasks {
            self.spawner.lock().new.retain(|(id, _)| id != task);
            drop(self.tasks.remove(task));
        }
    }
}

/// Lets others go first, once.
pub async fn step_aside() {
    let mut asked = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
