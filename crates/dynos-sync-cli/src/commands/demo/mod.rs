//! `dynos demo`: the whole story on one machine, with real files, real sockets and a real crash.

mod compare;
mod device;
mod server;

use std::{fmt::Display, thread, time::Duration};

use serde_json::json;

use self::{compare::Verdict, device::Device, server::DemoServer};
use crate::{
    error::{Code, Failure},
    output::{Output, count},
};

const SCHEMA: &str = "
    CREATE TABLE project (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE task (
        id TEXT PRIMARY KEY NOT NULL,
        project INTEGER NOT NULL REFERENCES project (id) ON DELETE CASCADE,
        title TEXT NOT NULL,
        done INTEGER NOT NULL DEFAULT 0,
        weight REAL
    );
    CREATE TABLE tag (task TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (task, name)) WITHOUT ROWID;
    INSERT INTO project VALUES (1, 'House'), (2, 'Garden');
    INSERT INTO task VALUES ('paint', 1, 'Paint the door', 0, 2.5), ('roof', 1, 'Mend the roof', 0, 8.0),
        ('roses', 2, 'Cut the roses', 0, NULL), ('bench', 2, 'Build a bench', 0, 5.25);
    INSERT INTO tag VALUES ('paint', 'weekend'), ('roof', 'urgent'), ('roses', 'spring 🌹');";

pub(crate) async fn run(output: &Output) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let mut story = Story { output, step: 0 };
    let mut server = DemoServer::start(dir.path()).await?;
    story.step(format_args!("A server on {}, its data in one file", server.url()))?;

    let devices = meet(&mut story, dir.path(), &server).await?;
    let [laptop, phone, tablet] = &devices;
    go_offline(&mut story, &mut server, &devices).await?;
    server.restart().await?;
    reconnect(&mut story, &server, laptop, phone).await?;
    crash(&mut story, &server, tablet).await?;
    settle(&mut story, &server, &devices).await?;
    let verdict = compare::run(&devices, &server).await?;
    conclude(&mut story, &verdict)?;
    server.stop().await?;
    if verdict.equal() { Ok(()) } else { Err(Failure::new(Code::Failed, "the databases differ")) }
}

async fn meet(
    story: &mut Story<'_>,
    dir: &std::path::Path,
    server: &DemoServer,
) -> Result<[Device; 3], Failure> {
    story.step("The laptop has a database, made with plain SQL. It is tracked and synced")?;
    let laptop = Device::made(dir, "laptop", SCHEMA).await?;
    story.say(laptop.sync(server).await?)?;
    story.step("A phone and a tablet begin as clones of what the server has")?;
    let phone = Device::cloned(dir, "phone", server).await?;
    let tablet = Device::cloned(dir, "tablet", server).await?;
    story.say(format_args!("phone: {}, tablet: {}", phone.rows()?, tablet.rows()?))?;
    Ok([laptop, phone, tablet])
}

async fn go_offline(
    story: &mut Story<'_>,
    server: &mut DemoServer,
    [laptop, phone, tablet]: &[Device; 3],
) -> Result<(), Failure> {
    server.stop().await?;
    story.step("The server goes away. Everybody goes on writing, with plain SQL")?;
    edit(story, laptop, "UPDATE task SET title = 'Paint the door green' WHERE id = 'paint'")?;
    edit(story, laptop, "DELETE FROM task WHERE id = 'bench'")?;
    // So that it is plain who was later.
    thread::sleep(Duration::from_millis(20));
    edit(story, phone, "UPDATE task SET title = 'Paint the door blue' WHERE id = 'paint'")?;
    edit(story, phone, "UPDATE task SET done = 1 WHERE id = 'bench'")?;
    edit(story, phone, "INSERT INTO tag VALUES ('roof', 'ladder')")?;
    edit(story, tablet, "DELETE FROM project WHERE id = 2")?;
    edit(
        story,
        tablet,
        "INSERT INTO task WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT 'note-' || i, 1, 'Note ' || i, 0, i / 8.0 FROM n",
    )?;
    match phone.sync(server).await {
        Err(failure) if failure.code() == Code::Unreachable => story.say(format_args!(
            "phone: {}; {} wait",
            failure.message(),
            count(phone.pending().await?, "change")
        )),
        Err(failure) => Err(failure),
        Ok(_) => Err(Failure::new(Code::Failed, "the phone synced with a server that was stopped")),
    }
}

fn edit(story: &Story<'_>, device: &Device, sql: &str) -> Result<(), Failure> {
    device.edit(sql)?;
    story.say(format_args!("{:<6} {sql}", device.name()))
}

async fn reconnect(
    story: &mut Story<'_>,
    server: &DemoServer,
    laptop: &Device,
    phone: &Device,
) -> Result<(), Failure> {
    story.step(format_args!(
        "The server is back, on {}. The laptop syncs first, then the phone",
        server.url()
    ))?;
    story.say(laptop.sync(server).await?)?;
    story.say(phone.sync(server).await?)?;
    for conflict in phone.conflicts().await? {
        story.say(conflict)?;
    }
    Ok(())
}

async fn crash(story: &mut Story<'_>, server: &DemoServer, tablet: &Device) -> Result<(), Failure> {
    story.step(
        "The tablet syncs, and is killed (SIGKILL) after the server took its changes, before it heard so",
    )?;
    tablet.sync_and_die(server).await?;
    let (pending, sent) = tablet.queue().await?;
    story
        .say(format_args!("tablet: {}, of which {sent} sent and never answered", count(pending, "change")))?;
    story.step("The tablet starts again and syncs: nothing is lost, nothing is done twice")?;
    story.say(tablet.sync(server).await?)
}

async fn settle(story: &mut Story<'_>, server: &DemoServer, devices: &[Device; 3]) -> Result<(), Failure> {
    story.step("Everybody syncs until nothing moves any more")?;
    for _ in 0..5 {
        let mut moved = false;
        for device in devices {
            let done = device.sync(server).await?;
            moved |= done.moved;
            story.say(&done)?;
        }
        if !moved {
            break;
        }
    }
    Ok(())
}

fn conclude(story: &mut Story<'_>, verdict: &Verdict) -> Result<(), Failure> {
    story.step("All databases, row by row, value for value and type for type")?;
    story.output.result(
        &json!({"equal": verdict.equal(), "tables": verdict.counts, "differences": verdict.differences}),
        verdict,
    )
}

/// Tells what happens.
struct Story<'a> {
    output: &'a Output,
    step: usize,
}

impl Story<'_> {
    fn step(&mut self, title: impl Display) -> Result<(), Failure> {
        self.step += 1;
        let gap = if self.step == 1 { "" } else { "\n" };
        self.output.say(format_args!("{gap}{}. {title}.", self.step))
    }

    fn say(&self, line: impl Display) -> Result<(), Failure> {
        self.output.say(format_args!("   {line}"))
    }
}
