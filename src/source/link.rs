//! The `Link` header.

use reqwest::header::{HeaderMap, LINK};

/// The target of the first link with a relation (RFC 8288, section 3). A header is bytes (RFC 9110, section 5.5); one that is there and
/// cannot be read to its end is an error, for it may say that more follows.
pub fn link(headers: &HeaderMap, rel: &str) -> Result<Option<String>, String> {
    let mut found = None;
    for value in headers.get_all(LINK) {
        let all = links(&text_of(value.as_bytes()))?;
        let with_it = |(_, rels): &(String, Vec<String>)| rels.iter().any(|r| r.eq_ignore_ascii_case(rel));
        found = found.or(all.into_iter().find(with_it).map(|(target, _)| target));
    }
    Ok(found)
}

/// UTF-8, or else with each byte beyond ASCII as a URL has it.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes
            .iter()
            .map(|byte| if byte.is_ascii() { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
            .collect(),
    }
}

/// The links of one header: targets with their relations.
fn links(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches([',', ' ', '\t']);
    while !rest.is_empty() {
        let wrong = |why: &str| {
            let start: String = rest.chars().take(40).collect();
            format!("{why} at {start:?}")
        };
        let after = rest.strip_prefix('<').ok_or_else(|| wrong("`<` is missing"))?;
        let (target, mut after) = after.split_once('>').ok_or_else(|| wrong("`>` is missing behind the target"))?;
        let mut rels: Option<Vec<String>> = None;
        // Parameters up to the comma that ends this link.
        loop {
            after = after.trim_start();
            let Some(parameter) = after.strip_prefix(';') else {
                break;
            };
            let parameter = parameter.trim_start();
            let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
            let (name, tail) = parameter.split_at_checked(end).unwrap_or((parameter, ""));
            let (value, tail) = match tail.strip_prefix('=') {
                Some(tail) => parameter_value(tail.trim_start()),
                None => (String::new(), tail),
            };
            // Only the first `rel` counts.
            if name.trim().eq_ignore_ascii_case("rel") && rels.is_none() {
                rels = Some(value.split_ascii_whitespace().map(str::to_owned).collect());
            }
            after = tail;
        }
        if !after.is_empty() && !after.starts_with(',') {
            return Err(wrong("`;` or `,` is missing behind a link"));
        }
        out.push((target.trim().to_owned(), rels.unwrap_or_default()));
        rest = after.trim_start_matches([',', ' ', '\t']);
    }
    Ok(out)
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    // Some write it as a script would.
    if let Some((value, tail)) = text.strip_prefix('\'').and_then(|quoted| quoted.split_once('\'')) {
        return (value.to_owned(), tail);
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',']).unwrap_or(text.len());
        let (value, tail) = text.split_at_checked(end).unwrap_or((text, ""));
        return (value.trim().to_owned(), tail);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return (value, chars.as_str()),
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn link_headers_as_servers_send_them() {
        type Found<'t> = Result<Option<&'t str>, ()>;
        let cases: [(&[u8], Found<'_>); 24] = [
            (br#"<https://a/x?page=2>; rel="next", <https://a/x?page=9>; rel="last""#, Ok(Some("https://a/x?page=2"))),
            (br#"<https://a/x?page=9>; rel="last",<https://a/x?page=2>;rel=next"#, Ok(Some("https://a/x?page=2"))),
            (br#"</y?a=1,2;3>; title="a, b; c"; rel="prev next""#, Ok(Some("/y?a=1,2;3"))),
            (br#"<z>; REL=Next"#, Ok(Some("z"))),
            (br#"<z>; rel="prev"; rel="next""#, Ok(None)),
            (br#"<z>; title="rel=next""#, Ok(None)),
            (br#"<z>; title="\"; rel=next""#, Ok(None)),
            (b"", Ok(None)),
            (br#"<z>; rel="next"#, Ok(Some("z"))),
            (b"<z>; rel='next'", Ok(Some("z"))),
            (b"<z>; title='a, b'; rel='next'", Ok(Some("z"))),
            (b", <z>; rel=next, ,", Ok(Some("z"))),
            (b"<z>;rel=next;", Ok(Some("z"))),
            // Bytes beyond ASCII are part of it, wherever they stand.
            (b"<z>; title=\"\xdcbersicht\"; rel=next", Ok(Some("z"))),
            ("<z?q=Übersicht>; rel=next".as_bytes(), Ok(Some("z?q=Übersicht"))),
            (b"<z?q=\xdc>; rel=next", Ok(Some("z?q=%DC"))),
            // What cannot be read may say that more follows.
            (b"<z", Err(())),
            (b"garbage", Err(())),
            (b"<z> rel=\"next\"", Err(())),
            (b"<a>; rel=prev, z; rel=next", Err(())),
            (b"<a>; rel=prev <z>; rel=next", Ok(None)),
            (b"z>; rel=next", Err(())),
            (b"<a>; rel=\"prev\" <z>; rel=next", Err(())),
            (b"<a>; rel=next, <z", Err(())),
        ];
        for (header, expected) in cases {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_bytes(header).expect("a header"))]);
            let found = link(&headers, "next");
            let shown = String::from_utf8_lossy(header);
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(|_| ()), expected, "{shown}: {found:?}");
        }
    }
}
