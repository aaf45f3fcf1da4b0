//! The vocabulary and the decisions of the platform.
//!
//! Nothing in this crate does I/O, reads a clock, draws a random number, takes a lock or is `async`:
//! time, jitter and ids come in as arguments. Whoever calls a `decide` function loads, calls, acts and records.

pub mod access;
pub mod acme;
pub mod add_on;
pub mod admission;
pub mod app_transfer;
pub mod attach;
pub mod autoscale;
pub mod config;
pub mod cron;
pub mod database_file;
pub mod delivery;
pub mod departure;
pub mod display_chain;
pub mod dns;
pub mod duration_text;
pub mod dyno;
pub mod dyno_size;
pub mod email;
pub mod error_code;
pub mod formation;
pub mod front;
pub mod health;
pub mod hostname;
pub mod id;
pub mod ip_network;
pub mod memory_quota;
pub mod name;
pub mod outgoing_policy;
pub mod outgoing_url;
pub mod pipeline;
pub mod platform_host;
pub mod procfile;
pub mod protection;
pub mod rate_limit;
pub mod release;
pub mod replay;
pub mod restart_policy;
pub mod rollout;
pub mod routing;
pub mod secret;
pub mod ssh_key;
pub mod time_limits;
pub mod totp;
pub mod upstream;
pub mod webhook;
pub mod wedge;
