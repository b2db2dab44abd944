//! `dynos dead-letters`.

use dynos_sync::core::{Edit, Millis, Replica, replica::DeadLetter};
use serde_json::{Value, json};

use super::queue::operation;
use crate::{
    cli::{DeadLetterAction, DeadLettersArgs},
    database,
    error::Failure,
    offline,
    output::{Columns, Output},
    time,
};

pub(crate) async fn run(args: &DeadLettersArgs, output: &Output) -> Result<(), Failure> {
    let (document, text) = database::with_tracked(&args.database, async |replica, _| {
        Ok(match args.action {
            DeadLetterAction::List => {
                let letters = replica.dead_letters(0, usize::MAX >> 1).await?;
                (json!({"dead_letters": letters.iter().map(letter).collect::<Vec<_>>()}), list(&letters))
            }
            DeadLetterAction::Retry { id } => {
                offline::driver(replica).await?.retry_dead_letter(id).await?;
                (json!({"retried": id}), format!("{id} is queued again: it goes with the next dynos sync\n"))
            }
            DeadLetterAction::Discard { id } => {
                offline::driver(replica).await?.discard_dead_letter(id).await?;
                (json!({"discarded": id}), format!("{id} is given up\n"))
            }
        })
    })
    .await?;
    output.result(&document, text)
}

fn letter(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "table": letter.key.table.as_str(),
        "record_id": letter.key.id.as_str(),
        "code": letter.code,
        "message": letter.message,
        "at": time::rfc3339(letter.at),
        "edits": letter.edits.iter().map(edit).collect::<Vec<_>>(),
    })
}

fn edit((edit, at): &(Edit, Millis)) -> Value {
    json!({"operation": operation(edit.operation()), "fields": edit.fields(), "at": time::rfc3339(*at)})
}

fn list(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "there are no dead letters\n".to_owned();
    }
    let mut columns = Columns::new(["id", "record", "edits", "at", "reason"]);
    for letter in letters {
        columns.row([
            letter.id.to_string(),
            letter.key.to_string(),
            letter.edits.len().to_string(),
            time::rfc3339(letter.at),
            format!("{}: {}", letter.code, letter.message),
        ]);
    }
    columns.to_string()
}
