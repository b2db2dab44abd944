//! The parts: a server, and devices with a proxy each; how they are started, killed and started again.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use dynos_sync_testbed::Postgres;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::RwLock,
};

use crate::{
    certificates,
    link::{Counted, Link, Plan, count},
    part::{Mode, Part, judge},
    process::{self, DEADLINE, Process, dynos},
    writer::{SCHEMA, TABLES, Writer},
};

pub(crate) type Fault = Box<dyn std::error::Error>;

const DEVICES: usize = 3;

/// Whose records these are.
pub(crate) const USER: &str = "fire";

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    plan: Plan,
    pub(crate) link: Option<Link>,
    mode: Mode,
    pub(crate) process: Option<Process>,
    pub(crate) writer: Writer,
}

/// All parts. Whatever runs ends with this value.
#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) dir: PathBuf,
    dynos: PathBuf,
    address: SocketAddr,
    pub(crate) server: Option<Process>,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) devices: Vec<Device>,
    pub(crate) gate: Arc<RwLock<()>>,
    pub(crate) tally: Counted,
    pub(crate) dice: fastrand::Rng,
}

/// What a stack is made of.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) dir: PathBuf,
    pub(crate) dynos: PathBuf,
    pub(crate) seed: u64,
    pub(crate) rate: f64,
    pub(crate) postgres: bool,
}

impl Stack {
    pub(crate) async fn start(recipe: Recipe, tally: Counted) -> Result<Self, Fault> {
        let Recipe { dir, dynos, seed, rate, postgres } = recipe;
        fs::create_dir(dir.join("tls"))?;
        certificates::make(&dir.join("tls"))?;
        let mut stack = Self {
            dir,
            dynos,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            server: None,
            postgres: postgres.then(Postgres::start),
            devices: Vec::new(),
            gate: Arc::new(RwLock::new(())),
            tally,
            dice: fastrand::Rng::with_seed(seed),
        };
        stack.start_server().await?;
        let token = stack.token().await?;
        fs::write(stack.file("token"), token)?;
        for number in 0..DEVICES {
            stack.add(number, rate).await?;
        }
        Ok(stack)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn server_file(&self) -> PathBuf {
        self.dir.join("server/sync.db")
    }

    async fn token(&self) -> Result<String, Fault> {
        let mut command = dynos(&self.dynos);
        let output =
            command.args(["token", "--user", USER, "--data"]).arg(self.file("server")).stdout(Stdio::piped());
        let output = output.output().await?;
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err("there is no token".into())
        }
    }

    /// Makes a device: its database with the application's tables, its proxy, its program.
    async fn add(&mut self, number: usize, rate: f64) -> Result<(), Fault> {
        let path = self.file(&format!("device{number}.db"));
        rusqlite::Connection::open(&path)?.execute_batch(SCHEMA)?;
        let tracked = dynos(&self.dynos).arg("track").arg(&path).args(TABLES).status().await?;
        if !tracked.success() {
            return Err(format!("the tables of device {number} cannot be tracked").into());
        }
        // One speaks plain HTTP, as on a machine of one's own; the others TLS, as everywhere else.
        let tls = (number > 0).then(|| self.file("tls"));
        let plan = Plan { listen: SocketAddr::from(([127, 0, 0, 1], 0)), upstream: self.address, rate, tls };
        let writer = Writer::start(&path, number, self.dice.u64(..), self.gate.clone())?;
        self.devices.push(Device { path, plan, link: None, mode: Mode::Watch, process: None, writer });
        self.start_proxy(number).await?;
        self.start_device(number, Mode::Watch)?;
        Ok(())
    }

