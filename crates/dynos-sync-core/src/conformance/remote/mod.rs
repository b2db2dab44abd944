//! The suite that every [`Remote`] must pass, together with the backend behind it.
//!
//! An adapter's test file is a fixture and a line:
//!
//! ```
//! use std::sync::Arc;
//! use dynos_sync_core::{Remote, conformance::remote::Fixture, memory::MemoryServer};
//!
//! #[async_trait::async_trait]
//! impl Fixture for MemoryServerFixture {
//!     async fn remote(&self, user: &str) -> Arc<dyn Remote> {
//!         Arc::new(self.0.remote(user))
//!     }
//! }
//!
//! #[derive(Default)]
//! struct MemoryServerFixture(MemoryServer);
//!
//! dynos_sync_core::remote_conformance!(MemoryServerFixture::default());
//! # fn main() {}
//! ```
//!
//! An adapter that needs a runtime keeps one in its fixture and runs the cases there, see [`Fixture::run`].
#![expect(missing_docs, reason = "the name of a case says what it asserts")]

mod client;
pub mod comparing;
pub mod history;
pub mod isolation;
pub mod pulling;
pub mod pushing;
pub mod repeats;
pub mod tables;
pub mod transactions;
pub mod values;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::Remote;
use client::Client;

/// One backend, made anew and empty for each case.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A connection to the fixture's backend, for one user. The cases know the users `ada` and `bob`, and ask for
    /// new connections after [`backup`](Self::backup) and [`restore`](Self::restore), which may restart it.
    async fn remote(&self, user: &str) -> Arc<dyn Remote>;

    /// Keeps a copy of the whole backend, as an operator's backup does. `None` where that cannot be done here:
    /// the cases about restored backends are passed over then.
    async fn backup(&self) -> Option<()> {
        None
    }

    /// Puts the copy made by [`backup`](Self::backup) in place, as an operator does: the backend's process starts
    /// anew on it. May be called more than once.
    async fn restore(&self) {}

    /// Purges every tombstone, as if its retention had passed. `None` where that cannot be done here: the cases
    /// about purged tombstones are passed over then.
    async fn purge(&self) -> Option<()> {
        None
    }

    /// Whether [`Remote::heads`] says where a table ends. Where it does not, the cases walk to the end instead.
    fn knows_heads(&self) -> bool {
        true
    }

    /// The cases that the backend does not promise to hold, by name, each with the reason. They have to fail: one that
    /// holds is to be taken out of the list.
    fn exceptions(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Runs a case to its end. An adapter that needs a runtime of its own puts it here:
    /// `self.runtime.block_on(case)`.
    fn run(&self, case: BoxFuture<'_, ()>) {
        super::block_on(case);
    }
}

/// Runs a case of that name, and judges it.
///
/// # Panics
/// Where the case fails, or is one of the [exceptions](Fixture::exceptions) and does not.
pub fn judge(fixture: &dyn Fixture, name: &str, case: BoxFuture<'_, ()>) {
    let Some((_, reason)) = fixture.exceptions().iter().find(|(exception, _)| *exception == name) else {
        return fixture.run(case);
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| fixture.run(case)));
    assert!(outcome.is_err(), "{name} holds: take it out of the exceptions (\"{reason}\")");
}

/// Makes sure that every [exception](Fixture::exceptions) is one of the cases.
///
/// # Panics
/// Where one is not.
pub fn judge_exceptions(fixture: &dyn Fixture, cases: &[&str]) {
    for (name, reason) in fixture.exceptions() {
        assert!(cases.contains(name), "there is no case {name}, which is excepted (\"{reason}\")");
        assert!(!reason.is_empty(), "{name} is excepted without a reason");
    }
}

