//! Where the file, or its jq, sends requests: URLs and headers, checked as they are read.

use reqwest::header::HeaderName;
use url::Url;

use super::{egress::Egress, origin};
use crate::settings::{
    Item,
    key::{Form, Shape},
    value::Value,
};

/// A `url` over HTTP.
pub const URL: Form<Value> = Form::new(Shape::Value, |item| read_url(item, HTTP));
/// The same, which may be another one for each page.
pub const URL_OVER_PAGES: Form<Value> = Form::new(Shape::Value, |item| match item.is_made() {
    true => item.made_over_pages().map(Value::Jq),
    false => read_url(item, HTTP),
});
/// A table of headers.
pub const HEADERS: Form<Vec<(HeaderName, Value)>> = Form::new(Shape::Named(&Shape::Value), read_headers);
/// A header's name.
pub const HEADER_NAME: Form<HeaderName> = Form::new(Shape::Text, read_header_name);

/// A header's name.
pub fn read_header_name(item: &Item<'_>) -> Option<HeaderName> {
    let parse = |text: &str| text.parse::<HeaderName>().map_err(|_| format!("{text:?} is not a header name"));
    item.parse_text(parse, "a header's name")
}

/// The `url` of a source; a literal one is checked. `schemes` are those that may stand there.
pub fn read_url(item: &Item<'_>, schemes: &[&str]) -> Option<Value> {
    let value = item.value()?;
    if let Value::Literal(text) = &value {
        check_url(item, text, schemes)?;
    }
    Some(value)
}

/// The origin of a `url` that jq does not make.
pub fn fixed_origin(url: &Value) -> Option<String> {
    url.fixed().first().and_then(|text| text.parse::<Url>().ok()).map(|url| origin(&url))
}

/// Checks a literal URL; `None` after an error.
pub fn check_url(item: &Item<'_>, text: &str, schemes: &[&str]) -> Option<Url> {
    let wrong = |why: String| {
        item.error(format!("`{}`: {why}", item.path))
            .help(format!("for example \"{}://api.example.com/orders\"", schemes.last().unwrap_or(&"https")))
            .report();
        None
    };
    match text.parse::<Url>() {
        Err(error) => wrong(format!("not a URL: {error}")),
        Ok(url) if !schemes.contains(&url.scheme()) => {
            wrong(format!("the scheme {:?} is not {}", url.scheme(), schemes.join(" or ")))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            item.error(format!("`{}` holds a user or password", item.path)).help("use `auth.basic`".into()).report();
            None
        }
        Ok(url) => {
            // It would be refused with each request.
            let egress = item.context().allow.get().map(|allow| Egress::new(allow.clone()));
            if let Some(Err(refused)) = egress.map(|egress| egress.judge_literal(&url)) {
                item.error(format!("`{}`: {refused}", item.path)).report();
                return None;
            }
            Some(url)
        }
    }
}

/// A URL that jq made of data: it may not leave the path that the expression has for it.
pub fn made_url(text: &str) -> Result<Url, String> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if path.contains(|c: char| c == '\\' || c.is_control()) {
        return Err("it holds a backslash or a control character".into());
    }
    let is_dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if path.split('/').any(is_dots) {
        return Err("its path has `.` or `..`: encode what is joined into it, `(.item | @uri)`".into());
    }
    let url: Url = text.parse().map_err(|e| format!("it is not a URL: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it has a user or password: use `auth.basic`".into());
    }
    Ok(url)
}

/// The schemes of HTTP.
pub const HTTP: &[&str] = &["http", "https"];

/// A table of header names and values.
pub fn read_headers(item: &Item<'_>) -> Option<Vec<(HeaderName, Value)>> {
    let all = item.table()?.take_all();
    let header = |(name, place, at): (&str, _, Item<'_>)| match name.parse::<HeaderName>() {
        Ok(header) => Some((header, at.value()?)),
        Err(_) => {
            at.error_at(place, format!("`{}`: {name:?} is not a header name", item.path)).report();
            None
        }
    };
    Some(all.into_iter().filter_map(header).collect())
}
