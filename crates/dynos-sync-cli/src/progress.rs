//! A sign of life while much is moved.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line on stderr, if that is a terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Without a line.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// With a bar where it is known how many changes there are to push, else with a spinner.
    pub(crate) fn shown(to_push: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(to_push), ProgressDrawTarget::stderr());
        let template = match to_push {
            0 => "{spinner} {msg} {elapsed}",
            _ => "{spinner} {bar:30} {pos}/{len} pushed, {msg} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message("0 received");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    pub(crate) fn pushed(&self, changes: usize) {
        self.0.inc(changes as u64);
    }

    pub(crate) fn received(&self, total: usize) {
        self.0.set_message(format!("{total} received"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
