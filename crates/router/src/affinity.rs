//! Session affinity: a client's requests go to the dyno that answered its first one, as long as that can take them.
//!
//! The dyno stands in a cookie of Heroku's name. It is a wish, not a promise: a dyno that is gone, full or ejected is
//! replaced by another one, and the cookie by one for that.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// Compat: Heroku's, which apps and tests may know.
const NAME: &str = "heroku-session-affinity";

/// A day, as on Heroku.
const MAX_AGE_SECONDS: u32 = 24 * 60 * 60;

/// The dyno that answered a request, among a response's extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredBy(pub(crate) Uuid);

/// The dyno that a client's session is on, as the client says.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<Uuid> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_name, value) = cookies.find(|(name, _value)| *name == NAME)?;
    Uuid::try_parse(value).ok()
}

/// Tells the client which dyno its session is on from now on.
pub(crate) fn tell(headers: &mut HeaderMap, dyno: Uuid, https: bool) {
    let secure = if https { "; Secure" } else { "" };
    let cookie = format!("{NAME}={}; Max-Age={MAX_AGE_SECONDS}; Path=/; HttpOnly{secure}", dyno.as_simple());
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        headers.append(SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_names_a_dyno_among_others() {
        let dyno = Uuid::from_u128(7);
        let told = |https| {
            let mut headers = HeaderMap::new();
            tell(&mut headers, dyno, https);
            headers[SET_COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!(
            told(false),
            "heroku-session-affinity=00000000000000000000000000000007; Max-Age=86400; Path=/; HttpOnly"
        );
        assert!(told(true).ends_with("; Secure"));
        let pair = told(false).split(';').next().unwrap().to_owned();
        let asked = |cookies: &[&str]| {
            let pairs = cookies.iter().map(|text| (COOKIE, HeaderValue::from_str(text).unwrap()));
            let headers: HeaderMap = pairs.collect();
            wanted(&headers)
        };
        assert_eq!(asked(&[&format!("a=b; {pair};c=d")]), Some(dyno));
        assert_eq!(asked(&["a=b", &pair]), Some(dyno));
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["heroku-session-affinity=nonsense", "x", ";;="]), None);
        assert_eq!(asked(&["xheroku-session-affinity=00000000000000000000000000000007"]), None);
    }
}
