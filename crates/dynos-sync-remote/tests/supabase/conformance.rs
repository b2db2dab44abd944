//! The suite that every remote has to pass, on a project of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use dynos_sync_core::{Remote, conformance::remote::Fixture, remote_conformance};
use dynos_sync_testbed::{Database, Project, Supabase};
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};

use crate::support::{User, at};

struct Managed {
    project: Mutex<Project>,
    database: Database,
    supabase: Supabase,
    users: Mutex<HashMap<String, User>>,
    runtime: Runtime,
}

impl Managed {
    fn new() -> Self {
        let database = Database::create();
        database.sql(&dynos_sync_sql::script());
        let project = Project::start(database.url());
        let supabase = at(project.url());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { project: Mutex::new(project), database, supabase, users: Mutex::default(), runtime }
    }
}

#[async_trait::async_trait]
impl Fixture for Managed {
    async fn remote(&self, user: &str) -> Arc<dyn Remote> {
        let mut users = self.users.lock().unwrap();
        let user = users.entry(user.to_owned()).or_insert_with(|| User::new(&self.supabase));
        Arc::new(user.remote(&self.supabase))
    }

    async fn backup(&self) -> Option<()> {
        let mut project = self.project.lock().unwrap();
        project.stop_rest();
        self.database.backup();
        project.start_rest(self.database.url());
        Some(())
    }

    async fn restore(&self) {
        let mut project = self.project.lock().unwrap();
        project.stop_rest();
        self.database.restore();
        project.start_rest(self.database.url());
    }

    async fn purge(&self) -> Option<()> {
        self.database.sql("select public.dynos_purge(9000000000000, 9000000000000, 100000)");
        Some(())
    }

    fn run(&self, case: BoxFuture<'_, ()>) {
        self.runtime.block_on(case);
    }
}

remote_conformance!(Managed::new());
