//! One printed line: what was measured, the floor beside it, and whether the goals are met.

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// At most so many times the floor.
    TimesFloor(f64),
    /// At least so many times the floor.
    PartOfFloor(f64),
}

impl Goal {
    fn is_met(self, measured: f64, floor: f64) -> bool {
        match self {
            Self::AtMost(limit) => measured <= limit,
            Self::AtLeast(limit) => measured >= limit,
            Self::TimesFloor(times) => measured <= times * floor,
            Self::PartOfFloor(times) => measured >= times * floor,
        }
    }

    fn text(self, unit: &str) -> String {
        let text = match self {
            Self::AtMost(limit) => format!("<= {limit} {unit}"),
            Self::AtLeast(limit) => format!(">= {limit} {unit}"),
            Self::TimesFloor(times) => format!("<= {times} x floor"),
            Self::PartOfFloor(times) => format!(">= {times} x floor"),
        };
        text.trim_end().to_owned()
    }
}

/// Prints a figure in its unit beside its floor.
pub(super) fn print(what: &str, unit: &str, measured: f64, floor: f64, goals: &[Goal]) {
    let ratio = if floor > 0.0 { format!("{:.2}", measured / floor) } else { "-".to_owned() };
    let mut line = format!("{what:<44} {measured:>8.2} {unit:<3}  floor {floor:>8.2}  ratio {ratio:>6}");
    for goal in goals {
        let verdict = if goal.is_met(measured, floor) { "met" } else { "MISSED" };
        line.push_str(&format!("  goal {}: {verdict}", goal.text(unit)));
    }
    println!("{line}");
}

/// Prints a figure that explains another one.
pub(super) fn note(what: &str, unit: &str, measured: f64) {
    println!("  {what:<42} {measured:>8.2} {unit}");
}
