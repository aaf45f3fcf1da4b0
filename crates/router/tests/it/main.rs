//! The router as clients, dynos and the server meet it: over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod admission;
mod harness;
mod http2_peer;
mod tls_client;

mod affinity;
mod balancing;
mod bodies;
mod challenges;
mod codes;
mod compression;
mod crowd;
mod departures;
mod disorder;
mod fronts;
mod http2;
mod http2_answers;
mod limits;
mod memory;
mod metrics;
mod proxying;
mod quarantine;
mod server_side;
mod shutdown;
mod slow_clients;
mod smuggling;
mod smuggling_http2;
mod streams;
mod strictness;
mod stuck;
mod table;
mod takeover;
mod tls;
mod trailers;
mod upgrades;
mod upstream;
