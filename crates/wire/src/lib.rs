//! Every format that crosses a process boundary, and nothing else: serde lives here and only here.
//!
//! All formats only grow. Unknown fields are ignored, new fields have defaults, so that a new server works with
//! shims and routers that the previous release started; `testdata/` holds one golden file per released message.

pub mod build;
pub mod cron;
pub mod frame;
pub mod platform_api;
pub mod routes;
pub mod run_session;
mod secret_text;
pub mod segment;
pub mod settings;
pub mod shim;
pub mod state_file;
pub mod traffic;
pub mod visit;
