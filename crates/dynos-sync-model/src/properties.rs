//! The invariants of `docs/protocol.md`, as the checker asks for them in every state.

use dynos_sync_core::{Edit, Entry, Fields, replica::Phase};
use stateright::Property;

use crate::{
    device::{Device, Job},
    edit::{self, Written},
    fault::Fault,
    intern::Id,
    model::State,
    server::{Server, seq_of},
    world::World,
};

/// All of them.
pub fn all() -> Vec<Property<World>> {
    vec![
        Property::always("1 acknowledged edits have an effect", |_, state: &State| {
            !matches!(state.fault, Some(Fault::Acknowledged | Fault::Refused))
        }),
        Property::always("1 nobody's own work is lost", World::keeps_own_work),
        Property::always("2, 3 in order and once", |_, state: &State| state.fault != Some(Fault::Order)),
        Property::always("4 at rest all are equal", World::converges),
        Property::always("4 rest stays in reach", World::comes_to_rest),
        Property::always("5 no cursor skips a change", |world: &World, state: &State| {
            state.devices.iter().all(|device| !world.has_skipped(*device, state.server))
        }),
        Property::always("6 no deleted record comes back unseen", |_, state: &State| {
            state.fault != Some(Fault::Resurrection)
        }),
        Property::always("7 no change is overwritten unseen", |_, state: &State| {
            state.fault != Some(Fault::Unseen)
        }),
        Property::always("7 no conflict with one's own", |_, state: &State| {
            state.fault != Some(Fault::OwnConflict)
        }),
        Property::always("8 together or not at all", |world: &World, state: &State| {
            let torn = |device: &Id| world.is_torn(*device, state.server);
            state.fault != Some(Fault::Torn) && !state.devices.iter().any(torn)
        }),
        Property::always("the protocol is kept", |_, state: &State| state.fault != Some(Fault::Protocol)),
    ]
}

impl World {
    /// Where both devices are idle, a fair schedule leads to rest. From any other state giving up leads there.
    fn comes_to_rest(&self, state: &State) -> bool {
        !self.are_idle(state) || self.settle(state.devices, state.server).done
    }

    /// At rest, here or after a fair schedule, the devices' rows are the server's records.
    fn converges(&self, state: &State) -> bool {
        if !self.are_idle(state) {
            return true;
        }
        let end = self.settle(state.devices, state.server);
        !end.done || end.equal
    }

    fn are_idle(&self, state: &State) -> bool {
        let idle = |device: &Id| self.devices.get(*device).job == Job::Idle;
        state.fault.is_none() && state.devices.iter().all(idle)
    }

    /// Whether a part of a transaction waits, unsent, while another one has taken effect. (What a restore takes away is sent again.)
    fn is_torn(&self, device: Id, server: Id) -> bool {
        let variant = self.variant();
        if !variant.together {
            return false;
        }
        let (device, server) = (self.devices.get(device), self.servers.get(server));
        let writer = edit::writer(device.state().replica);
        let mut unsent = device.queue().into_iter().filter(|entry| entry.sent.is_none());
        unsent.any(|entry| entry.transaction.is_some_and(|transaction| server.has_of(writer, transaction)))
    }

    /// Whether the device's cursor is past a change that the device does not have.
    fn has_skipped(&self, device: Id, server: Id) -> bool {
        self.skipped.get((device, server), || {
            let (device, server) = (self.devices.get(device), self.servers.get(server));
            has_skipped(&device, &server)
        })
    }

    /// A record that only one device has edited is at rest as that device left it. A restore is allowed to make somebody
    /// else offer it, and so to make a conflict of it: there it is about records with one edit.
    fn keeps_own_work(&self, state: &State) -> bool {
        if !self.are_idle(state) {
            return true;
        }
        let end = self.settle(state.devices, state.server);
        if !end.done || end.refused {
            return true;
        }
        let records = self.servers.get(end.server).records();
        (0..2).all(|record| self.expected(state, record).is_none_or(|expected| expected == records[record]))
    }

    /// What a record has to be in the end, where only one device has edited it.
    fn expected(&self, state: &State, record: usize) -> Option<Option<Fields>> {
        let variant = self.variant();
        let exists = record == 0 && !variant.refusing;
        let edits: Vec<(usize, Written)> = (1..)
            .zip(state.edits.iter().flatten().copied())
            .filter(|(_, written)| written.is_about(record))
            .collect();
        let alone = edits.iter().all(|(_, written)| written.device == edits[0].1.device);
        if !alone || (variant.restore && edits.len() > 1) || (variant.fresh && exists) {
            return None;
        }
        let first = exists.then(|| edit::record(0));
        Some(edits.iter().fold(first, |before, (number, written)| written.edit(*number).apply(before)))
    }
}

fn has_skipped(device: &Device, server: &Server) -> bool {
    let (state, table) = (device.state(), device.table());
    let Some(cursor) = &table.cursor else { return false };
    let half = matches!(device.job, Job::Half(_));
    // What a restore took away is about to be found out.
    let knows_more = table.ahead.is_some() || !server.knows(state.replica, cursor);
    if half || table.phase != Phase::Following || knows_more {
        return false;
    }
    let (records, newest) = (server.records(), server.newest());
    (0..2).any(|record| {
        let seen = device.records(&[edit::id(record)], true).remove(0);
        let (seq, writer) = newest[record];
        // Where something is pending, one's own change is no news, and others' are what the pending was made on top of.
        let ours = writer == edit::writer(state.replica) || seen.base == records[record];
        let deletes = |entry: &Entry| matches!(entry.edit, Edit::Delete | Edit::Replace(_));
        let agree = records[record].is_none() && seen.entries.first().is_some_and(deletes);
        let has = seen.row == records[record] || (!seen.entries.is_empty() && (ours || agree));
        seq > 0 && seq <= seq_of(cursor) && !has
    })
}
