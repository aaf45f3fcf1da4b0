//! What an answer says besides itself: clients print it on the standard error.

use http::{HeaderMap, HeaderName, HeaderValue};

/// What Heroku's client prints, once each.
const WARNING: HeaderName = HeaderName::from_static("warning-message");

/// The header of a text; none for none.
pub(crate) fn warning(text: &str) -> HeaderMap {
    // Names may be in any script; headers are not.
    let text: String = text.chars().map(|letter| if letter.is_ascii() { letter } else { '?' }).collect();
    let value = (!text.is_empty()).then(|| HeaderValue::try_from(text).ok()).flatten();
    value.map(|value| (WARNING, value)).into_iter().collect()
}
