//! Builds real apps with real tools: from a source archive to a slug, without a sandbox.
//!
//! Tests whose names begin with `registry_` need a package registry, or the cache that an earlier run filled.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the harness fails a test by panicking")]

mod classic_buildpacks;
mod examples;
mod harness;
mod languages;
mod pitfalls;
