//! The description of an experiment: the one that comes with the program, or that in a file.

use std::{fs, path::Path};

use anyhow::Context;

/// Parses `file`, or what comes with the program if there is none; an error names the file.
pub(crate) fn read<T>(
    file: Option<&Path>,
    own: &str,
    parse: impl FnOnce(&str) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Some(file) = file else { return parse(own) };
    let told = || format!("reading {}", file.display());
    parse(&fs::read_to_string(file).with_context(told)?).with_context(told)
}
