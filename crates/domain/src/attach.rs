//! How a client meets the standard streams of a one-off dyno.

/// The largest size that a terminal may be said to have.
const CELLS_MAX: u16 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attach {
    Terminal(TerminalSize),
    Pipes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

impl Default for TerminalSize {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

impl TerminalSize {
    /// Takes what is a size and the usual one for what is none.
    pub fn from_given(rows: Option<u64>, columns: Option<u64>) -> Self {
        let given = |value: Option<u64>| {
            value.and_then(|cells| u16::try_from(cells).ok()).filter(|cells| (1..=CELLS_MAX).contains(cells))
        };
        let usual = Self::default();
        Self { rows: given(rows).unwrap_or(usual.rows), columns: given(columns).unwrap_or(usual.columns) }
    }
}

impl Attach {
    /// As it is stored: `pipes`, `24x80`.
    pub fn to_text(self) -> String {
        match self {
            Self::Pipes => "pipes".to_owned(),
            Self::Terminal(size) => format!("{}x{}", size.rows, size.columns),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        if text == "pipes" {
            return Some(Self::Pipes);
        }
        let (rows, columns) = text.split_once('x')?;
        Some(Self::Terminal(TerminalSize { rows: rows.parse().ok()?, columns: columns.parse().ok()? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back() {
        for attach in [Attach::Pipes, Attach::Terminal(TerminalSize { rows: 50, columns: 132 })] {
            assert_eq!(Attach::parse(&attach.to_text()), Some(attach));
        }
        assert_eq!(Attach::parse(""), None);
    }

    #[test]
    fn a_size_that_is_none_is_the_usual_one() {
        assert_eq!(TerminalSize::from_given(Some(50), Some(132)), TerminalSize { rows: 50, columns: 132 });
        assert_eq!(TerminalSize::from_given(Some(0), Some(70_000)), TerminalSize::default());
    }
}
