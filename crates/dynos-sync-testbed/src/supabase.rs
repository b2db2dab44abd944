//! The shared stand-in for a Supabase project.

use crate::{database, shared::variable};

/// How to reach the shared project: real PostgREST and PostgreSQL, an imitation of the authentication, no Realtime.
///
/// Its database and its users are shared by all tests: give tables names of your own, and sign up your own users.
#[derive(Clone)]
#[non_exhaustive]
pub struct Supabase {
    /// The project's URL. PostgREST answers below `/rest/v1`, cut at 1000 rows, the authentication below `/auth/v1`.
    pub url: String,
    /// The same project, with answers cut at 7 rows.
    pub small_pages_url: String,
    /// The public API key.
    pub anon_key: String,
    /// The API key that row-level security does not hold for.
    pub service_key: String,
    /// What signs the project's tokens (HS256).
    pub jwt_secret: String,
    /// The database, as its superuser.
    pub database_url: String,
}

impl Supabase {
    /// The shared project.
    ///
    /// # Panics
    /// Where it is not running, with what to do.
    #[must_use]
    pub fn shared() -> Self {
        Self {
            url: variable("DYNOS_TEST_SUPABASE_URL"),
            small_pages_url: variable("DYNOS_TEST_SUPABASE_URL_MAX_ROWS_7"),
            anon_key: variable("DYNOS_TEST_SUPABASE_ANON_KEY"),
            service_key: variable("DYNOS_TEST_SUPABASE_SERVICE_KEY"),
            jwt_secret: variable("DYNOS_TEST_SUPABASE_JWT_SECRET"),
            database_url: variable("DYNOS_TEST_DATABASE_URL"),
        }
    }

    /// Runs SQL as the superuser, with `psql`, and answers its rows: a line each, columns parted by `|`. After
    /// statements that change tables or functions, [`reload`](Self::reload).
    ///
    /// # Panics
    /// Where a statement fails, with the server's message.
    pub fn sql(&self, statements: &str) -> String {
        database::sql(&self.database_url, statements)
    }

    /// Tells PostgREST that tables or functions changed. It notices a moment later: await what you need.
    pub fn reload(&self) {
        self.sql("notify pgrst, 'reload schema'");
    }
}