/// Runs the suite for remotes: an expression that makes a [`Fixture`](crate::conformance::remote::Fixture) gives one
/// `#[test]` a case. Attributes for the tests may follow, as in
/// `remote_conformance!(Postgres::start(); #[ignore = "needs Postgres"])`.
#[macro_export]
macro_rules! remote_conformance {
    ($fixture:expr $(; $(#[$attribute:meta])*)?) => {
        $crate::conformance_cases! { remote ($($(#[$attribute])*)?) $fixture;
            tables {
                declared_tables_are_listed
                declaring_a_table_again_changes_nothing
                a_record_made_by_a_device_with_fewer_columns_has_nothing_in_the_others
                heads_name_every_table_asked_for
                heads_are_equal_while_nothing_changes
                a_change_moves_the_head_of_its_table_alone
                a_backend_has_one_identity
                the_highest_counter_of_a_replica_is_known
                table_names_are_any_unicode
            }
            pushing {
                applied_changes_are_numbered_upwards
                an_upsert_merges_its_fields
                a_replace_resets_what_it_does_not_name
                a_patch_sets_only_its_fields
                a_delete_travels
                a_delete_of_a_record_that_never_was_travels_too
                an_upsert_after_a_delete_starts_from_nothing
                a_patch_of_a_missing_record_is_rejected
                an_entry_for_an_unknown_table_is_rejected
                an_edit_time_out_of_range_is_rejected
                one_bad_entry_never_blocks_the_others
                entries_of_a_record_take_effect_in_their_order
                a_batch_may_delete_create_and_delete
                a_push_tells_how_the_head_moved
                what_is_not_applied_moves_no_head
            }
            repeats {
                a_repeat_of_an_applied_entry_has_no_effect
                a_repeat_does_not_undo_what_others_made_of_it
                a_repeat_of_a_whole_batch_has_no_effect
                a_rejection_is_remembered
                an_older_counter_of_the_same_writer_has_no_effect
                an_older_counter_for_another_record_is_applied
                other_content_under_a_used_counter_is_a_fork
                other_content_under_a_rejected_counter_is_a_fork
                nothing_of_a_forked_batch_is_applied
                the_base_is_no_part_of_the_content
            }
            comparing {
                a_change_that_the_author_has_not_seen_is_a_conflict
                a_change_that_the_author_has_seen_is_not
                an_own_change_is_never_a_conflict
                a_change_of_another_record_is_not_a_conflict
                a_deletion_that_the_author_has_not_seen_is_a_conflict
                a_deletion_does_not_pass_over_an_unseen_change
                a_conflict_comes_before_a_rejection
                an_entry_is_applied_under_its_counter_once_it_has_a_later_base
                of_two_entries_with_one_base_the_first_wins
            }
            transactions {
                a_transaction_is_applied_in_all_its_tables
                a_conflict_of_one_entry_is_one_of_its_transaction
                a_refusal_of_one_entry_is_one_of_its_transaction
                a_refused_transaction_is_remembered
                a_repeat_of_a_transaction_has_no_effect
                what_of_a_transaction_was_applied_before_stands
                a_transaction_and_what_stands_beside_it_do_not_touch_each_other
                a_transaction_in_pieces_or_with_a_record_twice_is_refused
            }
            pulling {
                a_change_carries_its_record_number_and_time
                a_record_is_listed_once_with_its_newest_version
                own_changes_are_left_out
                all_includes_own_changes_and_marks_them
                a_change_on_top_of_an_own_one_is_not_own
                at_the_head_there_is_nothing_to_pull
                pages_of_any_size_list_the_same_changes
                pages_of_any_size_list_the_same_without_own_changes
                what_changes_between_pages_is_not_missed
                a_table_is_pulled_without_the_others
                settled_names_the_applied_of_those_asked_about
                settled_names_nothing_beyond_the_page
                settled_and_a_change_on_top_come_together
                a_cursor_that_was_never_given_is_refused
                a_limit_of_nothing_skips_nothing
            }
            isolation {
                users_do_not_see_each_others_records
                users_do_not_share_counters_or_conflicts
                users_do_not_move_each_others_heads
                users_do_not_settle_each_others_entries
                replicas_of_one_user_share_everything
            }
            history {
                a_cursor_before_a_purged_tombstone_has_expired
                a_cursor_of_an_empty_table_expires_too
                a_cursor_after_the_purged_tombstones_is_valid
                a_purge_moves_no_head
                a_purge_expires_no_cursor_of_another_table
                after_a_purge_a_pull_from_the_start_lists_what_lives
                a_walk_that_began_after_a_purge_reaches_its_end
                a_walk_that_a_purge_overtakes_has_expired
                an_entry_with_a_purged_base_is_a_conflict
                a_cursor_beyond_a_restored_copy_has_expired
                a_cursor_has_expired_though_new_changes_have_passed_it
                a_cursor_within_a_walk_over_what_was_lost_has_expired
                a_cursor_within_a_restored_copy_is_valid
                a_restore_to_nothing_has_nothing_in_common
                a_restore_that_lost_nothing_expires_nothing
                a_restored_backend_keeps_its_identity
                what_a_restore_lost_is_applied_again
                an_entry_with_a_lost_base_is_a_conflict
                an_entry_of_a_replica_that_has_seen_what_was_lost_is_a_conflict
                a_pull_that_names_a_place_that_was_lost_has_expired
                a_pull_may_name_a_place_before_a_purge
                a_second_restore_is_noticed_too
            }
            values {
                every_value_and_field_name_travels_as_it_is
                every_id_is_a_record_of_its_own
                a_nul_travels_or_is_rejected
                every_value_survives_a_patch_of_another_field
            }
        }
    };
}
