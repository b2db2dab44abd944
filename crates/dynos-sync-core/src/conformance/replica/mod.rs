//! The suite that every [`Replica`] must pass.
//!
//! An adapter's test file is a fixture and a line:
//!
//! ```
//! use std::sync::Arc;
//! use dynos_sync_core::{Replica, conformance::replica::Fixture, memory::MemoryReplica};
//!
//! #[derive(Default)]
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl Fixture for Memory {
//!     async fn open(&self) -> Arc<dyn Replica> {
//!         Arc::new(MemoryReplica::new([7; 16]))
//!     }
//!
//!     fn is_durable(&self) -> bool {
//!         false
//!     }
//! }
//!
//! dynos_sync_core::replica_conformance!(Memory);
//! # fn main() {}
//! ```
#![expect(missing_docs, reason = "the name of a case says what it asserts")]

pub mod conflicts;
mod device;
pub mod looking;
pub mod pulling;
pub mod refusals;
pub mod schema;
pub mod sending;
pub mod session;
pub mod settling;
pub mod staleness;
pub mod tables;
pub mod transactions;
pub mod values;
pub mod writes;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::Replica;
use device::Device;

/// One database, made anew for each case. It may hold whatever keeps the database's files in place.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens the fixture's database: an empty one at the first call. At later calls, where it
    /// [is durable](Self::is_durable), the same one again, after the replica of the call before was closed.
    async fn open(&self) -> Arc<dyn Replica>;

    /// Whether what was committed is still there when the database is opened again. Cases of that are passed over
    /// where it is not.
    fn is_durable(&self) -> bool {
        true
    }

    /// Runs a case to its end. An adapter that needs a runtime of its own puts it here.
    fn run(&self, case: BoxFuture<'_, ()>) {
        super::block_on(case);
    }
}

