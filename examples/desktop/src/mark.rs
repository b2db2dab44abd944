//! What stands beside a task: how it stands between this device and the server.

use dynos_sync::RecordState;
use egui::{Color32, Ui};

use crate::task::Task;

pub(crate) fn draw(ui: &mut Ui, task: &Task, state: &RecordState) {
    let Mark { color, word, why } = Mark::of(state);
    let mark = ui.colored_label(color, word);
    // Assistive technology hears whose it is. What it hears of a label is its value.
    ui.ctx().accesskit_node_builder(mark.id, |node| node.set_value(format!("{}: {word}", task.title)));
    if let Some(why) = why {
        mark.on_hover_text(why);
    }
}

struct Mark<'a> {
    color: Color32,
    word: &'static str,
    why: Option<&'a str>,
}

impl<'a> Mark<'a> {
    fn of(state: &'a RecordState) -> Self {
        const CALM: Color32 = Color32::GRAY;
        const WAITING: Color32 = Color32::from_rgb(200, 150, 40);
        const WRONG: Color32 = Color32::from_rgb(210, 80, 70);
        let (color, word, why) = match state {
            RecordState::Synced => (CALM, "synced", None),
            RecordState::Pending { error, .. } => (WAITING, "pending", error.as_deref()),
            RecordState::Conflicted { .. } => (WRONG, "in conflict", None),
            RecordState::Rejected { message, .. } => (WRONG, "refused", Some(message.as_str())),
            RecordState::Quarantined { message } => (WRONG, "unreadable", Some(message.as_str())),
            // `Local`, and what later versions tell apart.
            _ => (CALM, "on this device", None),
        };
        Self { color, word, why }
    }
}
