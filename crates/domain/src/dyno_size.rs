//! Dyno sizes: Heroku's names with the limits they mean here.

use std::fmt;

use thiserror::Error;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

impl ByteCount {
    pub const fn mebibytes(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    pub const fn gibibytes(count: u64) -> Self {
        Self::mebibytes(count * 1024)
    }

    /// Reads what people type: `50MB`, `512KiB`, `1000`.
    pub fn parse(text: &str) -> Result<Self, ByteCountError> {
        let wrong = || ByteCountError(text.chars().take(40).collect());
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_not_a_number| wrong())?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let (_name, bytes) =
            TYPED_UNITS.iter().find(|(name, _bytes)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
        number.checked_mul(*bytes).map(Self).ok_or_else(wrong)
    }

    /// Without loss: what [`ByteCount::parse`] reads back.
    pub fn exact(self) -> String {
        let whole = TYPED_UNITS.iter().find(|(_name, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        whole.map_or_else(|| "0B".to_owned(), |(name, bytes)| format!("{}{name}", self.0 / bytes))
    }
}

/// Units that people type, the largest first.
const TYPED_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("B", 1),
];

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a size: write a whole number and its unit, for example 500kB, 50MB or 1GiB")]
pub struct ByteCountError(String);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut whole = self.0;
        let mut tenths = 0;
        let mut unit = 0;
        while whole >= 1024 && unit + 1 < UNITS.len() {
            tenths = (whole % 1024) * 10 / 1024;
            whole /= 1024;
            unit += 1;
        }
        if tenths == 0 { write!(f, "{whole} {}", UNITS[unit]) } else { write!(f, "{whole}.{tenths} {}", UNITS[unit]) }
    }
}

/// What a dyno of one size may use. The operator may change every figure; the names are Heroku's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynoSize {
    /// Heroku's spelling, for example `Standard-1X`. Compared without regard to case.
    pub name: String,
    /// The quota that `R14` and `R15` speak of. The kernel's limit is twice this.
    pub memory: ByteCount,
    /// Relative share of CPU under contention, on cgroup v2's scale of 1 to 10,000.
    pub cpu_weight: u16,
    /// Upper bound in hundredths of a core; `None` leaves idle CPU to whoever wants it.
    pub cpu_quota_percent: Option<u32>,
    pub processes_max: u32,
    /// What Heroku calls `dedicated`: shown, not enforced.
    pub dedicated: bool,
}

impl DynoSize {
    fn new(name: &str, memory: ByteCount, cpu_weight: u16, processes_max: u32, dedicated: bool) -> Self {
        Self { name: name.to_owned(), memory, cpu_weight, cpu_quota_percent: None, processes_max, dedicated }
    }
}

/// The sizes that exist when the operator configured none.
/// Memory as Heroku sells it (`heroku/cli`, `ps/type.ts`); thread limits as its "Limits" article gives them.
pub fn default_sizes() -> Vec<DynoSize> {
    let mib = ByteCount::mebibytes;
    vec![
        DynoSize::new("Eco", mib(512), 50, 256, false),
        DynoSize::new("Basic", mib(512), 50, 256, false),
        DynoSize::new("Standard-1X", mib(512), 100, 256, false),
        DynoSize::new("Standard-2X", mib(1024), 200, 512, false),
        DynoSize::new("Performance-M", mib(2560), 400, 16_384, true),
        DynoSize::new("Performance-L", ByteCount::gibibytes(14), 800, 32_768, true),
        DynoSize::new("Performance-L-RAM", ByteCount::gibibytes(30), 800, 32_768, true),
        DynoSize::new("Performance-XL", ByteCount::gibibytes(62), 1600, 32_768, true),
        DynoSize::new("Performance-2XL", ByteCount::gibibytes(126), 3200, 32_768, true),
    ]
}

/// The size a process type has until somebody chooses one.
pub const DEFAULT_SIZE_NAME: &str = "Standard-1X";

/// Finds a size by name, without regard to case: the CLI lets people type `standard-1x`.
pub fn find<'sizes>(sizes: &'sizes [DynoSize], name: &str) -> Option<&'sizes DynoSize> {
    sizes.iter().find(|size| size.name.eq_ignore_ascii_case(name))
}

/// What `WEB_CONCURRENCY` defaults to for a memory quota: Heroku's Python buildpack gives 2 per 512 MB, never fewer than 2.
pub fn default_web_concurrency(memory: ByteCount) -> u64 {
    (memory.0 / ByteCount::mebibytes(256).0).clamp(2, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_found_as_people_type_them() {
        let sizes = default_sizes();
        assert_eq!(find(&sizes, "standard-2x").map(|size| size.memory), Some(ByteCount::mebibytes(1024)));
        assert_eq!(find(&sizes, "huge"), None);
        assert!(find(&sizes, DEFAULT_SIZE_NAME).is_some());
    }

    #[test]
    fn byte_counts_read_well() {
        assert_eq!(ByteCount(17).to_string(), "17 B");
        assert_eq!(ByteCount::mebibytes(512).to_string(), "512 MiB");
        assert_eq!(ByteCount::mebibytes(2560).to_string(), "2.5 GiB");
    }

    #[test]
    fn byte_counts_are_read_as_people_type_them_and_shown_without_loss() {
        for (text, bytes, exact) in [
            ("50MB", 50_000_000, "50MB"),
            ("50mib", 50 << 20, "50MiB"),
            ("1000", 1000, "1kB"),
            ("1TiB", 1 << 40, "1TiB"),
            ("1025B", 1025, "1025B"),
            ("0", 0, "0B"),
        ] {
            assert_eq!(ByteCount::parse(text), Ok(ByteCount(bytes)), "{text}");
            assert_eq!(ByteCount(bytes).exact(), exact);
        }
        for wrong in ["", "MB", "50 MB", "50M", "1.5GB", "-1B", "99999999999999TB"] {
            assert!(ByteCount::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn web_concurrency_grows_with_memory() {
        assert_eq!(default_web_concurrency(ByteCount::mebibytes(512)), 2);
        assert_eq!(default_web_concurrency(ByteCount::mebibytes(2560)), 10);
        assert_eq!(default_web_concurrency(ByteCount::mebibytes(64)), 2);
    }
}
