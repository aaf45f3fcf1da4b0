//! Heroku's list ranges: `Range: version ..; order=desc, max=15`, answered by 206 and `Next-Range` where there is more.
//!
//! Read leniently, as clients write it: commas and semicolons both separate, an empty header counts as none.
//!
//! A page begins and ends at places in the order of a key, whether or not something is there: what a page ended with may
//! have gone before the next one is asked for.

use std::cmp::Reverse;
use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{ApiError, ApiResult};

/// Items on a page where the client names no number, and the most it may ask for (Heroku's figures).
const PAGE_DEFAULT: usize = 200;
const PAGE_MAX: usize = 1000;

#[derive(Debug, PartialEq, Eq)]
struct ListRange<K> {
    /// Where it begins and ends, in the order in which it is shown.
    start: Bound<K>,
    end: Bound<K>,
    descending: bool,
    max: usize,
}

impl<K: Ord> ListRange<K> {
    fn contains(&self, key: &K) -> bool {
        let (start, end) = (self.start.as_ref(), self.end.as_ref());
        let ascending = if self.descending { (end, start) } else { (start, end) };
        RangeBounds::<K>::contains(&ascending, key)
    }

    /// Whether it is a list of so many as it came: all of it, and in no other order.
    fn is_whole(&self, items: usize) -> bool {
        let is_open = |bound: &Bound<K>| matches!(bound, Bound::Unbounded);
        is_open(&self.start) && is_open(&self.end) && !self.descending && items <= self.max
    }
}

/// Answers with a page of `items`, each as `shown` makes it.
///
/// `field` is the one that this list can be ranged by; `key` is its value, which no two items share. Only a list that is
/// shown whole keeps the order in which it came, the one that people like to read.
pub(crate) fn page<I, K: Ord + FromStr + Display, T: Serialize>(
    headers: &HeaderMap,
    field: &str,
    items: impl IntoIterator<Item = I>,
    key: impl Fn(&I) -> K,
    shown: impl Fn(I) -> ApiResult<T>,
) -> ApiResult<Response> {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).unwrap_or("").trim();
    let range = parse(text, field)?;
    let mut items: Vec<I> = items.into_iter().collect();
    if !range.is_whole(items.len()) {
        items.retain(|item| range.contains(&key(item)));
        if range.descending {
            items.sort_by_cached_key(|item| Reverse(key(item)));
        } else {
            items.sort_by_cached_key(|item| key(item));
        }
    }
    let more = items.len() > range.max;
    items.truncate(range.max);
    let next = items.last().filter(|_last| more).map(|last| {
        let order = if range.descending { "; order=desc" } else { "" };
        format!("{field} ]{}..; max={}{order}", key(last), range.max)
    });
    let mut response = Json(items.into_iter().map(shown).collect::<ApiResult<Vec<T>>>()?).into_response();
    if let Some(value) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().insert(HeaderName::from_static("next-range"), value);
    }
    response
        .headers_mut()
        .insert(header::ACCEPT_RANGES, HeaderValue::from_str(field).unwrap_or(HeaderValue::from_static("id")));
    Ok(response)
}

fn parse<K: FromStr>(text: &str, field: &str) -> ApiResult<ListRange<K>> {
    let mut range = ListRange { start: Bound::Unbounded, end: Bound::Unbounded, descending: false, max: PAGE_DEFAULT };
    let mut parts = text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
    let Some(bounds) = parts.next() else { return Ok(range) };
    let (name, span) = bounds.split_once(' ').unwrap_or((bounds, ".."));
    let Some((start, end)) = span.trim().split_once("..") else {
        return Err(ApiError::range(format!("Range {span:?} has no `..`; write `{field} ..; max=100`.")));
    };
    // Compat: clients write `id ..` for every list, and the library `heroku3` has `domain ..` for the domains.
    let is_all_of_it = (start, end) == ("", "") && name == "id";
    let is_alias = field == "id" && name == "domain";
    if name != field && !is_all_of_it && !is_alias {
        return Err(ApiError::range(format!("This list can be ranged by {field} only, not by {name:?}.")));
    }
    range.start = bound(start, start.strip_prefix(']'), field)?;
    range.end = bound(end, end.strip_suffix('['), field)?;
    for part in parts {
        match part.split_once('=') {
            Some(("order", "desc")) => range.descending = true,
            Some(("order", "asc")) => range.descending = false,
            Some(("max", number)) => {
                let max: usize = number.parse().map_err(|_not_a_number| {
                    ApiError::range(format!("max={number} is not a number from 1 to {PAGE_MAX}."))
                })?;
                range.max = max.clamp(1, PAGE_MAX);
            }
            Some(_) | None => return Err(ApiError::range(format!("Range option {part:?} is not known."))),
        }
    }
    Ok(range)
}

