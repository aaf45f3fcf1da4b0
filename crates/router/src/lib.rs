//! The data plane: takes requests and carries them to dynos.
//!
//! It serves from the route table that it was given last, in memory and on disk, and never waits for the server:
//! killing that changes nothing for requests, and a killed router comes back with the table it had. Started where another
//! one serves, it takes over from that (`predecessor`).
//!
//! ```text
//!   client ── worker thread ── App: slot or queue ── pool ── dyno
//!                 │                  ▲
//!             log thread       control thread ◄── server (router/admin.sock)
//!                 │                  │
//!            router/log/       router/table.*
//! ```
//!
//! Each worker thread runs its own runtime with its own listeners and its own connections to dynos. The table, the
//! in-flight counts and the queues are shared, so that a limit of one request per dyno is exact.

mod config;
mod listener;
mod run;
mod worker;

mod buffers;
mod certificates;
mod challenges;
mod client_io;
mod compression;
mod crowd;
mod date;
mod ticket_keys;
mod tls;

mod download;
mod edge;
mod exchange;
mod express;
mod forward;
mod front;
mod head;
mod head_clock;
mod head_guard;
mod head_room;
mod joined_writes;
mod local_executor;
mod orphans;
mod pace;
mod places;
mod proxy;
pub mod proxy_protocol;
mod reach;
mod refused;
mod reply;
mod request_body;
mod seat;
mod server_side;
mod tunnel;
mod upload;
mod upstream;
mod websocket;

mod active_apps;
mod admission;
mod affinity;
mod app;
mod clock;
mod dyno;
mod dyno_io;
mod pool;
mod quarantine;
mod timer;

mod admin_socket;
pub mod client;
mod control;
mod host_map;
mod in_flight;
mod predecessor;
mod table;
mod table_file;

#[cfg(fuzzing)]
pub mod fuzzing;

mod log_thread;
mod random;
mod request_log;
mod status_page;
mod status_thread;
mod traffic;
mod traffic_totals;
mod worker_log;

pub use crate::config::{Bounds, ClientPace, Listen, RouterConfig};
pub use crate::front::{AuthoritiesError, check_authorities, check_header_name};
pub use crate::predecessor::PredecessorError;
pub use crate::run::{Router, RouterError, run};
