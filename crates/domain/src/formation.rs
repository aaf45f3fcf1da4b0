//! The formation: how many dynos of which size each process type has. It belongs to the app, not to a release.

use thiserror::Error;

use crate::name::ProcessType;

/// Most dynos of one process type, as a guard against a slip of the finger.
pub const QUANTITY_MAX: u32 = 500;

/// One row of a formation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormationEntry {
    pub process_type: ProcessType,
    pub quantity: u32,
    /// The name of a [`crate::dyno_size::DynoSize`].
    pub size: String,
    /// Requests that one dyno may have at once; `None` until somebody declares it.
    pub concurrency: Option<u32>,
}

/// Most requests that a formation may declare for one dyno, as a guard against the same.
pub const CONCURRENCY_MAX: u32 = 10_000;

/// The quantity of a process type that a release brings and that nobody has scaled yet: one `web`, nothing else.
pub fn default_quantity(process_type: &ProcessType) -> u32 {
    u32::from(process_type.is_web())
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    #[error("Quantity must be a whole number, for example 2, +1 or -1.")]
    NotANumber,
    #[error("Quantity must be at most {QUANTITY_MAX}.")]
    TooMany,
}

/// What people type after `web=`: an absolute `2`, or a change `+1`, `-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    To(u32),
    Up(u32),
    /// It stops at zero.
    Down(u32),
}

impl Scaling {
    pub fn parse(wanted: &str) -> Result<Self, QuantityError> {
        let parse = |digits: &str| digits.parse::<u32>().map_err(|_not_digits| QuantityError::NotANumber);
        match wanted.as_bytes().first() {
            Some(b'+') => parse(&wanted[1..]).map(Self::Up),
            Some(b'-') => parse(&wanted[1..]).map(Self::Down),
            Some(_) | None => parse(wanted).map(Self::To),
        }
    }

    /// What comes of it where there are so many.
    pub const fn applied_to(self, current: u32) -> Result<u32, QuantityError> {
        let quantity = match self {
            Self::To(quantity) => quantity,
            Self::Up(more) => current.saturating_add(more),
            Self::Down(fewer) => current.saturating_sub(fewer),
        };
        if quantity > QUANTITY_MAX { Err(QuantityError::TooMany) } else { Ok(quantity) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_absolute_or_changes() {
        let scaled = |current, wanted: &str| Scaling::parse(wanted).and_then(|scaling| scaling.applied_to(current));
        assert_eq!(scaled(3, "2"), Ok(2));
        assert_eq!(scaled(3, "+2"), Ok(5));
        assert_eq!(scaled(3, "-5"), Ok(0));
        assert_eq!(scaled(3, "many"), Err(QuantityError::NotANumber));
        assert_eq!(scaled(3, ""), Err(QuantityError::NotANumber));
        assert_eq!(scaled(3, "1.5"), Err(QuantityError::NotANumber));
        assert_eq!(scaled(3, "5000"), Err(QuantityError::TooMany));
    }
}
