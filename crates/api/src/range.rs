//! Heroku's list ranges: `Range: version ..; order=desc, max=15`, answered by 206 and `Next-Range` where there is more.
//!
//! Read leniently, as clients write it: commas and semicolons both separate, an empty header counts as none.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{ApiError, ApiResult};

/// Items on a page where the client names no number, and the most it may ask for (Heroku's figures).
const PAGE_DEFAULT: usize = 200;
const PAGE_MAX: usize = 1000;

#[derive(Debug, PartialEq, Eq)]
struct ListRange {
    /// Exclusive if it was written with a bracket: `]x..`.
    start: Option<(String, bool)>,
    end: Option<String>,
    descending: bool,
    max: usize,
}

/// Answers with a page of `items`, which come in ascending order of `key`.
///
/// `field` is the only one that this list can be ranged by besides `id`; Heroku's clients use exactly these.
pub(crate) fn page<T: Serialize>(
    headers: &HeaderMap,
    field: &str,
    items: Vec<T>,
    key: impl Fn(&T) -> String,
) -> ApiResult<Response> {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).unwrap_or("").trim();
    let range = parse(text, field)?;
    let mut items = items;
    if range.descending {
        items.reverse();
    }
    let mut from = 0;
    if let Some((start, exclusive)) = &range.start {
        let found = items.iter().position(|item| key(item) == *start);
        from = found.map_or(items.len(), |at| if *exclusive { at + 1 } else { at });
    }
    let until = match &range.end {
        Some(end) => items.iter().position(|item| key(item) == *end).map_or(items.len(), |at| at + 1),
        None => items.len(),
    };
    let rest: Vec<T> = items.drain(from..until.max(from)).collect();
    let more = rest.len() > range.max;
    let shown: Vec<T> = rest.into_iter().take(range.max).collect();
    let next = shown.last().filter(|_last| more).map(|last| {
        let order = if range.descending { "; order=desc" } else { "" };
        format!("{field} ]{}..; max={}{order}", key(last), range.max)
    });
    let mut response = Json(&shown).into_response();
    if let Some(value) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response.headers_mut().insert(HeaderName::from_static("next-range"), value);
    }
    response
        .headers_mut()
        .insert(header::ACCEPT_RANGES, HeaderValue::from_str(field).unwrap_or(HeaderValue::from_static("id")));
    Ok(response)
}

fn parse(text: &str, field: &str) -> ApiResult<ListRange> {
    let mut range = ListRange { start: None, end: None, descending: false, max: PAGE_DEFAULT };
    let mut parts = text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
    let Some(bounds) = parts.next() else { return Ok(range) };
    let (name, span) = bounds.split_once(' ').unwrap_or((bounds, ".."));
    // Compat: the library `heroku3` names the domains' field so.
    let is_alias = field == "id" && name == "domain";
    if name != field && name != "id" && !is_alias {
        return Err(ApiError::range(format!("This list can be ranged by {field} only, not by {name:?}.")));
    }
    let Some((start, end)) = span.trim().split_once("..") else {
        return Err(ApiError::range(format!("Range {span:?} has no `..`; write `{field} ..; max=100`.")));
    };
    range.start = match start.strip_prefix(']') {
        Some(start) => Some((start.to_owned(), true)),
        None if start.is_empty() => None,
        None => Some((start.to_owned(), false)),
    };
    range.end = Some(end.trim_end_matches('[').to_owned()).filter(|end| !end.is_empty());
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn ask(range: &str) -> (u16, Option<String>, Vec<u32>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        let response = page(&headers, "version", vec![1_u32, 2, 3, 4, 5], ToString::to_string).unwrap();
        let next = response.headers().get("next-range").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, next, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn ranges_as_real_clients_write_them() {
        assert_eq!(ask("").await, (200, None, vec![1, 2, 3, 4, 5]));
        assert_eq!(ask("version ..; order=desc").await, (200, None, vec![5, 4, 3, 2, 1]));
        let first = ask("version ..; max=2, order=desc").await;
        assert_eq!(first, (206, Some("version ]4..; max=2; order=desc".to_owned()), vec![5, 4]));
        let second = ask(&first.1.unwrap()).await;
        assert_eq!((second.0, second.2), (206, vec![3, 2]));
        assert_eq!(ask("id ..; max=1000;").await.2, [1, 2, 3, 4, 5]);
        assert_eq!(ask("version 2..4").await.2, [2, 3, 4]);
    }

    #[test]
    fn what_cannot_be_ranged_is_refused_with_the_way_out() {
        for bad in ["size ..", "version 1", "version ..; max=x", "version ..; what"] {
            assert_eq!(parse(bad, "version").unwrap_err().status, StatusCode::RANGE_NOT_SATISFIABLE, "{bad}");
        }
    }
}
