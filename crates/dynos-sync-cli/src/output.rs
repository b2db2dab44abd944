//! What is printed: results on stdout, failures and notices on stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde_json::{Value, json};

use crate::error::{Code, Failure};

/// Where results go, as text for people or as JSON for programs.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: the document for programs, or the text for people.
    pub(crate) fn result(&self, document: &Value, text: impl Display) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{document}")?;
        } else {
            write!(out, "{text}")?;
        }
        Ok(out.flush()?)
    }

    /// Prints a line for people only.
    pub(crate) fn say(&self, line: impl Display) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    /// Prints a remark on stderr, for people only.
    pub(crate) fn note(&self, line: impl Display) {
        if !self.json {
            // A remark that nobody can read is no failure.
            let _ = writeln!(io::stderr(), "note: {line}");
        }
    }

    /// Prints why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.code() == Code::BrokenPipe {
            return;
        }
        let mut err = io::stderr().lock();
        // With stderr closed too, the exit code says it.
        let _ = if self.json {
            let (code, message, hint) = (failure.code().as_str(), failure.message(), failure.advice());
            writeln!(err, "{}", json!({"error": {"code": code, "message": message, "hint": hint}}))
        } else {
            match failure.advice() {
                None => writeln!(err, "error: {}", failure.message()),
                Some(hint) => writeln!(err, "error: {}\nhint: {hint}", failure.message()),
            }
        };
    }

    /// Whether progress bars make sense.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }
}

/// Rows of text in aligned columns, the first row being the heading.
#[derive(Debug)]
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_uppercase).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Text without characters that would move a terminal's cursor: names and ids may come from anywhere.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number and its noun.
pub(crate) fn count(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}
