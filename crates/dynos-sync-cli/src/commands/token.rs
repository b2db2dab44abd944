//! `dynos token`.

use dynos_sync::core::Millis;
use dynos_sync_server::mint;
use serde_json::json;

use crate::{
    cli::TokenArgs,
    error::{Code, Failure},
    output::Output,
    secret, time,
};

pub(crate) fn run(args: &TokenArgs, output: &Output) -> Result<(), Failure> {
    if args.user.is_empty() {
        return Err(Failure::new(Code::Usage, "the user's name is empty").hint("name the user: --user ada"));
    }
    let secret = secret::read(&secret::path(&args.data, args.secret_file.as_ref()))?;
    let now = time::now();
    let token = mint(&secret, &args.user, args.ttl, now)
        .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    let expires = now + Millis::try_from(args.ttl.as_millis()).unwrap_or(Millis::MAX / 2);
    let document = json!({"token": token, "user": args.user, "expires_at": time::rfc3339(expires)});
    output.result(&document, format_args!("{token}\n"))
}
