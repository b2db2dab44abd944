//! The suite that every remote has to pass, as far as plain mode promises it, on a project of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use dynos_sync_core::{
    Fields, Remote, RemoteError, TableSpec,
    conformance::remote::Fixture,
    remote_conformance,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest, PushResult},
};
use dynos_sync_remote::SupabaseRemote;
use dynos_sync_testbed::{Database, Project, Supabase};
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};

use crate::support::{User, at};

const NO_BOOKS: &str =
    "nobody keeps books of what was pushed: what is repeated is written again, or found to be there";
const NO_HEADS: &str = "a table's end is found by walking to it, and a push does not tell it";
const NO_OWN: &str = "a row does not say which device wrote it";
const ONE_ID: &str = "an id belongs to one row of the table, and the row to one user";
const COLUMNS: &str = "a row has all columns of its table: what an edit does not name stays";
const ALONE: &str = "each row is written by itself";
const CLOCK: &str = "a row has the server's time, not the edit's";
const TABLES: &str =
    "tables are the project's, and only those with the columns that are needed can be synced";

/// What plain mode does not promise. `docs/supabase.md` says what that means, and names the tests that show how far it goes.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("declared_tables_are_listed", TABLES),
    ("a_record_made_by_a_device_with_fewer_columns_has_nothing_in_the_others", TABLES),
    ("table_names_are_any_unicode", TABLES),
    ("every_value_and_field_name_travels_as_it_is", TABLES),
    ("every_value_survives_a_patch_of_another_field", TABLES),
    ("a_change_moves_the_head_of_its_table_alone", NO_HEADS),
    ("a_push_tells_how_the_head_moved", NO_HEADS),
    ("users_do_not_move_each_others_heads", NO_HEADS),
    ("what_is_not_applied_moves_no_head", NO_BOOKS),
    ("the_highest_counter_of_a_replica_is_known", NO_BOOKS),
    ("one_bad_entry_never_blocks_the_others", NO_BOOKS),
    ("a_repeat_of_an_applied_entry_has_no_effect", NO_BOOKS),
    ("a_repeat_does_not_undo_what_others_made_of_it", "it does not, but is answered with a conflict"),
    ("a_repeat_of_a_whole_batch_has_no_effect", NO_BOOKS),
    ("a_rejection_is_remembered", NO_BOOKS),
    ("an_older_counter_of_the_same_writer_has_no_effect", NO_BOOKS),
    ("an_entry_is_applied_under_its_counter_once_it_has_a_later_base", NO_BOOKS),
    ("other_content_under_a_used_counter_is_a_fork", NO_BOOKS),
    ("other_content_under_a_rejected_counter_is_a_fork", NO_BOOKS),
    ("nothing_of_a_forked_batch_is_applied", NO_BOOKS),
    ("the_base_is_no_part_of_the_content", NO_BOOKS),
    ("settled_names_the_applied_of_those_asked_about", NO_BOOKS),
    ("settled_and_a_change_on_top_come_together", NO_BOOKS),
    ("settled_names_nothing_beyond_the_page", NO_BOOKS),
    ("own_changes_are_left_out", NO_OWN),
    ("all_includes_own_changes_and_marks_them", NO_OWN),
    ("a_change_on_top_of_an_own_one_is_not_own", NO_OWN),
    ("users_do_not_see_each_others_records", ONE_ID),
    ("users_do_not_share_counters_or_conflicts", ONE_ID),
    ("users_do_not_settle_each_others_entries", ONE_ID),
    ("a_replace_resets_what_it_does_not_name", COLUMNS),
    ("an_upsert_after_a_delete_starts_from_nothing", COLUMNS),
    ("an_own_change_is_never_a_conflict", COLUMNS),
    ("a_patch_sets_only_its_fields", "it does, but null and absent are one"),
    ("an_upsert_merges_its_fields", "it does, but null and absent are one"),
    ("a_change_carries_its_record_number_and_time", CLOCK),
    ("an_edit_time_out_of_range_is_rejected", CLOCK),
    ("a_delete_of_a_record_that_never_was_travels_too", "there is no row to mark as deleted"),
    ("a_transaction_is_applied_in_all_its_tables", ALONE),
    ("a_conflict_of_one_entry_is_one_of_its_transaction", ALONE),
    ("a_refusal_of_one_entry_is_one_of_its_transaction", ALONE),
    ("a_refused_transaction_is_remembered", ALONE),
    ("a_repeat_of_a_transaction_has_no_effect", ALONE),
    ("what_of_a_transaction_was_applied_before_stands", ALONE),
    ("a_transaction_and_what_stands_beside_it_do_not_touch_each_other", ALONE),
    ("a_transaction_in_pieces_or_with_a_record_twice_is_refused", ALONE),
    (
        "a_deletion_that_the_author_has_not_seen_is_a_conflict",
        "a delete of what is deleted is found to be done",
    ),
];

