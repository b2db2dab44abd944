//! What the engine takes of the machine, and gives back: memory, disk, files, threads.
#![cfg(target_os = "linux")]

use dynos_sync::{
    SyncEngine,
    core::memory::{MemoryReplica, MemoryServer},
    json,
};

use crate::{
    flood::write_all,
    stack::{COLUMNS, Device, Stack, TABLE, object, until, within},
};

/// Bytes on the disk.
fn size(device: &Device) -> u64 {
    let file =
        |end: &str| std::fs::metadata(format!("{}{end}", device.path.display())).map_or(0, |file| file.len());
    file("") + file("-wal")
}

/// KiB of memory, from Linux: now or at most.
fn kib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Open files, or threads.
fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_edits_are_written_and_sent_in_little_memory() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", |setup| setup.schema = COLUMNS.to_owned()).await;
    device.sync().await;
    write_all(&device, 1000).await;
    let before = kib("VmHWM:");
    write_all(&device, 100_000).await;
    assert_eq!(device.state().await.pending, 101_000);
    assert!(size(&device) < 101_000 * 1000, "{} bytes on the disk", size(&device));
    let written = kib("VmHWM:") - before;
    assert!(written < 64 * 1024, "{written} KiB for writing");
    // The proxy keeps what it sees.
    stack.proxy.forget();
    while device.state().await.pending > 0 {
        within(device.engine.drain_once()).await.unwrap();
        stack.proxy.forget();
    }
    let sent = kib("VmHWM:") - before;
    assert!(sent < 160 * 1024, "{sent} KiB with sending, and the server in the same process");
    assert!(size(&device) < 101_000 * 1000, "{} bytes on the disk", size(&device));
    assert_eq!(stack.records("ada", TABLE).await.len(), 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_not_kept_in_memory() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    let mut memory = Vec::new();
    for round in 0..6 {
        let record =
            |n: usize| (format!("r{n}"), object(json!({"a": format!("{round} {}", "x".repeat(100_000))})));
        // 10 MB, of the same records each time.
        for chunk in 0..10 {
            one.engine.write_many(TABLE, (chunk * 10..chunk * 10 + 10).map(record).collect()).await.unwrap();
        }
        one.sync().await;
        two.sync().await;
        stack.proxy.forget();
        memory.push(kib("VmRSS:"));
    }
    let growth = memory[5].saturating_sub(memory[1]);
    assert!(growth < 20 * 1024, "{memory:?} KiB: four more rounds of 10 MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_starts_and_ends_leave_nothing_behind() {
    let stack = Stack::new().await;
    stack.proxy.offline();
    let cycle = async |n: usize| {
        let device = stack.device_with("device", |setup| setup.config.auto_sync = n.is_multiple_of(2)).await;
        device.write("x", json!({"a": n})).await;
        if n.is_multiple_of(3) {
            // Without a word: it ends all the same.
            drop(device);
        } else {
            device.engine.close().await;
        }
    };
    for n in 0..100 {
        cycle(n).await;
    }
    let settled = async |files: usize, threads: usize| {
        until(async || count("fd") <= files && count("task") <= threads).await;
    };
    settled(60, 40).await;
    let (files, threads, memory) = (count("fd"), count("task"), kib("VmRSS:"));
    for n in 100..1000 {
        cycle(n).await;
    }
    settled(files + 5, threads + 5).await;
    let growth = kib("VmRSS:").saturating_sub(memory);
    assert!(growth < 20 * 1024, "{growth} KiB more after 900 more");
    let names = std::fs::read_dir(stack.path("")).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.retain(|name| name != "device-wal" && name != "device-shm");
    assert_eq!(names, ["device", "server"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_of_one_file_leave_nothing_behind() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    let mut ends = Vec::new();
    for n in 0..1000 {
        device.write("x", json!({"a": n, "b": "b".repeat(1000)})).await;
        device.engine.logout(true).await.unwrap();
        if n % 300 == 99 {
            ends.push((count("fd"), count("task"), device.bytes().len(), kib("VmRSS:")));
        }
    }
    let (first, last) = (ends[0], ends[3]);
    assert!(last.0 <= first.0 + 2 && last.1 <= first.1 + 2 && last.2 <= first.2, "{ends:?}");
    assert!(last.3 <= first.3 + 10 * 1024, "{ends:?}");
    let state = device.state().await;
    assert_eq!((state.pending, state.last_counter), (0, 0));
}

#[tokio::test]
async fn the_engines_work_is_a_small_future() {
    let remote = MemoryServer::new().remote("ada");
    let (_engine, work) = SyncEngine::builder(MemoryReplica::new([0; 16]), remote).prepare().await.unwrap();
    assert!(size_of_val(&work) < 4096, "{} bytes", size_of_val(&work));
}