/// Runs the suite for replicas: an expression that makes a [`Fixture`](crate::conformance::replica::Fixture) gives
/// one `#[test]` a case. Attributes for the tests may follow, as in
/// `replica_conformance!(Disk::new(); #[ignore = "slow"])`.
#[macro_export]
macro_rules! replica_conformance {
    ($fixture:expr $(; $(#[$attribute:meta])*)?) => {
        $crate::conformance_cases! { replica ($($(#[$attribute])*)?) $fixture;
            writes {
                a_write_is_queued_and_can_be_read
                each_kind_of_edit_changes_the_row_in_its_way
                a_batch_with_a_patch_of_a_missing_record_does_nothing
                a_row_of_somebody_else_is_not_edited
                a_batch_whose_last_step_fails_does_nothing
                a_delete_of_a_missing_record_does_nothing
                a_receipt_names_the_writes_in_order
                counters_rise
                counters_rise_over_reopen
                edit_times_rise_even_where_the_clock_steps_back
                enqueue_leaves_the_row_alone
                an_offer_starts_from_the_servers_version
                store_changes_only_the_row
                a_table_that_is_not_synced_is_named
                records_answers_those_with_entries_or_all
                the_queue_is_read_in_pages
                a_call_that_nobody_polls_holds_no_other_up
                a_write_survives_reopen
            }
            settling {
                the_base_is_the_record_before_its_first_pending_edit
                a_new_record_has_no_base
                a_settled_edit_is_folded_into_the_base
                a_settled_delete_leaves_no_base
                the_servers_form_becomes_the_base_while_newer_edits_are_pending
                the_servers_form_becomes_the_row_once_nothing_is_pending
                without_a_servers_form_the_row_stays
                once_nothing_is_pending_the_next_edit_has_the_row_as_its_base
                settling_an_unknown_counter_does_nothing
                the_base_survives_reopen
            }
            sending {
                due_groups_records_in_the_order_of_their_oldest_entries
                what_is_under_way_and_its_records_can_be_left_out
                due_is_bounded_by_records
                due_is_bounded_by_bytes_but_never_empty
                a_record_is_left_out_until_its_retry
                newer_entries_of_a_waiting_record_wait_too
                sent_entries_come_first_and_alone_until_they_are_settled
                sent_entries_are_bounded_too
                freeze_replaces_the_unsent_entries_up_to_its_own
                freeze_is_stale_where_the_entry_has_gone
                freeze_is_stale_where_the_entry_was_sent
                a_sent_entry_keeps_the_base_it_was_sent_with
                a_thawed_entry_can_be_sent_again_under_its_number
                thawing_an_unknown_counter_does_nothing
                unsettled_lists_a_tables_sent_entries_oldest_first
                sent_entries_survive_reopen
            }
            transactions {
                a_transactions_entries_say_so_and_others_do_not
                a_transaction_is_due_as_a_whole
                a_transaction_is_no_part_of_a_group
                a_transaction_waits_for_what_came_before_in_any_of_its_records
                a_transaction_waits_where_one_of_its_records_does
                a_transaction_that_was_sent_is_sent_again_as_a_whole
                the_outcome_of_a_conflict_is_a_part_of_the_transaction
                where_the_servers_version_stays_the_rest_goes_on_alone
                a_conflict_over_several_transactions_makes_them_one
                a_transaction_stays_one_without_what_is_set_aside
                a_refused_transaction_is_given_up_as_a_whole_and_taken_up_as_one
                discarding_a_letter_discards_its_transaction
                what_is_given_up_takes_no_part_of_another_transaction_with_it
                what_stays_of_a_record_that_is_given_up_creates_it
                what_follows_a_transaction_that_failed_is_no_part_of_it
                a_transaction_survives_reopen
            }
            schema {
                what_waits_is_brought_up_to_date
                the_applications_rows_stay_as_they_are
                what_was_sent_is_sent_again_as_it_was
                what_was_sent_as_it_was_is_folded_into_the_base_as_it_is
                what_was_sent_and_did_not_take_effect_goes_on_as_it_is_now
                dead_letters_are_brought_up_to_date
                the_conflict_journal_is_brought_up_to_date
                a_version_is_adopted_once
                an_earlier_version_than_the_databases_is_refused
                a_transaction_stays_one_over_an_upgrade
                the_schemas_version_and_what_was_sent_survive_reopen
                a_logout_forgets_what_was_sent_but_not_the_schemas_version
            }
            refusals {
                a_postponed_record_takes_fresh_numbers_in_the_same_order
                each_postponement_counts_an_attempt
                postponing_an_unknown_counter_does_nothing
                a_refused_record_waits_no_longer_than_the_longest_wait
                a_buried_record_gives_up_all_of_its_entries
                a_buried_record_can_take_the_servers_version
                a_buried_record_can_disappear_as_on_the_server
                a_buried_record_can_return_to_its_base
                a_buried_record_can_stay_as_it_is
                burying_an_unknown_counter_does_nothing
                fields_that_are_set_aside_leave_the_rest_to_be_sent
                a_patch_of_nothing_else_leaves_the_queue_with_what_is_set_aside
                setting_nothing_aside_renumbers
                setting_aside_for_an_unknown_counter_does_nothing
                what_was_set_aside_can_be_taken_up_again
                a_revived_letter_is_written_and_queued_again
                a_revived_patch_of_a_record_that_has_gone_creates_it
                a_revived_delete_is_queued_though_the_row_has_gone
                a_discarded_letter_is_gone
                an_unknown_letter_changes_nothing
                dead_letters_are_read_in_pages_oldest_first
                dead_letters_survive_reopen
            }
            conflicts {
                a_resolution_replaces_the_pending_entries
                a_resolution_for_the_servers_version_leaves_nothing_pending
                a_resolution_can_delete
                a_resolution_can_bring_the_record_back
                a_resolution_takes_sent_entries_too
                the_journal_keeps_all_that_was_decided
                the_journal_is_read_in_pages_newest_first
                the_journal_forgets_single_entries
                the_journal_drops_what_is_old
                the_journal_survives_reopen
            }
            staleness {
                a_batch_of_another_generation_is_stale
                a_record_with_another_newest_entry_is_stale
                a_record_without_entries_is_stale_once_it_has_one
                a_record_with_entries_is_stale_once_it_has_none
                a_write_to_another_record_makes_nothing_stale
                a_page_for_another_cursor_is_stale
                a_page_for_a_table_that_is_not_synced_is_stale
                a_stale_batch_does_nothing
                what_was_expected_and_holds_is_committed
            }
            pulling {
                what_a_restored_server_did_not_list_is_the_base_of_no_deletion
                a_first_pull_lasts_until_it_is_complete
                a_row_and_its_cursor_move_together
                skip_moves_only_a_following_table_that_stands_there
                what_is_filled_in_goes_into_the_row_and_the_base
                restart_forgets_the_cursor_of_one_table
                a_place_ahead_is_kept_until_a_pull_has_passed_it
                restart_thaws_sent_entries_under_fresh_numbers
                restart_keeps_the_order_of_what_was_sent
                restart_leaves_the_entries_of_other_tables_alone
                a_resync_deletes_rows_that_were_not_seen
                a_resync_keeps_rows_with_pending_entries
                a_resync_keeps_what_the_server_acknowledged_meanwhile
                a_resync_that_starts_over_forgets_what_it_saw
                a_resync_leaves_other_tables_alone
                what_a_resync_saw_survives_reopen
                a_restore_offers_rows_that_were_not_seen
                a_restore_offers_rows_that_were_not_seen_whole_though_a_patch_is_pending
                following_deletes_nothing
                the_cursor_survives_reopen
            }
            tables {
                a_table_begins_with_its_first_pull
                tables_are_listed_in_the_order_in_which_they_were_added
                adding_a_table_again_changes_its_policy_only
                rows_that_are_there_already_are_queued_as_older_than_any_edit
                rows_that_are_there_already_can_be_ignored
                the_first_edit_of_a_row_that_was_ignored_offers_it_whole
                rows_that_are_ignored_are_so_after_a_reopen
                a_replica_keeps_its_name_over_a_reopen
                a_declared_table_stays_declared
                a_removed_table_keeps_its_rows_but_not_its_queue
                a_removed_table_starts_anew_when_it_is_added_again
                removing_a_table_leaves_the_others_alone
                tables_survive_reopen
            }
            session {
                a_new_replica_is_empty
                an_identity_survives_reopen
                logout_is_refused_while_something_is_unsynced
                logout_forgets_the_user
                logout_without_unsynced_changes_discards_nothing
                logout_forgets_the_rows_of_tables_that_the_user_stopped_syncing
                logout_leaves_tables_alone_that_an_earlier_user_stopped_syncing
                a_batch_planned_before_logout_is_stale
                a_logout_survives_reopen
                a_logout_takes_the_rows_of_tables_that_are_no_longer_synced
                a_replica_belongs_to_the_server_it_was_bound_to
                a_renamed_replica_sends_its_entries_again
                an_observed_time_is_behind_every_later_edit
                an_earlier_time_changes_nothing
                the_state_counts_what_there_is
                a_closed_replica_says_so
            }
            looking {
                an_account_has_what_is_pending_of_a_record
                an_account_has_the_letters_and_conflicts_of_its_record_alone
                an_account_of_a_record_that_is_not_there_is_empty
                an_account_of_a_table_that_is_not_synced_is_refused
                an_account_knows_what_was_never_offered
                an_inspection_counts_what_there_is
                looking_changes_nothing
            }
            values {
                every_value_and_field_name_comes_back_as_it_was
                every_value_survives_the_queue
                every_value_survives_a_letter_and_the_journal
                every_id_is_a_record_of_its_own
                every_id_can_be_sent_seen_and_settled
                an_id_that_cannot_be_a_record_of_its_own_is_refused
                values_and_ids_survive_reopen
            }
        }
    };
}
