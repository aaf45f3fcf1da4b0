//! The log store.
//!
//! A *stream* is an ordered, bounded log with a key: one per app, one per build, release phase and one-off run. The
//! server is its only writer. Lines come from the platform itself, or are copied by [`ingest`] from the segment rings
//! that shims and the router write; each copied line carries the ring and its number there, so that a restarted server
//! continues exactly where the last one stopped.

pub mod filter;
pub mod ingest;
pub mod line;
pub mod log_store;
