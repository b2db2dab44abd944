//! The command under test.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::stack::Fault;

/// Builds `dynos` beside this program, in the same profile, so that it is never older than the sources.
pub(crate) fn dynos() -> Result<PathBuf, Fault> {
    let here = env::current_exe()?;
    let profile = here.parent().ok_or("this program is nowhere")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "-p", "dynos-sync-cli", "--manifest-path"]);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
    build.arg("--target-dir").arg(profile.parent().ok_or("this program has no target directory")?);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    if !build.status()?.success() {
        return Err("dynos cannot be built: name one with --dynos".into());
    }
    Ok(profile.join(format!("dynos{}", env::consts::EXE_SUFFIX)))
}
