//! What may be printed: others write what is shown, and a terminal obeys some of it.

use std::borrow::Cow;

/// What our own tables are painted with; the colours of somebody else do no harm either.
const PAINT: [&str; 4] = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"];

/// Whether a terminal obeys it, or shows what stands beside it in another order: controls (C0, DEL, C1), marks and
/// overrides of direction (UAX #9), line separators.
fn is_obeyed(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// As JSON writes it, so that JSON stays what it was.
fn escape(char: char, out: &mut String) {
    out.push_str(&format!("\\u{:04x}", u32::from(char)));
}

/// One line for a terminal: all that it would obey is escaped.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_obeyed(char) {
            escape(char, &mut out);
        } else {
            out.push(char);
        }
    }
    out
}

/// Lines for a terminal: all that it would obey is escaped but ends of lines, tabs and our own paint.
pub fn lines(text: &str) -> Cow<'_, str> {
    let stays = |char: char| matches!(char, '\n' | '\t') || !is_obeyed(char);
    if text.chars().all(stays) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let painted = PAINT.iter().find(|paint| rest.starts_with(**paint));
        let length = painted.map_or(char.len_utf8(), |paint| paint.len());
        match painted {
            Some(paint) => out.push_str(paint),
            None if stays(char) => out.push(char),
            None => escape(char, &mut out),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    out.into()
}

/// Columns that a table may take: those that the shell tells in `COLUMNS`, otherwise what fits into most windows.
pub fn width() -> usize {
    const WIDTHS: std::ops::RangeInclusive<usize> = 40..=400;
    const USUAL: usize = 100;
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(USUAL).clamp(*WIDTHS.start(), *WIDTHS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_others() {
        assert_eq!(lines("a\n\tb é ☆"), "a\n\tb é ☆");
        assert_eq!(lines("\x1b[32mok\x1b[0m"), "\x1b[32mok\x1b[0m");
        assert_eq!(
            lines("\x1b]0;owned\x07\r\u{9b}2J\u{7f}\u{202e}"),
            "\\u001b]0;owned\\u0007\\u000d\\u009b2J\\u007f\\u202e"
        );
        // JSON stays the same value.
        let json = serde_json::json!({ "a": "\u{9b}\u{7f}\u{2066}é\u{1f600}" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&lines(&json.to_string())).expect("JSON"), json);
        for char in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = format!("x{char}y");
            let shown = lines(&text);
            assert!(shown.chars().all(|char| matches!(char, '\n' | '\t') || !is_obeyed(char)), "{:x}", u32::from(char));
        }
    }
}
