//! Takes the picture of the manual: the window, with a task in each state that a task can be in.
#![allow(clippy::unwrap_used, reason = "who takes a picture may see it fail")]

use std::{env, path::Path};

use desktop::App;
use dynos_sync::{ConnectionState, Fields, blocking::SyncEngine, fields};
use egui::{ColorImage, ScreenshotCallback, Ui, ViewportBuilder, ViewportCommand};
use example_testing::{TestServer, until};

const TASKS: &str = "tasks";

fn main() {
    let picture = env::args().nth(1).expect("usage: picture FILE.png");
    let (mut server, files) = (TestServer::start(), tempfile::tempdir().unwrap());
    let engine = in_every_state(&mut server, files.path());
    let shown = engine.clone();
    let window = ViewportBuilder::default().with_inner_size([640.0, 330.0]);
    eframe::run_native(
        "Tasks",
        eframe::NativeOptions { viewport: window, ..Default::default() },
        Box::new(move |creation| {
            let app = App::new(&shown, &creation.egui_ctx)?;
            Ok(Box::new(Photographer { app, picture, frames: 0 }))
        }),
    )
    .unwrap();
    engine.close();
}

/// Draws the window until nothing moves any more, takes its picture, and closes it.
struct Photographer {
    app: App,
    picture: String,
    frames: u32,
}

impl eframe::App for Photographer {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        const SETTLED: u32 = 20;
        self.app.draw(ui);
        self.frames += 1;
        if self.frames == SETTLED {
            let (picture, window) = (self.picture.clone(), ui.ctx().clone());
            let taken = ScreenshotCallback::new(move |image| {
                save(&image, &picture);
                window.send_viewport_cmd(ViewportCommand::Close);
            });
            ui.ctx().send_viewport_cmd(ViewportCommand::Screenshot(taken));
        }
        ui.ctx().request_repaint();
    }
}

fn save(image: &ColorImage, picture: &str) {
    let [width, height] = image.size.map(|side| u32::try_from(side).unwrap());
    image::save_buffer(picture, image.as_raw(), width, height, image::ColorType::Rgba8).unwrap();
}

/// A device with a task that is synced, one that has met a conflict, one whose edit was refused, and two that wait for a server that is gone.
fn in_every_state(server: &mut TestServer, files: &Path) -> SyncEngine {
    // Short titles only.
    server.restart_with(|config| config.limits.record_bytes = 80);
    let (url, token) = (server.url(), server.token("ada"));
    let open = |file: &str, url: &str| desktop::open(&files.join(file), url, &token).unwrap();
    let phone = open("phone.sqlite", &url);
    for (id, title) in ["Bread", "Milk", "Call the dentist", "Water the plants"].iter().enumerate() {
        phone.write(TASKS, &id.to_string(), task(title)).unwrap();
    }
    phone.sync_all().unwrap();
    open("desktop.sqlite", &url).sync_all().unwrap();

    // Two devices give one task another title, and neither knows of the other.
    let elsewhere = open("desktop.sqlite", "http://127.0.0.1:9");
    elsewhere.patch(TASKS, "0", title("Rye bread")).unwrap();
    elsewhere.close();
    phone.patch(TASKS, "0", title("Oat bread")).unwrap();
    phone.patch(TASKS, "3", fields([("done", true.into())])).unwrap();
    phone.sync_all().unwrap();
    phone.close();

    let desk = open("desktop.sqlite", &url);
    let status = || desk.status().unwrap();
    until(|| (status().conflicts == 1).then_some(()), || format!("{:?}", status()));
    let too_long = "Call the dentist, the plumber, the bank, and whoever else has written";
    desk.patch(TASKS, "2", title(too_long)).unwrap();
    until(|| (status().dead_letters == 1).then_some(()), || format!("{:?}", status()));

    server.stop();
    desk.patch(TASKS, "1", fields([("done", true.into())])).unwrap();
    desk.write(TASKS, "4", task("Eggs")).unwrap();
    until(
        || (status().connection == ConnectionState::Offline && !status().syncing).then_some(()),
        || format!("{:?}", status()),
    );
    desk
}

fn task(title: &str) -> Fields {
    fields([("title", title.into()), ("done", false.into())])
}

fn title(title: &str) -> Fields {
    fields([("title", title.into())])
}
