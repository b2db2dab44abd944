//! The list of tasks, each with a mark that says how it stands.

use dynos_sync::{RecordState, blocking::SyncEngine};
use egui::{Align, Key, Layout, ScrollArea, TextEdit, TextWrapMode, Ui};

use crate::{action::Action, mark, task::Task};

/// The title of a task, while it is typed.
pub(crate) struct Editing {
    id: String,
    title: String,
}

/// Draws the tasks that are in sight. Only for those it is asked how they stand: some tens of microseconds each.
pub(crate) fn draw(
    ui: &mut Ui,
    engine: &SyncEngine,
    tasks: &[Task],
    editing: &mut Option<Editing>,
    wanted: &mut Vec<Action>,
) {
    let height = ui.spacing().interact_size.y;
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, height, tasks.len(), |ui, in_sight| {
        let tasks = &tasks[in_sight];
        let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
        match engine.table::<Task>().states(&ids) {
            Ok(states) => tasks.iter().zip(&states).for_each(|(task, state)| {
                ui.push_id(&task.id, |ui| draw_row(ui, task, state, editing, wanted));
            }),
            Err(error) => drop(ui.colored_label(ui.visuals().error_fg_color, error.to_string())),
        }
    });
}

fn draw_row(
    ui: &mut Ui,
    task: &Task,
    state: &RecordState,
    editing: &mut Option<Editing>,
    wanted: &mut Vec<Action>,
) {
    // From the right, so that a long title takes what is left.
    ui.allocate_ui_with_layout(
        [ui.available_width(), ui.spacing().interact_size.y].into(),
        Layout::right_to_left(Align::Center),
        |ui| {
            if button(ui, "Delete", task) {
                wanted.push(Action::Delete { id: task.id.clone() });
            }
            if button(ui, "Edit", task) {
                *editing = Some(Editing { id: task.id.clone(), title: task.title.clone() });
            }
            draw_state(ui, task, state, wanted);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| match editing {
                Some(Editing { id, title }) if *id == task.id => {
                    if let Some(entered) = draw_title_entry(ui, title) {
                        *editing = None;
                        wanted.extend(entered.map(|title| Action::Rename { id: task.id.clone(), title }));
                    }
                }
                _ => draw_task(ui, task, wanted),
            });
        },
    );
}

fn draw_task(ui: &mut Ui, task: &Task, wanted: &mut Vec<Action>) {
    ui.style_mut().wrap_mode = Some(TextWrapMode::Truncate);
    let mut done = task.done;
    if ui.checkbox(&mut done, &task.title).clicked() {
        wanted.push(Action::Tick { id: task.id.clone(), done });
    }
}

/// `None` while it is typed; then the title, or nothing where it was left.
fn draw_title_entry(ui: &mut Ui, title: &mut String) -> Option<Option<String>> {
    let entry = ui.add(TextEdit::singleline(title).desired_width(f32::INFINITY)).accessible_name("Title");
    if !entry.lost_focus() {
        entry.request_focus();
        return None;
    }
    let is_entered = ui.input(|input| input.key_pressed(Key::Enter)) && !title.trim().is_empty();
    Some(is_entered.then(|| title.clone()))
}

fn draw_state(ui: &mut Ui, task: &Task, state: &RecordState, wanted: &mut Vec<Action>) {
    if let RecordState::Conflicted { conflict } = *state {
        if button(ui, "Undo", task) {
            wanted.push(Action::Undo { conflict });
        }
        if button(ui, "Accept", task) {
            wanted.push(Action::Accept { conflict });
        }
    }
    mark::draw(ui, task, state);
}

/// A button of a task. Assistive technology hears which task's.
fn button(ui: &mut Ui, word: &str, task: &Task) -> bool {
    ui.small_button(word).accessible_name(format!("{word} {}", task.title)).clicked()
}
