//! `dynos doctor`: why a record has not synced, whether a database is sound, and a report for support.
//!
//! It only looks: at no time is anything written to the database.

mod record;
mod whole;

use std::{io::Write, path::Path};

use dynos_sync::{
    core::{
        RecordKey, ReplicaError, Value,
        doctor::{
            Bundled, Conclusion, Depth, Explanation, Inspection, Level, Names, Recent, standing,
            support_bundle,
        },
        json,
        replica::State,
    },
    sqlite::doctor::{Examiner, Tables},
};

use crate::{
    cli::DoctorArgs,
    database,
    error::{Code, Failure},
    output::{Output, plain},
    secret::directory,
    suggest, time,
};

pub(crate) fn run(args: &DoctorArgs, output: &Output) -> Result<(), Failure> {
    database::must_exist(&args.database)?;
    let named = |failure: Failure| database::named(&args.database, &failure);
    let mut examiner = Examiner::open(&args.database).map_err(|error| named(error.into()))?;
    match (&args.table, &args.id, &args.bundle) {
        (Some(table), Some(id), _) => explain(&mut examiner, args, (table, id), output).map_err(named),
        (_, _, Some(file)) => bundle(&mut examiner, args, file, output),
        _ => inspect(&mut examiner, args, output).map_err(named),
    }
}

fn explain(
    examiner: &mut Examiner,
    args: &DoctorArgs,
    (table, id): (&str, &str),
    output: &Output,
) -> Result<(), Failure> {
    if examiner.tables()? == Tables::Missing {
        return Err(database::not_tracked(&args.database));
    }
    let key = RecordKey::new(table, id)?;
    let state = examiner.state()?;
    let account = match examiner.account(&key) {
        Ok(account) => Some(account),
        Err(ReplicaError::UnknownTable(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let explanation = Explanation::new(key, &state, account, Recent::default(), time::now());
    let command = record::command(&explanation, &args.database);
    output.result(
        &record::document(&args.database, &explanation, command.as_deref()),
        record::text(&explanation, command.as_deref()),
    )?;
    verdict(&explanation, &state, command)
}

/// A failure where the record is not synced.
fn verdict(explanation: &Explanation, state: &State, command: Option<String>) -> Result<(), Failure> {
    let Explanation { key, conclusion, .. } = explanation;
    let failure = |code, message: &str| Failure::new(code, format!("{}: {message}", plain(&key.to_string())));
    let failed = match conclusion {
        Conclusion::Synced { .. } => return Ok(()),
        Conclusion::NotTracked => {
            let names = state.tables.iter().map(|table| table.spec.name.as_str());
            let failure = failure(Code::NotTracked, "the table is not synced");
            return Err(match suggest::closest(key.table.as_str(), names) {
                Some(meant) => failure.hint(format!("did you mean {meant}?")),
                None => failure.hint(conclusion.remedy()),
            });
        }
        Conclusion::Absent => failure(Code::NotFound, "there is no such record"),
        Conclusion::Damaged { .. } => failure(Code::Damaged, "what is queued is damaged"),
        _ => failure(Code::Incomplete, "not synced"),
    };
    Err(failed.hint(command.unwrap_or_else(|| conclusion.remedy().to_owned())))
}

fn inspect(examiner: &mut Examiner, args: &DoctorArgs, output: &Output) -> Result<(), Failure> {
    let (state, inspection) = look(examiner, args);
    output.result(
        &whole::document(&args.database, state.as_ref(), &inspection),
        whole::text(state.as_ref(), &inspection),
    )?;
    if inspection.worst() < Some(Level::Fault) {
        return Ok(());
    }
    Err(Failure::new(Code::Damaged, "the database is not sound").hint("each fault is listed with what to do"))
}

/// The state where it can be read, and everything that was found.
fn look(examiner: &mut Examiner, args: &DoctorArgs) -> (Option<State>, Inspection) {
    let depth = if args.quick { Depth::Quick } else { Depth::Full };
    let mut inspection = examiner.inspect(depth);
    // Why it cannot be read is among the findings.
    let state = examiner.state().ok();
    inspection.findings.extend(state.iter().flat_map(|state| standing(state, time::now())));
    inspection.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    (state, inspection)
}

fn bundle(examiner: &mut Examiner, args: &DoctorArgs, file: &Path, output: &Output) -> Result<(), Failure> {
    let (state, inspection) = look(examiner, args);
    let bundled = Bundled {
        now: time::now(),
        state: state.as_ref(),
        inspection: Some(&inspection),
        ..Bundled::default()
    };
    let names = if args.names { Names::Kept } else { Names::Hidden };
    write_new(file, &support_bundle(&bundled, names))?;
    let name = file.display().to_string();
    output
        .result(&json!({"written": name}), format!("{}: look through it before you send it\n", plain(&name)))
}

/// Writes a file that is not there yet, whole or not at all, and readable for its owner only.
fn write_new(path: &Path, document: &Value) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Code::Exists, format!("{}: it exists", path.display()))
                .hint("name a file that does not exist")
        }
        _ => Failure::file(path, &error),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory(path)).map_err(failed)?;
    writeln!(file, "{document:#}").map_err(failed)?;
    file.persist_noclobber(path).map(drop).map_err(|error| failed(error.error))
}
