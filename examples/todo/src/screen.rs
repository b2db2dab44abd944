//! How it looks.

use std::time::{SystemTime, UNIX_EPOCH};

use dynos_sync::{ConnectionState, Fields, Status, core::replica::Resolved};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::Stylize,
    text::Line,
    widgets::{Block, List, ListState},
};

use crate::{
    app::{App, Mode},
    task::Task,
};

pub(crate) fn draw(frame: &mut Frame<'_>, app: &App) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Line::from(indicator(app.status.as_ref())).bold(), top);
    match app.mode {
        Mode::Conflicts { selected } => {
            let conflicts = app.conflicts.iter().map(|(_, conflict)| described(conflict)).collect();
            draw_list(frame, middle, " Conflicts ", conflicts, selected);
        }
        _ => draw_list(frame, middle, " Tasks ", app.tasks.iter().map(line).collect(), app.selected()),
    }
    frame.render_widget(Line::from(footer(app)).dim(), bottom);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<String>, selected: usize) {
    let list = List::new(lines).block(Block::bordered().title(title)).highlight_symbol("> ");
    frame.render_stateful_widget(list, area, &mut ListState::default().with_selected(Some(selected)));
}

fn line(task: &Task) -> String {
    format!("[{}] {}", if task.done { 'x' } else { ' ' }, task.title)
}

/// The sync indicator.
fn indicator(status: Option<&Status>) -> String {
    let Some(status) = status else { return String::new() };
    let synced = status.last_sync.map_or("not synced yet".to_owned(), |at| format!("synced {}", time(at)));
    let mut parts = vec![status.connection.to_string(), format!("pending {}", status.pending), synced];
    if status.conflicts > 0 {
        parts.push(format!("conflicts {}", status.conflicts));
    }
    if status.dead_letters > 0 {
        parts.push(format!("refused {}", status.dead_letters));
    }
    // That it is offline is said already; anything else wants somebody: to sign in, for instance.
    parts.extend(status.last_error.clone().filter(|_| status.connection != ConnectionState::Offline));
    parts.join(" · ")
}

/// The time of day, UTC.
fn time(at: SystemTime) -> String {
    let second = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % (24 * 60 * 60);
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// What both sides had, and what has become of it.
fn described(conflict: &Resolved) -> String {
    let [mine, theirs, outcome] =
        [&conflict.mine, &conflict.theirs, &conflict.outcome].map(|side| version(side.as_ref()));
    format!("here {mine}, there {theirs}: it is {outcome}")
}

fn version(fields: Option<&Fields>) -> String {
    let Some(fields) = fields else { return "deleted".to_owned() };
    let title = fields.get("title").and_then(|title| title.as_str()).unwrap_or_default();
    let is_done = fields.get("done").and_then(dynos_sync::core::Value::as_bool).unwrap_or_default();
    format!("[{}] {title}", if is_done { 'x' } else { ' ' })
}

fn footer(app: &App) -> String {
    if let Some(problem) = &app.problem {
        return problem.clone();
    }
    match &app.mode {
        Mode::Typing { title, .. } => format!("title: {title}_"),
        Mode::Conflicts { .. } => "u take the version that lost · c back".to_owned(),
        _ => "a add · space done · e edit · d delete · c conflicts · q quit".to_owned(),
    }
}
