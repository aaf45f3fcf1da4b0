//! Makes the world match the desired state in the store.
//!
//! One loop (`main_loop`) wakes on every change of the store, on every report of a dyno, and once a second. Each time
//! it looks at everything, asks [`domain::rollout::decide`] what must happen, and starts what was decided. "What
//! changed" is never passed in: the path after a crash and the usual path are one path.
//!
//! ```text
//!  store ─changes─► main_loop ─► apps (decide) ─► dyno_task: launch, watch, stop ─► shim
//!                       │  ▲          │
//!                       │  └─reports──┤        ┌► release: release phase, roll-out
//!                       ├─► routes, certificates ─► router
//!                       ├─► build_task: source → slug
//!                       ├─► cron: jobs that are due ─► one-off dynos
//!                       └─► garbage
//! ```

mod acme;
mod apps;
mod autoscale;
mod build_task;
mod certificates;
mod config;
mod cron;
mod dns;
mod dyno_start;
mod dyno_task;
mod garbage;
mod health;
mod https;
mod launch_plan;
mod log;
mod main_loop;
mod platform_hosts;
mod readiness;
mod release;
mod remove_tree;
mod router_link;
mod routes;
mod shutdown;
mod slug_import;
mod source_fetch;
mod wedged;
mod world;

pub use crate::acme::AcmeConfig;
pub use crate::config::{DynoNetwork, ReconcilerConfig};
pub use crate::garbage::garbage;
pub use crate::main_loop::{Reconciler, StopMode};
pub use crate::platform_hosts::{BroughtCertificate, PlatformHosts};
pub use crate::router_link::RouterView;
