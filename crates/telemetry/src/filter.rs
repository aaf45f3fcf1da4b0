//! What a log session wants to see.

use crate::line::LogLine;

/// Filters as `heroku logs` has them; absent means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `app` or `heroku`; another word matches nothing.
    pub source: Option<String>,
    /// A dyno (`web.1`), a process type (`web`) or `router`.
    pub process: Option<String>,
}

impl Filter {
    pub fn matches(&self, line: &LogLine) -> bool {
        let source = self.source.as_deref().is_none_or(|source| source == line.origin.as_str());
        let process = self.process.as_deref().is_none_or(|wanted| {
            line.process == wanted || line.process.split_once('.').is_some_and(|(kind, _number)| kind == wanted)
        });
        source && process
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Origin;

    fn check(source: Option<&str>, process: Option<&str>, expect: bool) {
        let filter = Filter { source: source.map(str::to_owned), process: process.map(str::to_owned) };
        let line =
            LogLine { sequence: 1, unix_us: 0, origin: Origin::App, process: "web.1".to_owned(), text: String::new() };
        assert_eq!(filter.matches(&line), expect, "{filter:?}");
    }

    #[test]
    fn a_dyno_matches_by_name_and_by_type() {
        check(None, None, true);
        check(Some("app"), Some("web.1"), true);
        check(None, Some("web"), true);
        check(None, Some("web.2"), false);
        check(None, Some("we"), false);
        check(Some("heroku"), None, false);
    }
}
