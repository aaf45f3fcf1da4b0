//! Sends what apps log, and what happens to them, to other people's servers: log drains, webhooks, notifications.
//!
//! A task per drain follows the app's stream in the log store, sends what it reads, and writes down how far the
//! receiver has got. Nobody waits for it: a receiver that is slow or away makes its own drain fall behind, and what the
//! stream has overwritten by then is counted and told (`L10`).
//!
//! ```text
//!  store ─changes─► drains ─► drain_task ◄─follows── log store
//!                                 │ frame, post | syslog
//!                                 └─► connector ─► receiver
//!  store ─deliveries─► webhooks ─ post ───┤
//!  store ─messages─► notifier ─ post ─────┘
//! ```

mod connector;
mod cursor;
mod drain_task;
mod drains;
mod frame;
mod notifier;
mod post;
mod random;
mod roots;
mod send_error;
mod syslog;
mod webhooks;

use std::path::PathBuf;

use domain::ip_network::IpNetwork;

pub use crate::drains::Drains;
pub use crate::notifier::Notifier;
pub use crate::roots::RootsError;
pub use crate::webhooks::Webhooks;

/// What deliveries need to know of the installation.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    pub data_dir: PathBuf,
    /// Networks that are not public and may be sent to.
    pub allowed_networks: Vec<IpNetwork>,
    /// PEM: authorities that receivers' certificates may come from, besides the machine's.
    pub authorities: Option<PathBuf>,
}
