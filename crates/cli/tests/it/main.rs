//! The client as a process, against a small real HTTP server whose answers each test writes down.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod access;
mod completions;
mod deploy;
mod harness;
mod help;
mod json;
mod logs;
mod plain;
mod run;
mod terminal;
