//! The program: opens the device, and shows its window.

use std::{error::Error, path::PathBuf};

use clap::Parser;
use desktop::App;
use egui::Ui;

/// A list of tasks that is edited offline, on any number of devices.
#[derive(Parser)]
struct Args {
    /// This device's database. It is made where it is missing.
    #[arg(long, default_value = "desktop.sqlite")]
    db: PathBuf,
    /// The server's address.
    #[arg(long, env = "DYNOS_REMOTE", default_value = "http://127.0.0.1:7171")]
    server: String,
    /// Who you are: `dynos token --user NAME` makes one.
    #[arg(long, env = "DYNOS_TOKEN", hide_env_values = true)]
    token: String,
}

struct Window(App);

impl eframe::App for Window {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        self.0.draw(ui);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let engine = desktop::open(&args.db, &args.server, &args.token)?;
    let shown = engine.clone();
    let window = eframe::run_native(
        "Tasks",
        eframe::NativeOptions::default(),
        Box::new(move |creation| Ok(Box::new(Window(App::new(&shown, &creation.egui_ctx)?)))),
    );
    engine.close();
    Ok(window?)
}
