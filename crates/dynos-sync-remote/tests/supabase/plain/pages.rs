//! PostgREST cuts answers at a number of rows without a word. Pages go on until nothing is left.

use std::collections::BTreeSet;

use dynos_sync_core::Remote;

use super::table::Table;
use crate::support::{Device, User, at};

#[tokio::test]
async fn no_limit_of_rows_and_no_number_of_equal_times_hides_a_row() {
    const ROWS: usize = 100_000;
    let table = Table::with("title text");
    let user = User::new(&table.supabase);
    // Some times have more rows than a page.
    table.sql(&format!(
        "insert into TABLE (id, user_id, title, updated_at)
         select 'row ' || n, '{}', 'row ' || n, timestamptz '2026-01-01' + (n / 2500) * interval '1 microsecond'
         from generate_series(1, {ROWS}) n;
         analyze TABLE;",
        user.id
    ));
    table.device(&user).await;
    for url in [&table.supabase.url, &table.supabase.small_pages_url] {
        let remote = user.builder(&at(url)).plain().build().unwrap();
        let device = Device::new(remote, &table.name);
        let (records, pages) = device.pull_all(1000).await;
        let ids: BTreeSet<String> = records.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!((records.len(), ids.len()), (ROWS, ROWS), "each row once");
        assert_eq!(pages, ROWS / 1000 + 1, "pages are filled, however short the answers are");
        assert!(
            records
                .iter()
                .all(|(id, record)| record.as_ref().is_some_and(|record| record["title"] == id.as_str()))
        );
    }
}

#[tokio::test]
async fn rows_that_are_too_large_for_an_answer_come_in_smaller_pages() {
    let table = Table::with("title text");
    let user = User::new(&table.supabase);
    table.sql(&format!(
        "insert into TABLE (id, user_id, title) select n, '{}', repeat('x', 10000) from generate_series(1, 100) n",
        user.id
    ));
    let small = user.builder(&table.supabase).plain().max_response_bytes(100_000).build().unwrap();
    let device = Device::new(small, &table.name);
    assert_eq!(device.pull_all(1000).await.0.len(), 100);
}

#[tokio::test]
async fn a_quiet_table_costs_a_request_and_keeps_its_cursor() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    table.sql(&format!(
        "insert into TABLE (id, user_id, updated_at) select n, '{}', now() - interval '1 hour' from generate_series(1, 10) n",
        user.id
    ));
    let device = Device::new(user.builder(&table.supabase).plain().build().unwrap(), &table.name);
    let (changes, end) = device.pull_from(None, 100).await;
    assert_eq!(changes.len(), 10);
    let page = device.remote.pull(device.page(Some(end.clone()), 100)).await.unwrap();
    assert_eq!((page.changes.len(), page.has_more, page.next), (0, false, end));
}
