//! Checks a certificate before it is put in force: chain, key, order, dates, hosts. Pure.
//!
//! Server, router and tests share it, and `domain` and `wire` stay free of X.509 because it is a crate of its own.
//!
//! ```text
//!   chain (PEM, any order) + key (PEM) + now ──► check ──► Checked: sorted chain, hosts, dates, warnings
//!                                                  └─────► Faults: each says what is wrong and what to do
//! ```
//!
//! A fault keeps the certificate from being used; a warning is something its owner should know. Whether clients trust
//! the chain's root is not looked at: nobody but the client can say.

mod check;
mod facts;
mod fault;
mod parsed;

pub use crate::check::{Checked, check, read};
pub use crate::facts::Facts;
pub use crate::fault::{Fault, Issuance, Warning};
pub use crate::parsed::covers;