/// Tables whose rows belong to users.
const SCHEMA: &str = "
    do $$
    declare name text;
    begin
        foreach name in array array['tasks', 'lists'] loop
            execute format('create table %I (
                id text primary key, user_id uuid not null default auth.uid(),
                updated_at timestamptz not null default now(), deleted_at timestamptz,
                a jsonb, b jsonb, c jsonb, d jsonb, e jsonb, n jsonb, \"in\" jsonb, \"is\" jsonb, \"of\" jsonb)', name);
            execute format('alter table %I enable row level security', name);
            execute format('create policy own on %I to authenticated
                using (user_id = auth.uid()) with check (user_id = auth.uid())', name);
            execute format('grant all on %I to authenticated', name);
        end loop;
    end $$;";

struct Plain {
    _project: Project,
    _database: Database,
    supabase: Supabase,
    users: Mutex<HashMap<String, User>>,
    runtime: Runtime,
}

impl Plain {
    fn new() -> Self {
        let database = Database::create();
        database.sql(
            "create schema auth;
             create function auth.uid() returns uuid language sql stable as $$
                 select (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid
             $$;
             grant usage on schema auth, public to authenticated;",
        );
        database.sql(SCHEMA);
        let project = Project::start(database.url());
        let supabase = at(project.url());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { _project: project, _database: database, supabase, users: Mutex::default(), runtime }
    }
}

#[async_trait::async_trait]
impl Fixture for Plain {
    async fn remote(&self, user: &str) -> Arc<dyn Remote> {
        let mut users = self.users.lock().unwrap();
        let user = users.entry(user.to_owned()).or_insert_with(|| User::new(&self.supabase));
        // Nothing comes again: what a case writes is committed at once.
        Arc::new(Documents(user.builder(&self.supabase).plain_within(Duration::ZERO).build().unwrap()))
    }

    fn knows_heads(&self) -> bool {
        false
    }

    fn exceptions(&self) -> &[(&'static str, &'static str)] {
        EXCEPTIONS
    }

    fn run(&self, case: BoxFuture<'_, ()>) {
        self.runtime.block_on(case);
    }
}

/// The cases keep documents, which have the fields that they have; a row has all columns of its table. What is null in
/// the row is no field of the document.
#[derive(Debug)]
struct Documents(SupabaseRemote);

fn document(record: &mut Fields) {
    record.retain(|name, value| !value.is_null() && name != "user_id" && name != "updated_at");
}

#[async_trait::async_trait]
impl Remote for Documents {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.0.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.0.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.0.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let mut answer = self.0.push(request).await?;
        for result in &mut answer.results {
            if let PushResult::Applied { record, .. } | PushResult::Duplicate { record, .. } = result {
                record.iter_mut().for_each(document);
            }
        }
        Ok(answer)
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let mut page = self.0.pull(request).await?;
        for change in &mut page.changes {
            // What may be known already is no part of the protocol.
            change.again = false;
            change.record.iter_mut().for_each(document);
        }
        Ok(page)
    }
}

remote_conformance!(Plain::new());
