//! The sync indicator: how this device stands with the server, in one line, and below it what needs somebody.

use dynos_sync::{ConnectionState, Status};
use egui::{Color32, Ui};

use crate::news::News;

pub(crate) fn draw(ui: &mut Ui, news: &News, problem: Option<&str>) {
    ui.horizontal_wrapped(|ui| match &news.status {
        Ok(Some(status)) => draw_status(ui, status),
        Ok(None) => drop(ui.label("Opening")),
        Err(_) => drop(ui.label("Unknown")),
    });
    let unread = [news.tasks.as_ref().err(), news.status.as_ref().err(), news.refused.as_ref().err()];
    let unread = unread.into_iter().flatten().map(String::as_str);
    for problem in unread.chain(news.status.iter().flatten().filter_map(failure)).chain(problem) {
        ui.colored_label(ui.visuals().error_fg_color, problem);
    }
}

fn draw_status(ui: &mut Ui, status: &Status) {
    let (color, connection) = connection(status.connection);
    ui.colored_label(color, format!("• {connection}"));
    for part in parts(status) {
        ui.separator();
        ui.label(part);
    }
    if status.syncing {
        ui.spinner();
        ui.label("Syncing");
    }
}

fn connection(state: ConnectionState) -> (Color32, &'static str) {
    match state {
        ConnectionState::Online => (Color32::from_rgb(60, 170, 90), "Online"),
        ConnectionState::Offline => (Color32::GRAY, "Offline"),
        ConnectionState::SignedOut => (Color32::from_rgb(210, 80, 70), "Signed out"),
        ConnectionState::Unknown => (Color32::GRAY, "Connecting"),
    }
}

fn parts(status: &Status) -> Vec<String> {
    let mut parts = vec![format!("{} pending", status.pending)];
    if !status.progress.is_empty() {
        let rows: usize = status.progress.values().map(|progress| progress.rows).sum();
        let total: Option<u64> = status.progress.values().map(|progress| progress.total).sum();
        parts.push(match total {
            Some(total) => format!("First pull: {rows} of {total}"),
            None => format!("First pull: {rows} received"),
        });
    }
    if status.conflicts > 0 {
        parts.push(format!("{} in conflict", status.conflicts));
    }
    if status.dead_letters > 0 {
        parts.push(format!("{} refused", status.dead_letters));
    }
    if status.last_sync.is_none() {
        parts.push("Not synced yet".to_owned());
    }
    parts
}

/// Why the last sync failed. That it is offline is said already; anything else wants somebody: to sign in, for instance.
fn failure(status: &Status) -> Option<&str> {
    status.last_error.as_deref().filter(|_| status.connection != ConnectionState::Offline)
}