    async fn start_server(&mut self) -> Result<(), Fault> {
        // The port may be taken for a moment by a connection that the machine gave it to.
        let mut left = 20;
        let address = loop {
            match self.try_server().await {
                Err(_) if left > 0 => left -= 1,
                done => break done?,
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        self.address = address;
        Ok(())
    }

    async fn try_server(&mut self) -> Result<SocketAddr, Fault> {
        let mut command = dynos(&self.dynos);
        command
            .arg("serve")
            .arg("--data")
            .arg(self.file("server"))
            .args(["--listen", &self.address.to_string()]);
        if let Some(postgres) = &self.postgres {
            command.env("DYNOS_DATABASE_URL", postgres.url());
        }
        let mut process = Process::start(command.stdout(Stdio::piped()), &self.file("server.err"))?;
        let stdout = process.stdout().ok_or("the server has no stdout")?;
        let mut line = String::new();
        tokio::time::timeout(DEADLINE, BufReader::new(stdout).read_line(&mut line)).await??;
        let address =
            line.trim().strip_prefix("listening on http://").ok_or("the server does not start")?.parse()?;
        self.server = Some(process);
        Ok(address)
    }

    async fn start_proxy(&mut self, number: usize) -> io::Result<()> {
        let (seed, errors) = (self.dice.u64(..), self.file(&format!("proxy{number}.err")));
        let device = &mut self.devices[number];
        let link = Link::start(&device.plan, seed, &errors, &self.tally).await?;
        device.plan.listen = link.address;
        device.link = Some(link);
        Ok(())
    }

    pub(crate) fn start_device(&mut self, number: usize, mode: Mode) -> io::Result<()> {
        let device = &self.devices[number];
        let mut command = self.sync("sync", &device.path, number);
        match mode {
            Mode::Watch => command.arg("--watch"),
            Mode::Once => command.args(["--retries", "0"]),
        };
        command.stdout(process::append(&self.file(&format!("device{number}.out")))?);
        let process = Process::start(&mut command, &self.file(&format!("device{number}.err")))?;
        let device = &mut self.devices[number];
        (device.mode, device.process) = (mode, Some(process));
        Ok(())
    }

    /// A command of a device's, which talks to the server through its proxy.
    pub(crate) fn sync(&self, command: &str, database: &Path, number: usize) -> tokio::process::Command {
        let plan = &self.devices[number].plan;
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let mut dynos = dynos(&self.dynos);
        dynos.args(["--json", command]).arg(database);
        dynos
            .args(["--remote", &format!("{scheme}://{}", plan.listen)])
            .arg("--token-file")
            .arg(self.file("token"));
        dynos.env("SSL_CERT_FILE", self.file("tls").join(certificates::AUTHORITY));
        dynos
    }

    /// Any part, by the dice.
    pub(crate) fn any_part(&mut self) -> Part {
        let device = self.dice.usize(..DEVICES);
        match self.dice.u8(..if self.postgres.is_some() { 7 } else { 6 }) {
            0 | 1 => Part::Server,
            2 => Part::Proxy(device),
            3..6 => Part::Device(device),
            _ => Part::Database,
        }
    }

    fn any_mode(&mut self) -> Mode {
        if self.dice.u8(..3) == 0 { Mode::Watch } else { Mode::Once }
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self, part: Part) -> Result<(), Fault> {
        let process = match part {
            Part::Server => self.server.as_mut(),
            Part::Proxy(number) => self.devices[number].link.as_mut().map(|link| &mut link.process),
            Part::Device(number) => self.devices[number].process.as_mut(),
            Part::Database => {
                self.postgres.as_mut().map(Postgres::stop_immediate);
                count(&self.tally, |tally| tally.kill(part.kind()));
                return Ok(());
            }
        };
        let Some(process) = process else { return Ok(()) };
        let memory = process.most_memory();
        let killed = process.kill().await?;
        count(&self.tally, |tally| {
            tally.memory(part.kind(), memory);
            if killed {
                tally.kill(part.kind());
            }
        });
        Ok(())
    }

    pub(crate) async fn start_again(&mut self, part: Part) -> Result<(), Fault> {
        match part {
            Part::Server => self.start_server().await,
            Part::Proxy(number) => Ok(self.start_proxy(number).await?),
            Part::Device(number) => {
                let mode = self.any_mode();
                Ok(self.start_device(number, mode)?)
            }
            Part::Database => {
                self.postgres.as_mut().map(Postgres::start_again);
                Ok(())
            }
        }
    }

    /// Looks after what ended by itself. `down` are parts that are dead on purpose.
    pub(crate) fn tend(&mut self, down: &[Part]) -> Result<(), Fault> {
        if !down.contains(&Part::Server)
            && let Some(status) = self.server.as_mut().map(Process::ended).transpose()?.flatten()
        {
            return Err(format!("the server ended by itself: {status}").into());
        }
        for number in 0..self.devices.len() {
            if down.contains(&Part::Device(number)) {
                continue;
            }
            let device = &mut self.devices[number];
            if let Some(failed) = device.writer.failed() {
                return Err(failed.into());
            }
            let Some(process) = device.process.as_mut() else { continue };
            if let Some(status) = process.ended()? {
                let how = judge(device.mode, status, &process.said());
                let how = how.map_err(|problem| format!("device {number} ended by itself: {problem}"))?;
                count(&self.tally, |tally| tally.end(how));
                // Who syncs again and again does so until killed: that is what brings requests to the network.
                let mode = if self.devices[number].mode == Mode::Once { Mode::Once } else { self.any_mode() };
                self.start_device(number, mode)?;
            }
        }
        Ok(())
    }

    /// Ends what a device runs as people end it, and lets it watch from now on.
    pub(crate) async fn renew(&mut self, number: usize) -> Result<(), Fault> {
        let device = &mut self.devices[number];
        if let Some(process) = device.process.as_mut() {
            let status = process.terminate().await?;
            // A watcher that is asked ends well; one that does not listen to signals yet ends by this one, as a single sync does.
            let as_asked = status.signal() == Some(15) || device.mode == Mode::Watch && status.success();
            if !as_asked {
                judge(device.mode, status, &process.said())
                    .map_err(|problem| format!("device {number} was asked to end: {problem}"))?;
            }
        }
        Ok(self.start_device(number, Mode::Watch)?)
    }

    pub(crate) fn mode(&self, number: usize) -> Mode {
        self.devices[number].mode
    }
}
