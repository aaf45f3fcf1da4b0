//! Source to slug: the server's half (trusted, outside the sandbox) and the build's half (untrusted, inside it).
//!
//! ```text
//! source archive ─ unpack ─► builds/<build>/app ─ detect ─► plan ─ prepare ─► (a shim runs `berth build-inside`)
//!                                                                              │ steps of each language
//! slugs/<sha256>/{app, slug.tar.zst, manifest.json} ◄─ finish ◄─ manifest ◄────┘
//! ```
//!
//! The outside never runs anything of the app's and never follows a link that the app made; the inside never
//! decides anything that the outside does not check again.

pub mod archive;
pub mod beneath;
pub mod build;
pub mod detect;
pub mod dirs;
pub mod host;
pub mod inside;
pub mod masker;
pub mod runtime_environment;
pub mod runtimes;
pub mod slug;
pub mod source_tree;
pub mod static_server;
pub mod version;
