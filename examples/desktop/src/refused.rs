//! The edits that the server has refused for good: they wait for somebody to decide.

use dynos_sync::core::replica::DeadLetter;
use egui::{ScrollArea, Ui};

use crate::action::Action;

pub(crate) fn draw(ui: &mut Ui, letters: &[DeadLetter], wanted: &mut Vec<Action>) {
    ui.strong("Refused by the server");
    ScrollArea::vertical().max_height(120.0).show(ui, |ui| {
        for letter in letters {
            ui.push_id(letter.id, |ui| draw_letter(ui, letter, wanted));
        }
    });
}

fn draw_letter(ui: &mut Ui, letter: &DeadLetter, wanted: &mut Vec<Action>) {
    ui.horizontal_wrapped(|ui| {
        let edit = described(letter);
        if ui.small_button("Retry").accessible_name(format!("Retry {edit}")).clicked() {
            wanted.push(Action::Retry { letter: letter.id });
        }
        if ui.small_button("Discard").accessible_name(format!("Discard {edit}")).clicked() {
            wanted.push(Action::Discard { letter: letter.id });
        }
        ui.label(&edit);
        ui.colored_label(ui.visuals().error_fg_color, &letter.message);
    });
}

/// The title that was to be given, or what else it was about.
fn described(letter: &DeadLetter) -> String {
    const LONGEST: usize = 40;
    let title = letter.edits.iter().rev().find_map(|(edit, _)| edit.fields()?.get("title")?.as_str());
    let whole = title.unwrap_or(letter.key.id.as_str());
    let mut shown: String = whole.chars().take(LONGEST).collect();
    if shown.len() < whole.len() {
        shown.push('…');
    }
    shown
}
