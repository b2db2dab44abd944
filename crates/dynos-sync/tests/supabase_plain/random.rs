//! Devices that edit, lose answers and restart in random order, beside others who write to the table.

use std::sync::atomic::Ordering;

use dynos_sync::core::{Millis, json};

use crate::{
    converging::database,
    device::{Device, World},
};

/// A small generator (xorshift64*, Vigna 2014): a seed gives the same schedule.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % n
    }
}

const CLOCKS: [Millis; 3] = [0, -90_000, 3_600_000];

/// How many seeds are played.
fn seeds() -> u64 {
    std::env::var("DYNOS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(8)
}

#[tokio::test]
async fn whatever_happens_all_end_equal_to_the_database() {
    let world = World::new().await;
    for seed in 1..=seeds() {
        play(&world, seed).await;
    }
}

async fn play(world: &World, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let name = |n: usize| format!("{seed}-{n}");
    let mut devices = Vec::new();
    for (n, offset) in CLOCKS.into_iter().enumerate() {
        devices.push(world.device(&name(n), offset).await);
    }
    for step in 0..60 {
        let n = random.below(3) as usize;
        let id = format!("r{}", random.below(6));
        match random.below(10) {
            0..=3 => edit(&devices[n], &id, step, &mut random).await,
            4..=6 => devices[n].sync().await,
            7 => {
                devices[n].network.loses_answers.store(true, Ordering::Relaxed);
                // It fails where anything was pushed.
                let _ = devices[n].driver.sync_all().await;
                devices[n].network.loses_answers.store(false, Ordering::Relaxed);
            }
            8 => {
                devices.remove(n).close().await;
                devices.insert(n, world.device(&name(n), CLOCKS[n]).await);
            }
            _ => {
                let what = ["title = 'web'", "done = true", "deleted_at = now()", "deleted_at = null"]
                    [random.below(4) as usize];
                world.sql(&format!("update TABLE set {what}, updated_at = now() where id = '{id}'"));
            }
        }
    }
    for _ in 0..3 {
        for device in &devices {
            device.sync().await;
        }
    }
    for device in devices {
        assert_eq!(device.rows(), database(world), "seed {seed}");
        let state = dynos_sync::core::Replica::state(&*device.replica).await.unwrap();
        assert_eq!((state.pending, state.dead_letters), (0, 0), "seed {seed}");
        device.close().await;
    }
}

async fn edit(device: &Device, id: &str, step: u64, random: &mut Random) {
    match random.below(4) {
        0 => device.write(id, &[("title", format!("step {step}").into()), ("price", json!(2.0))]).await,
        1 => device.remove(id).await,
        _ if device.get(id).await.is_some() => device.patch(id, &[("size", step.into())]).await,
        _ => {}
    }
}
