//! What can be killed, and what may end by itself.

use std::process::ExitStatus;

/// Something that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Server,
    Proxy(usize),
    Device(usize),
    /// Where the server keeps its data in one.
    Database,
}

impl Part {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Proxy(_) => "proxy",
            Self::Device(_) => "device",
            Self::Database => "database",
        }
    }
}

/// How a device syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `dynos sync --watch`.
    Watch,
    /// `dynos sync`, again and again.
    Once,
}

/// Whether a command may end so, in a network like this one.
pub(crate) fn judge(mode: Mode, status: ExitStatus, said: &str) -> Result<String, String> {
    let failure = said.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let word = failure.as_ref().and_then(|failure| failure["error"]["code"].as_str()).unwrap_or_default();
    match (mode, status.code(), word) {
        (Mode::Once, Some(0), _) => Ok("synced".to_owned()),
        (_, Some(1), "server") | (_, Some(4), "sign_in_required") => Ok(word.replace('_', " ")),
        (Mode::Once, Some(3), "unreachable" | "incomplete") => Ok(word.to_owned()),
        _ => Err(format!("{mode:?}, {status}: {}", said.trim())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_command_ends_for_the_networks_reasons_only() {
        let said = |word: &str| format!("{{\"error\":{{\"code\":\"{word}\",\"message\":\"m\"}}}}\n");
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        for (mode, status, word, fine) in [
            (Mode::Once, exit(0), "", true),
            (Mode::Once, exit(3), "unreachable", true),
            (Mode::Once, exit(1), "server", true),
            (Mode::Watch, exit(4), "sign_in_required", true),
            (Mode::Watch, exit(0), "", false),
            (Mode::Watch, exit(3), "unreachable", false),
            (Mode::Once, exit(1), "damaged", false),
            (Mode::Once, exit(5), "wrong_server", false),
            (Mode::Once, exit(101), "server", false),
            (Mode::Once, ExitStatus::from_raw(11), "", false),
        ] {
            assert_eq!(judge(mode, status, &said(word)).is_ok(), fine, "{mode:?} {status} {word}");
        }
    }
}
