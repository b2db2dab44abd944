//! Whether the devices come to rest: a fair schedule without faults, from any state in which both are idle.

use crate::{device::Device, edit::DEVICES, intern::Id, world::World};

/// Where a fair schedule ends.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Whether nothing was left to do.
    pub done: bool,
    /// Whether all rows were the server's then.
    pub equal: bool,
    /// Whether an edit was given up.
    pub refused: bool,
    /// The devices then.
    pub devices: [Id; 2],
    /// The server then.
    pub server: Id,
}

impl World {
    /// More rounds than any fair schedule needs.
    const ROUNDS: usize = 8;
    /// More steps than one device's turn needs.
    const STEPS: usize = 12;

    /// Lets both devices push and pull in turns.
    pub fn settle(&self, devices: [Id; 2], server: Id) -> Settled {
        self.settled.get((devices[0], devices[1], server), || {
            let mut now = Settled { done: false, equal: false, refused: false, devices, server };
            for _ in 0..Self::ROUNDS {
                now.done = self.is_quiet(now.devices, now.server);
                if now.done {
                    break;
                }
                for place in 0..DEVICES.len() {
                    self.turn(&mut now, place);
                }
            }
            self.judge(now)
        })
    }

    fn judge(&self, now: Settled) -> Settled {
        let records = self.servers.get(now.server).records();
        let devices = now.devices.map(|device| self.devices.get(device));
        let rows = |device: &Device| [0, 1].map(|record| device.row(record));
        Settled {
            equal: devices.iter().all(|device| rows(device) == records),
            refused: devices.iter().any(|device| device.state().dead_letters > 0),
            ..now
        }
    }

    /// Whether both devices have nothing left to do.
    pub fn is_quiet(&self, devices: [Id; 2], server: Id) -> bool {
        let head = self.servers.get(server).head();
        devices.iter().all(|device| self.devices.get(*device).is_done(&head))
    }

    /// One device does all that it can: it pushes a batch, pulls to the end, and begins again.
    fn turn(&self, now: &mut Settled, place: usize) {
        for _ in 0..Self::STEPS {
            let pushed = self.push(now, place);
            let pulled = self.pull(now, place);
            if !pushed && !pulled {
                return;
            }
        }
    }

    fn push(&self, now: &mut Settled, place: usize) -> bool {
        let Some((waiting, request)) = self.send(now.devices[place]) else { return false };
        let done = self.deliver(now.server, request);
        now.server = done.server;
        now.devices[place] = done.answer.map_or(waiting, |answer| self.answer(waiting, answer));
        self.take_all(now, place)
    }

    fn pull(&self, now: &mut Settled, place: usize) -> bool {
        let mut pulled = false;
        for _ in 0..Self::STEPS {
            let Some((asking, _)) = self.ask(now.devices[place], now.server) else { return pulled };
            now.devices[place] = asking;
            pulled |= self.take_all(now, place);
        }
        pulled
    }

    fn take_all(&self, now: &mut Settled, place: usize) -> bool {
        let mut taken = false;
        while let Some((next, _)) = self.take(now.devices[place]) {
            (now.devices[place], taken) = (next, true);
        }
        taken
    }
}
