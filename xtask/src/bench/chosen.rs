//! Variables that name the parts of a benchmark to run.

/// Whether a variable names this one among others, or is not set.
pub(super) fn is_chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).ok().is_none_or(|names| names.split(',').any(|chosen| chosen == name))
}
