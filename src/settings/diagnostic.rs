//! An error or warning about a place in a file, and how it is shown.

use std::{fmt::Write as _, ops::Range, path::PathBuf};

/// A file's number among those read, and the bytes meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: usize,
    pub span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    pub severity: Severity,
    pub place: Place,
    pub message: String,
    pub help: Option<String>,
    pub excerpt: Option<String>,
    pub also: Option<(Place, String)>,
}

impl Diagnostic {
    pub fn error(place: Place, message: String) -> Self {
        Self {
            severity: Severity::Error,
            place,
            message,
            help: None,
            excerpt: None,
            also: None,
        }
    }
}

/// The files that places refer to.
#[derive(Debug, Default)]
pub struct Sources {
    pub files: Vec<(PathBuf, String)>,
}

/// A finding that stands on its own, for errors that leave the loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub severity: Severity,
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    pub help: Option<String>,
    /// The whole finding, several lines.
    pub text: String,
}

impl Sources {
    /// `FILE:LINE:COLUMN: message`, the source line with carets, help.
    pub fn render(&self, found: &Diagnostic) -> Rendered {
        let (file, line, column, source, width) = self.locate(&found.place);
        let word = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut text = format!("{}:{line}:{column}: {word}: {}\n", file.display(), found.message);
        let gutter = line.to_string().len();
        let caret = format!("{}{}", " ".repeat(column.saturating_sub(1)), "^".repeat(width));
        // A string takes every write.
        let _ = writeln!(text, "{line} | {source}\n{:gutter$} | {caret}", "");
        for line in found.excerpt.iter().flat_map(|e| e.lines()) {
            let _ = writeln!(text, "{:gutter$} | {line}", "");
        }
        if let Some((place, label)) = &found.also {
            let (file, line, column, ..) = self.locate(place);
            let _ = writeln!(text, "{:gutter$} = {label}: {}:{line}:{column}", "", file.display());
        }
        if let Some(help) = &found.help {
            let _ = writeln!(text, "{:gutter$} = help: {help}", "");
        }
        Rendered {
            severity: found.severity,
            file,
            line,
            column,
            message: found.message.clone(),
            help: found.help.clone(),
            text,
        }
    }

    fn locate(&self, place: &Place) -> (PathBuf, usize, usize, String, usize) {
        let Some((path, text)) = self.files.get(place.file) else {
            return (PathBuf::from("?"), 0, 0, String::new(), 1);
        };
        let start = floor(text, place.span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text
            .get(start..)
            .and_then(|rest| rest.find('\n'))
            .map_or(text.len(), |n| start + n);
        let source = mask(text.get(line_start..line_end).unwrap_or_default());
        let end = floor(text, place.span.end).clamp(start, line_end.max(start));
        let width = text.get(start..end).map_or(1, |s| s.chars().count().max(1));
        let column = text.get(line_start..start).map_or(0, |s| s.chars().count()) + 1;
        let line = before.matches('\n').count() + 1;
        (
            path.clone(),
            line,
            column,
            source.trim_end_matches('\r').replace('\t', " "),
            width,
        )
    }
}

/// A line without the secrets that may stand in it: what follows `value =`, and whatever begins as a signing secret does.
/// Each character becomes one `*`, so that carets stay where they belong.
fn mask(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = [rest.find("value"), rest.find("whsec_")].into_iter().flatten().min() {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        let quote = from.find(['"', '\'']).filter(|_| from.starts_with("value"));
        let is_value = quote.is_some_and(|q| from.get(5..q).is_some_and(|gap| gap.trim() == "="));
        let (kept, secret, tail) = if let (Some(open), true) = (quote, is_value) {
            let mark = if from.get(open..).is_some_and(|q| q.starts_with('"')) {
                '"'
            } else {
                '\''
            };
            let (kept, inside) = from.split_at_checked(open + 1).unwrap_or((from, ""));
            let end = inside.find(mark).unwrap_or(inside.len());
            let (secret, tail) = inside.split_at_checked(end).unwrap_or((inside, ""));
            (kept, secret, tail)
        } else if let Some(secret) = from.strip_prefix("whsec_") {
            let end = secret
                .find(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c))
                .unwrap_or(secret.len());
            let (secret, tail) = secret.split_at_checked(end).unwrap_or((secret, ""));
            ("whsec_", secret, tail)
        } else {
            let (kept, tail) = from.split_at_checked("value".len()).unwrap_or((from, ""));
            (kept, "", tail)
        };
        out.push_str(kept);
        out.extend(secret.chars().map(|_| '*'));
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_line_holds_no_secret() {
        for (line, shown) in [
            (
                r#"secrets = [{ value = "whsec_abc=" }, { value="x y" }]"#,
                r#"secrets = [{ value = "**********" }, { value="***" }]"#,
            ),
            ("auth.bearer.secret.value = 'abc'", "auth.bearer.secret.value = '***'"),
            (
                r#"secret = "whsec_QUJD+/=" # no table"#,
                r#"secret = "whsec_*******" # no table"#,
            ),
            (r#"value = "open"#, r#"value = "****"#),
            (r#"key = ".value""#, r#"key = ".value""#),
        ] {
            assert_eq!(mask(line), shown);
        }
    }
}
