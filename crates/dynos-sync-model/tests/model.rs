//! The whole of smaller worlds than `cargo run --release -p dynos-sync-model` explores, and what happens without each rule.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_model::{
    explore::explore,
    rules::{Rule, Rules},
    variant::Variant,
};

fn holds(which: impl Fn(&Variant) -> bool, edits: usize) {
    for variant in Variant::all().into_iter().filter(which) {
        let name = variant.name;
        let found = explore(variant.with_edits(edits), Rules::default(), 1, true);
        assert!(found.broken.is_empty(), "{name}: {found}");
    }
}

#[test]
fn every_invariant_holds_in_every_state_of_two_edits() {
    holds(|variant| !variant.restore && !variant.purge && !variant.fresh, 2);
}

#[test]
fn every_invariant_holds_with_new_devices() {
    holds(|variant| variant.fresh && !variant.restore, 2);
}

#[test]
fn every_invariant_holds_though_tombstones_are_purged() {
    holds(|variant| variant.purge, 2);
}

#[test]
fn every_invariant_holds_though_the_server_is_restored() {
    holds(|variant| variant.restore, 1);
}

/// What breaks first without a rule: a path to it is found, and its last step is no fault of the model's own.
fn breaks(rule: Rule, invariants: &[char]) {
    let (name, edits) = rule.shown_by();
    let variant = Variant::named(name).unwrap().with_edits(edits);
    let found = explore(variant, Rules::without(rule), 1, true);
    let numbers: Vec<char> =
        found.broken.iter().filter_map(|(property, _)| property.chars().next()).collect();
    assert!(!numbers.is_empty(), "without {rule:?} nothing breaks: {found}");
    assert!(numbers.iter().all(|number| invariants.contains(number)), "without {rule:?}: {found}");
}

macro_rules! needed {
    ($($test:ident: $rule:ident breaks $invariants:expr;)*) => {
        $(#[test] fn $test() { breaks(Rule::$rule, &$invariants); })*

        #[test]
        fn every_rule_is_shown_to_be_needed() {
            assert_eq!([$(Rule::$rule),*].map(|rule| format!("{rule:?}")), Rule::ALL.map(|rule| format!("{rule:?}")));
        }
    };
}

needed! {
    compare_and_set_is_needed: CompareAndSet breaks ['4', '6', '7'];
    remembered_outcomes_are_needed: RememberedOutcomes breaks ['2', '7'];
    the_stale_counter_rule_is_needed: StaleCounter breaks ['2'];
    settled_is_needed: Settled breaks ['7'];
    freezing_is_needed: Freezing breaks ['2', '7'];
    conflicts_are_left_to_the_pull: ConflictsByPull breaks ['4', '5'];
    a_cursor_skips_only_from_before: SkipAtBefore breaks ['4', '5'];
    what_is_ahead_is_needed: Ahead breaks ['1', '4', '5'];
    a_page_needs_its_cursor: PageWithCursor breaks ['4', '5'];
    full_pulls_need_ones_own: OwnInFullPulls breaks ['4', '5'];
    seen_is_needed: Seen breaks ['1', '4'];
    a_walk_has_to_end_before_a_push: WalkBeforePush breaks ['1', '6'];
    a_walk_needs_to_know_its_end: WalkEnd breaks ['4', '5'];
    a_resync_needs_to_know_what_it_lists_again: KnownInResync breaks ['1'];
    a_restore_is_assumed_to_cut_the_wire: WireCutByRestore breaks ['4'];
    incarnations_are_needed: Incarnations breaks ['1', '4'];
    tombstones_are_needed: Tombstones breaks ['4', '5'];
    purged_cursors_have_to_be_refused: PurgedCursors breaks ['4', '5'];
    a_transaction_is_one: Together breaks ['8'];
}
