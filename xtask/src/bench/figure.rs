//! One printed line: what was measured, the floor beside it, and whether the goals are met.

/// What a figure should stay below.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    AtMost(f64),
    /// So many times the floor.
    TimesFloor(f64),
}

/// Prints a figure in its unit beside its floor.
pub(super) fn print(what: &str, unit: &str, measured: f64, floor: f64, goals: &[Goal]) {
    let ratio = if floor > 0.0 { format!("{:.2}", measured / floor) } else { "-".to_owned() };
    let mut line = format!("{what:<44} {measured:>8.2} {unit:<3}  floor {floor:>8.2}  ratio {ratio:>6}");
    for goal in goals {
        let (limit, text) = match goal {
            Goal::AtMost(limit) => (*limit, format!("{limit} {unit}")),
            Goal::TimesFloor(times) => (times * floor, format!("{times} x floor")),
        };
        let verdict = if measured <= limit { "met" } else { "MISSED" };
        line.push_str(&format!("  goal <= {text}: {verdict}"));
    }
    println!("{line}");
}

/// Prints a figure that explains another one.
pub(super) fn note(what: &str, unit: &str, measured: f64) {
    println!("  {what:<42} {measured:>8.2} {unit}");
}
