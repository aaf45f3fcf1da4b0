//! Jitter.

use uuid::Uuid;

/// A number from 0 to 1.
pub(crate) fn fraction() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}
