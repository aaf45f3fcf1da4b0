//! `cargo xtask <ci|tidy|bench>`: everything that is done to this repository, in one place.

#![expect(clippy::print_stdout, reason = "a command for people")]

mod bench;
mod ci;
mod portable;
mod tidy;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["bench", names @ ..] => bench::run(names),
        _other => {
            println!("cargo xtask ci            format, lints, build, tests, docs, tidy");
            println!("cargo xtask tidy          the rules of the repository");
            println!("cargo xtask bench [NAME]  {}", bench::names().join(", "));
            bail!("name one of these");
        }
    }
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
