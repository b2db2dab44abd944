//! States and actions in words, for people who read a path.

use std::fmt;

use dynos_sync_core::{Cursor, Fields, Value, wire::PushRequest};

use crate::{
    edit::{DEVICES, RECORDS, Written, writer},
    model::{Action, State},
    world::World,
};

impl World {
    /// A state in words.
    pub fn describe(&self, state: &State) -> Vec<String> {
        let server = self.servers.get(state.server);
        let json =
            |record: Option<Fields>| record.map_or("nothing".to_owned(), |r| Value::Object(r).to_string());
        let mut lines: Vec<String> = (0..DEVICES.len())
            .map(|place| {
                let device = self.devices.get(state.devices[place]);
                let (name, table) = (DEVICES[place], device.table());
                let rows = [0, 1].map(|record| format!("{}: {}", RECORDS[record], json(device.row(record))));
                let at =
                    |cursor: &Option<Cursor>| cursor.as_ref().map_or("none".to_owned(), ToString::to_string);
                let pending: Vec<String> = device
                    .queue()
                    .iter()
                    .map(|e| format!("#{} {:?} {}", e.counter, e.edit.operation(), e.key.id))
                    .collect();
                format!(
                    "       {name} has {}; cursor {}, seen {}, {:?}, {}; pending [{}]",
                    rows.join(", "),
                    at(&table.cursor),
                    at(&table.ahead),
                    table.phase,
                    device.job.name(),
                    pending.join(", ")
                )
            })
            .collect();
        let records = server.records();
        let kept = [0, 1].map(|n| format!("{}: {}", RECORDS[n], json(records[n].clone())));
        lines.push(format!(
            "       the server has {}; head {}, {:?}",
            kept.join(", "),
            server.head(),
            state.fault
        ));
        lines
    }

    /// An action in words.
    pub fn tell(&self, action: Action) -> String {
        let name = |device: usize| DEVICES[device];
        match action {
            Action::Write(Written { device, record, kind }) => {
                format!("{} writes: {kind:?} {}", name(device.into()), RECORDS[usize::from(record)])
            }
            Action::Send(device) => format!("{} sends what is due", name(device)),
            Action::Ask(device) => format!("{} asks the server, which answers", name(device)),
            Action::Take(device) => format!("{} takes the answer", name(device)),
            Action::GiveUp(device) => format!("{} gives up waiting, or crashes", name(device)),
            Action::Deliver { request, answered } => {
                let request = Sent(&self.requests.get(request)).to_string();
                match answered {
                    Some(_) => format!("the push of {request} arrives and is answered"),
                    None => format!("a copy of the push of {request} arrives, its answer is lost"),
                }
            }
            Action::Restore(_) => "the server is restored to an earlier copy".to_owned(),
            Action::Purge => "the server purges its tombstones".to_owned(),
            Action::Declare => "the server stops refusing".to_owned(),
        }
    }
}

/// A push in words.
pub struct Sent<'a>(pub &'a PushRequest);

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DEVICES.get(writer(self.0.replica)).copied().unwrap_or("?"))?;
        for entry in &self.0.entries {
            let data = entry.data.as_ref().map(|data| Value::Object(data.clone()));
            let base = entry.base.as_ref().map_or("none", |base| base.as_str());
            write!(f, " [#{} {:?} {}", entry.counter, entry.op, entry.id)?;
            if let Some(data) = data {
                write!(f, " {data}")?;
            }
            write!(f, " base {base}]")?;
        }
        let seen: Vec<&str> = self.0.seen.values().map(Cursor::as_str).collect();
        write!(f, " seen {}", seen.join(","))
    }
}