/// `exclusive` is what is left of the text without its bracket, if it has one.
fn bound<K: FromStr>(text: &str, exclusive: Option<&str>, field: &str) -> ApiResult<Bound<K>> {
    let key = |text: &str| {
        text.parse().map_err(|_of_another_kind| {
            ApiError::range(format!("{:?} is no {field}.", text.chars().take(80).collect::<String>()))
        })
    };
    match exclusive {
        Some(text) => Ok(Bound::Excluded(key(text)?)),
        None if text.is_empty() => Ok(Bound::Unbounded),
        None => Ok(Bound::Included(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    /// Status, `Next-Range`, and the items themselves.
    async fn ask_for<K: Ord + FromStr + Display>(
        range: &str,
        field: &str,
        items: &[&str],
    ) -> (u16, Option<String>, Vec<String>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        let key = |item: &&str| item.parse::<K>().ok().unwrap();
        let response = page(&headers, field, items.iter().copied(), key, |item| Ok(item.to_owned())).unwrap();
        let next = response.headers().get("next-range").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, next, serde_json::from_slice(&body).unwrap())
    }

    async fn ask(range: &str) -> (u16, Option<String>, String) {
        let (status, next, items) = ask_for::<u32>(range, "version", &["1", "2", "3", "4", "5"]).await;
        (status, next, items.concat())
    }

    #[tokio::test]
    async fn ranges_as_real_clients_write_them() {
        assert_eq!(ask("").await, (200, None, "12345".to_owned()));
        assert_eq!(ask("version ..; order=desc").await, (200, None, "54321".to_owned()));
        let first = ask("version ..; max=2, order=desc").await;
        assert_eq!(first, (206, Some("version ]4..; max=2; order=desc".to_owned()), "54".to_owned()));
        let second = ask(&first.1.unwrap()).await;
        assert_eq!((second.0, second.2.as_str()), (206, "32"));
        assert_eq!(ask("id ..; max=1000;").await.2, "12345");
        assert_eq!(ask("version 2..4").await.2, "234");
        assert_eq!(ask("version ]2..4[").await.2, "3");
        assert_eq!(ask("version 4..2; order=desc").await.2, "432");
        assert_eq!(ask("version 7..; max=2").await, (200, None, String::new()));
    }

    /// Items in order, as they are shown; the list comes in another one.
    async fn goes_on_behind_what_has_gone<K: Ord + FromStr + Display>(field: &str, items: [&str; 5]) {
        let [a, b, c, d, e] = items;
        let first = ask_for::<K>(&format!("{field} ..; max=2"), field, &[e, b, a, d, c]).await;
        assert_eq!(first, (206, Some(format!("{field} ]{b}..; max=2")), vec![a.to_owned(), b.to_owned()]));
        let second = ask_for::<K>(&first.1.unwrap(), field, &[e, a, d, c]).await;
        assert_eq!((second.0, second.2), (206, vec![c.to_owned(), d.to_owned()]), "without {b}");
        let last = ask_for::<K>(&second.1.unwrap(), field, &[e, a]).await;
        assert_eq!(last, (200, None, vec![e.to_owned()]), "without {c} and {d}");

        let first = ask_for::<K>(&format!("{field} ..; max=2; order=desc"), field, &[a, c, b, e, d]).await;
        assert_eq!(first.2, [e, d]);
        let second = ask_for::<K>(&first.1.unwrap(), field, &[a, c, b]).await;
        assert_eq!(second.2, [c, b], "without {d}");
        assert_eq!(ask_for::<K>(&second.1.unwrap(), field, &[a]).await, (200, None, vec![a.to_owned()]));
    }

    #[tokio::test]
    async fn a_page_goes_on_where_the_last_one_ended_also_if_that_has_gone() {
        goes_on_behind_what_has_gone::<String>("name", ["cart", "cart-2", "shop", "shop-staging", "shops"]).await;
        // Ten is more than nine, whatever their letters.
        goes_on_behind_what_has_gone::<u32>("version", ["8", "9", "10", "11", "100"]).await;
        goes_on_behind_what_has_gone::<u64>("seq", ["99", "100", "101", "4294967296", "4294967297"]).await;
        let ids = ["1", "2", "3", "a", "f"].map(|end| format!("00000000-0000-4000-8000-00000000000{end}"));
        goes_on_behind_what_has_gone::<Uuid>("id", ids.each_ref().map(String::as_str)).await;
        let times = ["00Z", "00.5Z", "00.500001Z", "01Z", "10Z"].map(|end| format!("2026-11-27T23:19:{end}"));
        goes_on_behind_what_has_gone::<Timestamp>("created_at", times.each_ref().map(String::as_str)).await;
    }

    #[tokio::test]
    async fn a_list_that_is_shown_whole_stays_as_it_came() {
        let items = ["b", "c", "a"];
        for whole in ["", "name ..", "id ..; max=1000;", "name ..; max=3"] {
            assert_eq!(ask_for::<String>(whole, "name", &items).await.2, items, "{whole}");
        }
        assert_eq!(ask_for::<String>("name ..; max=2", "name", &items).await.2, ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_ranged_is_refused_with_the_way_out() {
        for bad in ["size ..", "version 1", "version ..; max=x", "version ..; what", "version x..", "id 1.."] {
            let refused = parse::<u32>(bad, "version").unwrap_err();
            assert_eq!(refused.status, StatusCode::RANGE_NOT_SATISFIABLE, "{bad}");
        }
    }
}
