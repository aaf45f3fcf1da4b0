//! Which dyno takes a request, how many it may have at once, and what happens to a request that none can take.
//!
//! ```text
//!   request ── choice ── free slot? ── yes ──► dyno
//!                            │ no
//!                          queue ── oldest first while it drains, newest first once it stands
//!                            ▲ a slot is freed
//!   learner ── how many slots a dyno has, unless the formation declares it
//! ```
//!
//! Pure: times are durations since an epoch of the caller's, chance comes in as a number. The router runs it on real
//! sockets; `tests/admission` runs it on a fake clock against simulated dynos, and is where its constants were tuned.

pub mod choice;
pub mod learner;
pub mod queue;
pub mod retry_budget;

mod baseline;
mod loan;
mod pulse;
mod tally;
mod trial;
