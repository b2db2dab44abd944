//! PostgREST cuts answers at a number of rows without a word. The functions answer with one row, however many changes
//! it lists.

use dynos_sync_testbed::Supabase;

use crate::support::{Device, User, at, unique};

#[tokio::test]
async fn no_limit_of_rows_cuts_a_page() {
    const ROWS: usize = 100_000;
    let supabase = Supabase::shared();
    let (user, name) = (User::new(&supabase), unique("rows"));
    supabase.sql(&format!(
        "create table {name} (id integer primary key, user_id uuid not null, title text);
         grant all on {name} to authenticated;
         select public.dynos_track('{name}', 'user_id');
         insert into {name} select n, '{}', 'row ' || n from generate_series(1, {ROWS}) n;",
        user.id
    ));
    for url in [&supabase.url, &supabase.small_pages_url] {
        let device = Device::new(user.remote(&at(url)), &name);
        let (records, pages) = device.pull_all(1000).await;
        let mut ids: Vec<usize> = records.iter().map(|(id, _)| id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(1..=ROWS), "{} records in {pages} pages", records.len());
        assert_eq!(pages, ROWS / 1000);
    }
    supabase.sql(&format!("select public.dynos_untrack('{name}'); drop table {name}"));
}
