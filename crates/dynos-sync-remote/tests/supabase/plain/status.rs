//! The table `sync_status`: which tables have changed.

use std::time::Duration;

use dynos_sync_core::{Cursor, Remote, wire::HeadsRequest};
use dynos_sync_remote::SupabaseRemote;
use dynos_sync_testbed::{Database, Project};

use super::table::eventually;
use crate::support::{Device, User, at};

/// A project of one's own: the table's name is fixed.
const SCHEMA: &str = "
    create table tasks (id text primary key, updated_at timestamptz not null default now(), title text);
    create table sync_status (user_id uuid primary key, tasks_at timestamptz not null default now());
    create function touched() returns trigger language plpgsql security definer as $$
    begin update sync_status set tasks_at = now(); return null; end $$;
    create trigger touched after insert or update or delete on tasks for each statement execute function touched();
    alter table sync_status enable row level security;
    create policy own on sync_status to authenticated
        using (user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid);
    grant usage on schema public to authenticated;
    grant all on tasks, sync_status to authenticated;";

struct World {
    _project: Project,
    database: Database,
    user: User,
    supabase: dynos_sync_testbed::Supabase,
}

impl World {
    fn new(schema: &str) -> Self {
        let database = Database::create();
        database.sql(schema);
        let project = Project::start(database.url());
        let supabase = at(project.url());
        let user = User::new(&supabase);
        Self { _project: project, database, user, supabase }
    }

    fn remote(&self, window: Duration) -> SupabaseRemote {
        self.user.builder(&self.supabase).plain_within(window).build().unwrap()
    }
}

async fn head(device: &Device) -> Cursor {
    let tables = vec![device.table.parse().unwrap()];
    let heads = device.remote.heads(HeadsRequest { replica: device.replica, tables }).await.unwrap();
    heads.heads.into_values().next().unwrap()
}

#[tokio::test]
async fn a_table_whose_mark_has_not_changed_is_not_pulled_again() {
    let world = World::new(SCHEMA);
    world
        .database
        .sql(&format!("insert into sync_status (user_id) values ('{}'), (gen_random_uuid())", world.user.id));
    world.database.sql("insert into tasks (id) values ('a')");
    let device = Device::new(world.remote(Duration::from_secs(1)), "tasks");
    let mut end = None;
    // What may still be committed late is looked for first.
    let settled = eventually(async || {
        let known = head(&device).await;
        if end.as_ref() == Some(&known) {
            return Some(known);
        }
        end = Some(device.pull_from(end.clone(), 10).await.1);
        None
    })
    .await;
    assert_eq!(head(&device).await, settled);
    world.database.sql("insert into tasks (id) values ('b')");
    assert_ne!(head(&device).await, settled, "the mark has changed");
    assert_eq!(
        device.pull_from(Some(settled), 10).await.0,
        [("b".to_owned(), device.pull_from(None, 10).await.0[1].1.clone())]
    );
}

#[tokio::test]
async fn a_table_is_not_known_to_have_ended_while_something_may_come_late() {
    let world = World::new(SCHEMA);
    world.database.sql(&format!("insert into sync_status (user_id) values ('{}')", world.user.id));
    world.database.sql("insert into tasks (id) values ('a')");
    let device = Device::new(world.remote(Duration::from_secs(3600)), "tasks");
    let mut end = None;
    for _ in 0..3 {
        assert_ne!(Some(head(&device).await), end);
        end = Some(device.pull_from(end, 10).await.1);
    }
}

#[tokio::test]
async fn without_the_table_or_a_row_in_it_every_table_is_pulled() {
    for schema in [
        SCHEMA.to_owned(),
        format!("{SCHEMA} drop table sync_status cascade; drop trigger touched on tasks;"),
        format!("{SCHEMA} revoke all on sync_status from authenticated;"),
    ] {
        let world = World::new(&schema);
        let device = Device::new(world.remote(Duration::ZERO), "tasks");
        let mut end = None;
        for _ in 0..3 {
            assert_ne!(Some(head(&device).await), end);
            end = Some(device.pull_from(end, 10).await.1);
        }
    }
}
