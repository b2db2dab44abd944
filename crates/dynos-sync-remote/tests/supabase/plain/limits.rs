//! Pushes that take too long.

use dynos_sync_core::{Remote, RemoteError};
use serde_json::json;

use super::table::{Table, eventually};
use crate::support::{Device, User, unique};

/// A role that has half a second for a statement, and a table whose rows take their time.
struct Slow {
    table: Table,
    role: String,
}

impl Slow {
    fn new() -> Self {
        let (table, role) = (Table::with("seconds float8 not null"), unique("slow"));
        table.sql(&format!(
            "create role {role} nologin; grant {role} to authenticator;
             alter role {role} set statement_timeout = '500ms';
             grant usage on schema public, auth to {role};
             grant all on TABLE to {role};
             create policy slow on TABLE to {role} using (true) with check (true);
             create function {role}() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(new.seconds); return new; end $$;
             create trigger slow before insert on TABLE for each row execute function {role}();
             notify pgrst, 'reload config'; notify pgrst, 'reload schema';"
        ));
        Self { table, role }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let role = &self.role;
        self.table.sql(&format!(
            "drop trigger slow on TABLE; drop function {role}; drop policy slow on TABLE;
             drop owned by {role}; drop role {role}; notify pgrst, 'reload config'"
        ));
    }
}

#[tokio::test]
async fn a_batch_that_takes_too_long_is_sent_in_parts() {
    let slow = Slow::new();
    let user = User::with_role(&slow.table.supabase, &slow.role);
    let mut device = Device::new(slow.table.remote(&user), &slow.table.name);
    // PostgREST learns of the table and of the role's limit a moment after they were made.
    eventually(async || {
        let request = vec![device.upsert("single", json!({"seconds": 0.6}))];
        let outcome = device.remote.push(&device.request(request)).await;
        let is_limited = outcome.as_ref().is_err_and(RemoteError::is_transient);
        slow.table.sql("delete from TABLE");
        is_limited.then_some(())
    })
    .await;
    let entries = (0..8).map(|n| device.upsert(&format!("r{n}"), json!({"seconds": 0.15}))).collect();
    assert_eq!(device.outcomes(entries).await, ["applied"; 8], "all of them need more than a second");
    assert_eq!(slow.table.sql("select count(*) from TABLE"), "8");
}
