//! What is remembered about a database: the server and the token, in a file beside it.
//!
//! The token is never in the database itself, which people copy, attach to mails and hand on.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Failure},
    secret::directory,
};

/// Where a database is synced to.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// The server's address.
    pub(crate) remote: String,
    /// The token for this server, and for no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// That the server is a Supabase project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) supabase: Option<RememberedProject>,
}

/// What a Supabase project needs beside its address.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct RememberedProject {
    /// The project's public key.
    pub(crate) anon_key: String,
    /// That its tables are synced as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) plain: bool,
    /// What the next sign-in needs in place of a password. It is good for one use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
}

impl Remembered {
    const MAX_BYTES: u64 = 64 * 1024;

    /// Whether it is enough to sign in.
    pub(crate) fn signs_in(&self) -> bool {
        let refresh_token = self.supabase.as_ref().and_then(|project| project.refresh_token.as_ref());
        self.token.is_some() || refresh_token.is_some()
    }

    /// Reads what is remembered; `None` where nothing is.
    pub(crate) fn load(database: &Path) -> Result<Option<Self>, Failure> {
        let path = path(database);
        let mut text = String::new();
        let read =
            fs::File::open(&path).and_then(|file| file.take(Self::MAX_BYTES).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| Failure::file(&path, &error))?,
        };
        // The parser's own message could quote the token.
        let remembered = serde_json::from_str(&text).map_err(|_| {
            Failure::new(Code::Damaged, format!("{}: this is not what dynos wrote there", path.display()))
                .hint("delete the file, and remember the server again with dynos track --remember")
        })?;
        Ok(Some(remembered))
    }

    /// Writes the file, readable for its owner only, whole or not at all.
    pub(crate) fn save(&self, database: &Path) -> Result<PathBuf, Failure> {
        let path = path(database);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(directory(&path))?;
            serde_json::to_writer_pretty(&mut file, self)?;
            writeln!(file)?;
            file.as_file().sync_all()?;
            file.persist(&path).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error: io::Error| Failure::file(&path, &error))?;
        Ok(path)
    }

    /// Forgets. Answers whether there was anything.
    pub(crate) fn forget(database: &Path) -> Result<bool, Failure> {
        let path = path(database);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::file(&path, &error)),
        }
    }
}

/// The file: the database's name with `.dynos` behind it.
pub(crate) fn path(database: &Path) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(".dynos");
    name.into()
}
