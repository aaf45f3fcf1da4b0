//! Versions, the ways in which apps ask for them, and which of those that can be had is the answer.
//!
//! `requires-python` (PEP 440) and `engines` (npm's ranges) are read by one grammar: comparators joined by spaces or
//! commas, alternatives by `||`. What it cannot read counts as unreadable, never as "anything".

use std::fmt;

use thiserror::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Parses exactly `X.Y.Z`: no pre-releases, which nobody gets by accident.
    pub fn parse(text: &str) -> Option<Self> {
        let partial = Partial::parse(text)?;
        Some(Self { major: partial.major, minor: partial.minor?, patch: partial.patch? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// `3`, `3.12`, `3.12.1`, `20.x`, `3.12.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Partial {
    major: u32,
    minor: Option<u32>,
    patch: Option<u32>,
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().trim_start_matches(['v', 'V']).split('.');
        let major = number(parts.next()?)??;
        let minor = parts.next().map_or(Some(None), number)?;
        let patch = parts.next().map_or(Some(None), number)?;
        let whole = parts.next().is_none() && (minor.is_some() || patch.is_none());
        whole.then_some(Self { major, minor, patch })
    }

    /// The first version that it covers.
    fn first(self) -> Version {
        Version::new(self.major, self.minor.unwrap_or(0), self.patch.unwrap_or(0))
    }

    /// The first version above all that it covers.
    fn after(self) -> Version {
        match (self.minor, self.patch) {
            (None, _) => Version::new(self.major.saturating_add(1), 0, 0),
            (Some(minor), None) => Version::new(self.major, minor.saturating_add(1), 0),
            (Some(minor), Some(patch)) => Version::new(self.major, minor, patch.saturating_add(1)),
        }
    }
}

/// `None`: not a number. `Some(None)`: a wildcard.
fn number(text: &str) -> Option<Option<u32>> {
    match text {
        "x" | "X" | "*" => Some(None),
        digits if digits.len() <= 6 => digits.parse().ok().map(Some),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparator {
    AtLeast(Version),
    Below(Version),
    Outside { first: Version, after: Version },
}

impl Comparator {
    fn admits(self, version: Version) -> bool {
        match self {
            Self::AtLeast(bound) => version >= bound,
            Self::Below(bound) => version < bound,
            Self::Outside { first, after } => version < first || version >= after,
        }
    }
}

/// A set of versions: any of the alternatives, all comparators of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range(Vec<Vec<Comparator>>);

impl Range {
    pub fn parse(text: &str) -> Option<Self> {
        text.split("||").map(alternative).collect::<Option<Vec<_>>>().map(Self)
    }

    pub fn admits(&self, version: Version) -> bool {
        self.0.iter().any(|all| all.iter().all(|comparator| comparator.admits(version)))
    }
}

fn alternative(text: &str) -> Option<Vec<Comparator>> {
    if let Some((low, high)) = text.split_once(" - ") {
        let (low, high) = (Partial::parse(low)?, Partial::parse(high)?);
        return Some(vec![Comparator::AtLeast(low.first()), Comparator::Below(high.after())]);
    }
    let mut comparators = Vec::new();
    // `>= 3.8` is one comparator although a space stands in it.
    let mut operator = String::new();
    for word in text.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let digits = word.find(|c: char| c.is_ascii_alphanumeric() || c == '*').unwrap_or(word.len());
        let (symbols, version) = word.split_at(digits);
        operator.push_str(symbols);
        if !version.is_empty() {
            comparators.extend(comparator(&operator, version)?);
            operator.clear();
        }
    }
    operator.is_empty().then_some(comparators)
}

fn comparator(operator: &str, version: &str) -> Option<Vec<Comparator>> {
    use Comparator::{AtLeast, Below, Outside};

    if matches!(version, "*" | "x" | "X" | "latest") {
        return Some(Vec::new());
    }
    let partial = Partial::parse(version)?;
    let (first, after) = (partial.first(), partial.after());
    Some(match operator {
        "" | "=" | "==" | "===" => vec![AtLeast(first), Below(after)],
        ">=" => vec![AtLeast(first)],
        ">" => vec![AtLeast(after)],
        "<" => vec![Below(first)],
        "<=" => vec![Below(after)],
        "!=" => vec![Outside { first, after }],
        "~" => {
            vec![AtLeast(first), Below(Partial { patch: None, ..partial }.after())]
        }
        // PEP 440: everything but the last given part is fixed.
        "~=" => {
            let fixed = match partial.patch {
                Some(_) => Partial { patch: None, ..partial },
                None => Partial { minor: None, patch: None, ..partial },
            };
            vec![AtLeast(first), Below(fixed.after())]
        }
        "^" => {
            let fixed = match (first.major, first.minor) {
                (0, 0) if partial.minor.is_some() => partial,
                (0, _) if partial.minor.is_some() => Partial { patch: None, ..partial },
                _ => Partial { minor: None, patch: None, ..partial },
            };
            vec![AtLeast(first), Below(fixed.after())]
        }
        _ => return None,
    })
}

/// What an app asks for, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// As written: `3.12.1`, `>=18 <21`.
    pub text: String,
    /// The file that says it; empty for the platform's default.
    pub source: &'static str,
    request: Request,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    /// `3.12`, `3.12.1`, `20`.
    Pin(Partial),
    Range(Range),
    Unreadable,
}

impl Wanted {
    pub fn parse(text: &str, source: &'static str) -> Self {
        let text = text.trim();
        let request = match Partial::parse(text) {
            Some(partial) => Request::Pin(partial),
            None => Range::parse(text).map_or(Request::Unreadable, Request::Range),
        };
        Self { text: text.to_owned(), source, request }
    }

    /// `X.Y.Z` exactly as written, for which alone a given version is no compromise.
    pub fn admits(&self, version: Version) -> bool {
        match &self.request {
            Request::Pin(partial) => version >= partial.first() && version < partial.after(),
            Request::Range(range) => range.admits(version),
            Request::Unreadable => false,
        }
    }

    /// The request without its patch part, which is what a closed network can usually still serve.
    fn without_patch(&self) -> Option<Self> {
        match self.request {
            Request::Pin(partial @ Partial { minor: Some(_), patch: Some(_), .. }) => {
                Some(Self { request: Request::Pin(Partial { patch: None, ..partial }), ..self.clone() })
            }
            _ => None,
        }
    }

    /// The `X.Y` or `X` series that a pin names, as a downloader takes it.
    pub fn series(&self) -> Option<String> {
        match self.request {
            Request::Pin(Partial { major, minor: Some(minor), .. }) => Some(format!("{major}.{minor}")),
            Request::Pin(Partial { major, minor: None, .. }) => Some(major.to_string()),
            Request::Range(_) | Request::Unreadable => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    pub version: Version,
    /// Set where the app gets something else than it wrote.
    pub note: Option<String>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResolveError {
    #[error("{language} {wanted} (from {origin}) cannot be had here; what can be had: {available}")]
    NotAvailable { language: &'static str, wanted: String, origin: &'static str, available: String },
    #[error("cannot read the {language} version {wanted:?} in {origin}; write one such as {example}")]
    Unreadable { language: &'static str, wanted: String, origin: &'static str, example: &'static str },
    #[error("no {language} can be had here: no installed one was found and none could be downloaded")]
    NoneAtAll { language: &'static str },
}

/// Chooses the newest version that satisfies `wanted`; a patch pin that is missing becomes its series, with a note.
pub fn resolve(language: &'static str, wanted: &Wanted, available: &[Version]) -> Result<Resolution, ResolveError> {
    if available.is_empty() {
        return Err(ResolveError::NoneAtAll { language });
    }
    let unreadable = || ResolveError::Unreadable {
        language,
        wanted: wanted.text.clone(),
        origin: wanted.source,
        example: "3.12 or 20.x",
    };
    if wanted.request == Request::Unreadable {
        return Err(unreadable());
    }
    let newest = |wanted: &Wanted| available.iter().copied().filter(|&version| wanted.admits(version)).max();
    if let Some(version) = newest(wanted) {
        return Ok(Resolution { version, note: None });
    }
    if let Some(version) = wanted.without_patch().as_ref().and_then(newest) {
        let note = format!(
            "{language} {} (from {}) is not available here; using {version}, the newest of its series",
            wanted.text, wanted.source
        );
        return Ok(Resolution { version, note: Some(note) });
    }
    Err(ResolveError::NotAvailable {
        language,
        wanted: wanted.text.clone(),
        origin: if wanted.source.is_empty() { "the default" } else { wanted.source },
        available: list(available),
    })
}

/// Newest first, each once.
pub fn list(versions: &[Version]) -> String {
    let mut sorted = versions.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    sorted.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn check(range: &str, inside: &[&str], outside: &[&str]) {
        let wanted = Wanted::parse(range, "test");
        for text in inside {
            assert!(wanted.admits(version(text)), "{range} admits {text}");
        }
        for text in outside {
            assert!(!wanted.admits(version(text)), "{range} does not admit {text}");
        }
    }

    #[test]
    fn python_specifiers_are_understood() {
        check(">=3.8,<3.13", &["3.8.0", "3.12.9"], &["3.7.9", "3.13.0"]);
        check(">= 3.8, != 3.9.*", &["3.8.1", "3.10.0"], &["3.9.5", "3.7.0"]);
        check("~=3.11", &["3.11.0", "3.14.2"], &["3.10.9", "4.0.0"]);
        check("~=3.11.2", &["3.11.2", "3.11.9"], &["3.11.1", "3.12.0"]);
        check("==3.12.*", &["3.12.0"], &["3.11.9", "3.13.0"]);
        check("<=3.12", &["3.12.7"], &["3.13.0"]);
        check(">3.11", &["3.12.0"], &["3.11.9"]);
    }

    #[test]
    fn npm_ranges_are_understood() {
        check("^18.2.0", &["18.2.0", "18.19.1"], &["18.1.9", "19.0.0"]);
        check("^0.2.3", &["0.2.9"], &["0.3.0", "0.2.2"]);
        check("~20.1", &["20.1.7"], &["20.2.0"]);
        check("20.x", &["20.0.0", "20.20.2"], &["21.0.0"]);
        check(">=18 <21", &["18.0.0", "20.9.9"], &["21.0.0", "17.9.9"]);
        check("18.x || >=22", &["18.4.0", "24.1.0"], &["20.0.0"]);
        check("18 - 20", &["18.0.0", "20.5.0"], &["21.0.0"]);
        check("*", &["1.2.3"], &[]);
        check("v20.1.0", &["20.1.0"], &["20.1.1"]);
        check("lts/*", &[], &["20.1.1"]);
    }

    #[test]
    fn a_missing_patch_version_becomes_its_series_with_a_note() {
        let available = [version("3.12.1"), version("3.12.9"), version("3.13.0")];
        let exact = resolve("Python", &Wanted::parse("3.12.1", ".python-version"), &available).unwrap();
        assert_eq!(exact, Resolution { version: version("3.12.1"), note: None });
        let close = resolve("Python", &Wanted::parse("3.12.4", "runtime.txt"), &available).unwrap();
        assert_eq!(close.version, version("3.12.9"));
        assert_eq!(
            close.note.as_deref(),
            Some("Python 3.12.4 (from runtime.txt) is not available here; using 3.12.9, the newest of its series")
        );
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_can() {
        let available = [version("3.12.1"), version("3.13.0")];
        let error = resolve("Python", &Wanted::parse("3.5.2", "runtime.txt"), &available).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Python 3.5.2 (from runtime.txt) cannot be had here; what can be had: 3.13.0, 3.12.1"
        );
        let error = resolve("Python", &Wanted::parse("pypy-3.9", ".python-version"), &available).unwrap_err();
        assert!(matches!(error, ResolveError::Unreadable { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let wanted = Wanted::parse(&text, "test");
            let _admitted = wanted.admits(Version::new(3, 12, 1));
        }

        #[test]
        fn a_version_satisfies_itself_and_the_ranges_made_of_it(
            major in 0_u32..99, minor in 0_u32..99, patch in 0_u32..99
        ) {
            let version = Version::new(major, minor, patch);
            for range in [format!("{version}"), format!(">={version}"), format!("^{version}"), format!("~{version}"),
                format!("~={version}"), format!("{major}.{minor}"), format!("{major}.x"), format!("<={version}")] {
                prop_assert!(Wanted::parse(&range, "test").admits(version), "{}", range);
            }
            for range in [format!("<{version}"), format!(">{version}"), format!("!={version}")] {
                prop_assert!(!Wanted::parse(&range, "test").admits(version), "{}", range);
            }
        }
    }
}
