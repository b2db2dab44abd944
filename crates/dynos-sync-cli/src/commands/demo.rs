//! `dynos demo`.

use crate::{error::Failure, output::Output};

pub(crate) fn run(_output: &Output) -> Result<(), Failure> {
    Ok(())
}
