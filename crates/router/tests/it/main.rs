//! The router as clients, dynos and the server meet it: over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod harness;

mod bodies;
mod codes;
mod proxying;
mod shutdown;
mod strictness;
mod table;
mod tls;
mod tls_client;
mod upgrades;
