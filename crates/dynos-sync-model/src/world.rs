//! Both devices, the server and the network: the steps of each part, worked out once.

use dynos_sync_core::wire::{PushAnswer, PushRequest};

use crate::{
    device::{Device, Job},
    edit::{Kind, Written},
    fault::Fault,
    intern::{Id, Memo, Table},
    job::Worker,
    rules::{Rule, Rules},
    server::Server,
    settle::Settled,
    variant::Variant,
};

/// What a device's step came to.
pub type Stepped = Option<(Id, Option<Fault>)>;

/// What is explored, and all parts that were met.
#[derive(Debug)]
pub struct World {
    /// How the devices work.
    pub worker: Worker,
    /// The devices in all their states.
    pub devices: Table<Device>,
    /// The server in all its states.
    pub servers: Table<Server>,
    /// The pushes.
    pub requests: Table<PushRequest>,
    /// The answers.
    pub answers: Table<PushAnswer>,
    /// What is in flight: requests that may still arrive.
    pub networks: Table<Vec<Id>>,
    writes: Memo<(Id, u8, Kind, usize), Option<Id>>,
    sent: Memo<Id, Option<(Id, Id)>>,
    asked: Memo<(Id, Id), Stepped>,
    taken: Memo<Id, Stepped>,
    idled: Memo<Id, Id>,
    answered: Memo<(Id, Id), Id>,
    delivered: Memo<(Id, Id), Delivery>,
    restored: Memo<(Id, Id), Id>,
    purged: Memo<Id, Option<Id>>,
    declared: Memo<Id, Id>,
    pub(crate) skipped: Memo<(Id, Id), bool>,
    pub(crate) settled: Memo<(Id, Id, Id), Settled>,
}

/// What came of a push.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// The server afterwards.
    pub server: Id,
    /// The answer.
    pub answer: Option<Id>,
    /// Whether it will never have an effect again.
    pub spent: bool,
    /// What went wrong.
    pub fault: Option<Fault>,
}

impl World {
    /// A world in which nothing has happened.
    pub fn new(variant: Variant, rules: Rules) -> Self {
        Self {
            worker: Worker { variant, rules },
            devices: Table::default(),
            servers: Table::default(),
            requests: Table::default(),
            answers: Table::default(),
            networks: Table::default(),
            writes: Memo::default(),
            sent: Memo::default(),
            asked: Memo::default(),
            taken: Memo::default(),
            idled: Memo::default(),
            answered: Memo::default(),
            delivered: Memo::default(),
            restored: Memo::default(),
            purged: Memo::default(),
            declared: Memo::default(),
            skipped: Memo::default(),
            settled: Memo::default(),
        }
    }

    /// What is explored.
    pub fn variant(&self) -> &Variant {
        &self.worker.variant
    }

    /// The server and both devices at the beginning.
    pub fn first_parts(&self) -> (Id, [Id; 2]) {
        let server = self.servers.intern(Server::new(!self.variant().refusing));
        let devices = [0, 1].map(|place| {
            let mut device = self.devices.intern(Device::new(place));
            while !self.variant().fresh
                && let Some((asking, None)) = self.ask(device, server)
                && let Some((next, None)) = self.take(asking)
            {
                device = next;
            }
            device
        });
        (server, devices)
    }

    /// A local edit.
    pub fn write(&self, device: Id, written: Written, number: usize) -> Option<Id> {
        self.writes.get((device, written.record, written.kind, number), || {
            let at = self.variant().clocks[usize::from(written.device)];
            let next = self.devices.get(device).write(written, number, at)?;
            Some(self.devices.intern(next))
        })
    }

    /// A device sends what is due: the device, and the request.
    pub fn send(&self, device: Id) -> Option<(Id, Id)> {
        self.sent.get(device, || {
            let (next, request, sent) = self.worker.send(&self.devices.get(device))?;
            let request = self.requests.intern(request);
            let next = Device { job: Job::Push { request, sent, answer: None }, ..next };
            Some((self.devices.intern(next), request))
        })
    }

    /// A device asks the server for what is new.
    pub fn ask(&self, device: Id, server: Id) -> Stepped {
        self.asked.get((device, server), || {
            let (next, fault) = self.worker.ask(&self.devices.get(device), &self.servers.get(server))?;
            Some((self.devices.intern(next), fault))
        })
    }

    /// A device takes what has come in.
    pub fn take(&self, device: Id) -> Stepped {
        self.taken.get(device, || {
            let (next, fault) = self.worker.take(&self.devices.get(device))?;
            Some((self.devices.intern(next), fault))
        })
    }

    /// A device crashes, or gives up waiting.
    pub fn idle(&self, device: Id) -> Id {
        self.idled.get(device, || self.devices.intern(self.devices.get(device).fork(Job::Idle)))
    }

    /// An answer sets out to a device that waits for it.
    pub fn answer(&self, device: Id, answer: Id) -> Id {
        self.answered.get((device, answer), || {
            let waiting = self.devices.get(device);
            let mut job = waiting.job.clone();
            if let Job::Push { answer: place, .. } = &mut job {
                *place = Some((*self.answers.get(answer)).clone());
            }
            self.devices.intern(waiting.fork(job))
        })
    }

    /// A request arrives.
    pub fn deliver(&self, server: Id, request: Id) -> Delivery {
        self.delivered.get((server, request), || {
            let before = self.servers.get(server);
            let mut done = before.deliver(&self.requests.get(request), self.worker.rules);
            if self.variant().restore && done.server.head() != before.head() {
                done.server.copies.push(server);
            }
            Delivery {
                server: self.servers.intern(done.server),
                answer: done.answer.map(|answer| self.answers.intern(answer)),
                spent: done.spent,
                fault: done.fault,
            }
        })
    }

    /// The server is restored to an earlier copy, and has no other from then on.
    pub fn restore(&self, server: Id, copy: Id) -> Id {
        self.restored.get((server, copy), || {
            let old = self.servers.get(copy);
            let restored = if self.worker.rules.has(Rule::Incarnations) {
                let now = self.servers.get(server).fork();
                now.memory.restore(&old.memory);
                now.memory
            } else {
                old.memory.backup()
            };
            self.servers.intern(Server { memory: restored, book: old.book.clone(), copies: vec![] })
        })
    }

    /// The server purges its tombstones.
    pub fn purge(&self, server: Id) -> Option<Id> {
        self.purged.get(server, || {
            let now = self.servers.get(server);
            now.has_tombstone().then(|| {
                let next = now.fork();
                next.memory.purge();
                self.servers.intern(next)
            })
        })
    }

    /// The server stops refusing.
    pub fn declare(&self, server: Id) -> Id {
        self.declared.get(server, || {
            let next = self.servers.get(server).fork();
            next.declare();
            self.servers.intern(next)
        })
    }
}
