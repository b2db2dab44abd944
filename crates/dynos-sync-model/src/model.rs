//! The world as a model for the checker: its states, and what may happen in each.

use stateright::{Model, Property};

use crate::{
    edit::{DEVICES, Kind, RECORDS, Written},
    fault::Fault,
    intern::Id,
    rules::Rule,
    world::World,
};

/// A state of the world: the numbers of its parts, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Both devices.
    pub devices: [Id; 2],
    /// The server.
    pub server: Id,
    /// Requests that may still arrive, however often.
    pub network: Id,
    /// The edits that were made.
    pub edits: [Option<Written>; 3],
    /// What happens once has happened: the server was restored, purged, or has stopped to refuse.
    pub happened: bool,
    /// A step has broken an invariant.
    pub fault: Option<Fault>,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A local edit.
    Write(Written),
    /// A device sends what is due.
    Send(usize),
    /// A device asks for what is new, and the server answers.
    Ask(usize),
    /// A device takes what has come in.
    Take(usize),
    /// A device crashes, or gives up waiting.
    GiveUp(usize),
    /// A request arrives, and stays on the wire as a copy. The answer sets out to a device that waits for it, or is lost.
    Deliver {
        /// The request.
        request: Id,
        /// Which device is answered.
        answered: Option<usize>,
    },
    /// The server is restored to this copy.
    Restore(Id),
    /// The server purges its tombstones.
    Purge,
    /// The server stops refusing.
    Declare,
}

impl State {
    /// How many edits were made.
    pub fn written(&self) -> usize {
        self.edits.iter().flatten().count()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let (server, devices) = self.first_parts();
        let network = self.networks.intern(vec![]);
        vec![State { devices, server, network, edits: [None; 3], happened: false, fault: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.fault.is_some() {
            return;
        }
        for device in 0..DEVICES.len() {
            self.edits(state, device, actions);
            actions.extend([Action::Send(device), Action::Ask(device), Action::Take(device)]);
            actions.push(Action::GiveUp(device));
        }
        for request in self.networks.get(state.network).iter() {
            actions.push(Action::Deliver { request: *request, answered: None });
            for device in 0..DEVICES.len() {
                actions.push(Action::Deliver { request: *request, answered: Some(device) });
            }
        }
        if state.happened {
            return;
        }
        let variant = self.variant();
        if variant.restore {
            actions.extend(self.servers.get(state.server).copies.iter().copied().map(Action::Restore));
        }
        if variant.purge {
            actions.push(Action::Purge);
        }
        if variant.refusing {
            actions.push(Action::Declare);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Write(written) => {
                let number = state.written();
                let device = &mut next.devices[usize::from(written.device)];
                *device = self.write(*device, written, number + 1)?;
                next.edits[number] = Some(written);
            }
            Action::Send(device) => {
                let (sent, request) = self.send(state.devices[device])?;
                next.devices[device] = sent;
                let mut network = (*self.networks.get(state.network)).clone();
                network.push(request);
                self.keep(&mut next, network);
            }
            Action::Ask(device) => {
                (next.devices[device], next.fault) = self.ask(state.devices[device], state.server)?;
            }
            Action::Take(device) => {
                (next.devices[device], next.fault) = self.take(state.devices[device])?;
                self.prune(&mut next);
            }
            Action::GiveUp(device) => self.give_up(&mut next, device)?,
            Action::Deliver { request, answered } => self.arrive(&mut next, request, answered)?,
            Action::Restore(copy) => {
                (next.server, next.happened) = (self.restore(state.server, copy), true);
                if self.worker.rules.has(Rule::WireCutByRestore) {
                    next.network = self.networks.intern(vec![]);
                }
            }
            Action::Purge => (next.server, next.happened) = (self.purge(state.server)?, true),
            Action::Declare => (next.server, next.happened) = (self.declare(state.server), true),
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        crate::properties::all()
    }

    fn format_action(&self, action: &Action) -> String {
        self.tell(*action)
    }
}

impl World {
    /// The edits that a device may make. Where devices are alike, the first edit of all is the first device's.
    fn edits(&self, state: &State, device: usize, actions: &mut Vec<Action>) {
        let begins = state.written() == 0 && device > 0 && self.variant().is_symmetric();
        if state.written() >= self.variant().edits || begins {
            return;
        }
        let together = self.variant().together;
        let mut write = |record, kind| {
            let [device, record] = [device, record].map(|n| u8::try_from(n).unwrap_or(0));
            actions.push(Action::Write(Written { device, record, kind }));
        };
        for record in 0..RECORDS.len() {
            let kinds = Kind::ALONE.into_iter().filter(|kind| !together || *kind != Kind::Upsert);
            kinds.for_each(|kind| write(record, kind));
        }
        if together {
            write(0, Kind::Both);
        }
    }

    /// A page that is given up was as good as never asked for; only what is durable or on the wire makes a difference.
    fn give_up(&self, next: &mut State, device: usize) -> Option<()> {
        use crate::device::Job;
        let job = &self.devices.get(next.devices[device]).job;
        if !matches!(job, Job::Push { .. } | Job::Half(_)) {
            return None;
        }
        next.devices[device] = self.idle(next.devices[device]);
        self.prune(next);
        Some(())
    }

    fn arrive(&self, next: &mut State, request: Id, answered: Option<usize>) -> Option<()> {
        let awaits =
            |device: Id| self.devices.get(device).awaits().filter(|(awaited, _)| *awaited == request);
        let done = self.deliver(next.server, request);
        (next.server, next.fault) = (done.server, done.fault);
        if let Some(device) = answered {
            awaits(next.devices[device])?;
            next.devices[device] = self.answer(next.devices[device], done.answer?);
        }
        self.prune(next);
        Some(())
    }

    fn prune(&self, next: &mut State) {
        let network = (*self.networks.get(next.network)).clone();
        self.keep(next, network);
    }

    /// Copies that will never again have an effect are as good as lost, unless somebody waits for the answer.
    fn keep(&self, next: &mut State, mut network: Vec<Id>) {
        network.sort_unstable();
        network.dedup();
        let rules = self.worker.rules;
        let comes_back = self.variant().restore && !rules.has(Rule::WireCutByRestore) && !next.happened;
        let certain = rules.has(Rule::RememberedOutcomes) && !comes_back;
        if certain {
            let awaited = next.devices.map(|device| self.devices.get(device).awaits().map(|(id, _)| id));
            network
                .retain(|request| awaited.contains(&Some(*request)) || !self.is_spent(next.server, *request));
        }
        next.network = self.networks.intern(network);
    }

    fn is_spent(&self, server: Id, request: Id) -> bool {
        let again = self.deliver(server, request);
        again.spent && again.server == server
    }
}
