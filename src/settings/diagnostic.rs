//! An error or warning about a place in a file, and how it is shown.

use std::{cell::RefCell, collections::BTreeMap, fmt::Write as _, ops::Range, path::PathBuf};

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
    /// Something is absent: where a file does not parse, it may stand in what was lost.
    pub missing: bool,
}

impl Diagnostic {
    pub fn error(place: Place, message: String) -> Self {
        Self { severity: Severity::Error, place, message, help: None, excerpt: None, also: None, missing: false }
    }
}

/// The files that places refer to.
#[derive(Debug, Default)]
pub struct Sources {
    pub files: Vec<(PathBuf, String)>,
    /// Of each file that a place was shown of: which lines may hold a secret.
    secret_lines: RefCell<BTreeMap<usize, Vec<bool>>>,
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

    /// The line of a place, from 1.
    pub fn line(&self, place: &Place) -> usize {
        self.locate(place).1
    }

    fn locate(&self, place: &Place) -> (PathBuf, usize, usize, String, usize) {
        let Some((path, text)) = self.files.get(place.file) else {
            return (PathBuf::from("?"), 0, 0, String::new(), 1);
        };
        let start = floor(text, place.span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |n| start + n);
        let source = text.get(line_start..line_end).unwrap_or_default();
        let line = before.matches('\n').count();
        let mut secret_lines = self.secret_lines.borrow_mut();
        let secret_lines = secret_lines.entry(place.file).or_insert_with(|| secret_lines_of(text));
        let may_be_secret = secret_lines.get(line).copied().unwrap_or(true);
        let source = if may_be_secret { mask_strings(source) } else { mask(source) };
        let end = floor(text, place.span.end).clamp(start, line_end.max(start));
        let width = text.get(start..end).map_or(1, |s| s.chars().count().max(1));
        let column = text.get(line_start..start).map_or(0, |s| s.chars().count()) + 1;
        (path.clone(), line + 1, column, source.trim_end_matches('\r').replace('\t', " "), width)
    }
}

/// Words of keys below which a plain string may be a secret that was put there by mistake.
const SECRET_WORDS: [&str; 10] =
    ["auth", "sign", "token", "secret", "secrets", "password", "proxy", "credential", "env", "headers"];

/// Whether a key, or a way to one, may lead to a secret.
pub(super) fn is_secret(keys: &str) -> bool {
    let words = keys.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.into_iter().any(|word| SECRET_WORDS.contains(&word.to_ascii_lowercase().as_str()))
}

/// Which lines may hold a secret: by their keys, by the table that they are in, or since they go on with the value of such a line.
/// Read without a parser, since the file may be none.
fn secret_lines_of(text: &str) -> Vec<bool> {
    let (mut table, mut open) = (false, Open::default());
    let line = |line: &str| {
        let named = is_secret(line);
        if !open.is_open() {
            if line.trim_start().starts_with('[') {
                table = named;
                return false;
            }
            open = Open { secret: table || named, ..Open::default() };
        }
        open.go_on(line);
        open.secret || named
    };
    text.lines().map(line).collect()
}

/// A value that goes on over lines: a text between three quotes, or brackets.
#[derive(Default)]
struct Open {
    secret: bool,
    quotes: Option<&'static str>,
    brackets: usize,
}

impl Open {
    fn is_open(&self) -> bool {
        self.quotes.is_some() || self.brackets > 0
    }

    fn go_on(&mut self, mut rest: &str) {
        while let Some(first) = rest.chars().next() {
            let mut length = first.len_utf8();
            match self.quotes {
                Some(quotes) if rest.starts_with(quotes) => (self.quotes, length) = (None, quotes.len()),
                Some(quotes) if first == '\\' && quotes.starts_with('"') => {
                    length += rest.chars().nth(1).map_or(0, char::len_utf8);
                }
                Some(_) => {}
                None => match first {
                    '#' => break,
                    '"' | '\'' => {
                        let all = ["\"\"\"", "'''", "\"", "'"];
                        self.quotes = all.into_iter().find(|quotes| rest.starts_with(quotes));
                        length = self.quotes.map_or(1, str::len);
                    }
                    '[' | '{' => self.brackets += 1,
                    ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                },
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        // Only three quotes hold more than a line.
        self.quotes = self.quotes.filter(|quotes| quotes.len() == 3);
    }
}

/// A line with each string as stars; of one without a string, all behind its `=`, or all of it.
fn mask_strings(line: &str) -> String {
    let quote = line.find(['"', '\'']);
    let start = match line.find('=') {
        Some(equals) => quote.unwrap_or(equals + 1),
        // A text of three quotes may have begun lines before: only a quote that comes first begins one here.
        None => quote.filter(|at| line.trim_start().len() + at == line.len()).unwrap_or(0),
    };
    let (shown, rest) = line.split_at_checked(start).unwrap_or(("", line));
    let mut out = shown.to_owned();
    let whole = !rest.starts_with(['"', '\'']);
    let (mut quote, mut escaped) = (None, false);
    for character in rest.chars() {
        let opens = quote.is_none() && matches!(character, '"' | '\'');
        let closes = quote == Some(character) && !escaped;
        let hides = !opens && !closes && (whole || quote.is_some());
        out.push(if hides { '*' } else { character });
        escaped = quote == Some('"') && character == '\\' && !escaped;
        if opens {
            quote = Some(character);
        } else if closes {
            quote = None;
        }
    }
    out
}

/// Keys of which a string is a secret, whether it may stand in the file or not.
const SECRET_KEYS: [&str; 3] = ["value", "secret", "password"];
/// What a signing secret begins with.
const SIGNING: &str = "whsec_";

/// A line without the secrets that may stand in it: strings of [`SECRET_KEYS`], what begins as a signing secret does, and
/// a URL's user and password. Each character becomes one `*`, so that carets stay where they belong.
fn mask(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        // What is shown, how much behind it is hidden.
        let (shown, hidden) = secret_at(rest).unwrap_or((rest.chars().next().map_or(1, char::len_utf8), 0));
        let (kept, behind) = rest.split_at_checked(shown).unwrap_or((rest, ""));
        let (secret, tail) = behind.split_at_checked(hidden).unwrap_or((behind, ""));
        out.push_str(kept);
        out.extend(secret.chars().map(|_| '*'));
        rest = tail;
    }
    out
}

/// When a secret's beginning is here: bytes before it, and its bytes.
fn secret_at(text: &str) -> Option<(usize, usize)> {
    if let Some(secret) = text.strip_prefix(SIGNING) {
        let end = secret.find(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c)).unwrap_or(secret.len());
        return Some((SIGNING.len(), end));
    }
    if let Some(authority) = text.strip_prefix("://") {
        let end = authority.find(['/', '?', '#', '"', '\'']).unwrap_or(authority.len());
        return authority.get(..end)?.rfind('@').map(|at| ("://".len(), at));
    }
    let key = SECRET_KEYS.iter().find(|key| text.starts_with(**key))?;
    let after = text.get(key.len()..)?;
    let open = after.find(['"', '\''])?;
    (after.get(..open)?.trim() == "=").then_some(())?;
    let quote = after.get(open..)?.chars().next()?;
    let inside = after.get(open + 1..)?;
    Some((key.len() + open + 1, inside.find(quote).unwrap_or(inside.len())))
}

/// The character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commonest slip: a plain string where a secret must stand. In all of its spellings, and on the lines that follow.
    #[test]
    fn lines_that_may_hold_a_secret_show_no_string() {
        for (file, last) in [
            ("[daemon]\n", "token = \"CANARY\""),
            ("", "sign.standard.secrets = [\"CANARY\"]"),
            ("[endpoint.a]\n", "sign.github.secrets = ['CANARY', \"CANARY\"]"),
            ("[bridge.a]\n", "source.http.auth.bearer = \"CANARY\""),
            ("[bridge.a.source.http.auth]\n", "bearer = \"CANARY\""),
            ("[bridge.a.source.http.auth.oauth2]\n", "refresh-token = '''CANARY'''"),
            ("[bridge.a.source.http]\n", "auth.query = { api_key = \"CANARY\" }"),
            ("[bridge.a.source.http]\n", "auth.headers = { X-Api-Key = \"CANARY\" }"),
            ("", "password = \"AB\\\"CANARY\""),
            ("", "\"password\" = \"CANARY\""),
            ("", "token = CANARY"),
            ("", "token = \"CANARY"),
            ("", "sign.standard.secrets = [{ env = \"CANARY\" }]"),
            ("sign.standard.secrets = [\n", "  \"CANARY\","),
            ("auth.jwt.key = \"\"\"\n-----BEGIN\n", "CANARY"),
            ("auth.jwt.key = \"\"\"\n-----BEGIN\n", "CA'NARY' CANARY"),
            ("auth.jwt.key = '''\n-----BEGIN\n", "  CANARY'''"),
            ("proxy = \"a\"\n", "network.proxy = \"http://usr:CANARY@proxy\""),
        ] {
            let text = format!("{file}{last}\n");
            let sources = Sources { files: vec![("a.toml".into(), text)], ..Sources::default() };
            let place = Place { file: 0, span: file.len()..file.len() + 1 };
            let shown = sources.render(&Diagnostic::error(place, "wrong".into())).text;
            assert!(!shown.contains("CANARY"), "{file}{last}: {shown}");
        }
        let files = vec![("a.toml".into(), "[bridge.a]\nkey = \".id\"\n".into())];
        let sources = Sources { files, ..Sources::default() };
        let shown = sources.render(&Diagnostic::error(Place { file: 0, span: 11..14 }, "wrong".into())).text;
        assert!(shown.contains("key = \".id\""), "{shown}");
    }

    #[test]
    fn a_shown_line_holds_no_secret() {
        for (line, shown) in [
            (
                r#"secrets = [{ value = "whsec_abc=" }, { value="x y" }]"#,
                r#"secrets = [{ value = "**********" }, { value="***" }]"#,
            ),
            ("auth.bearer.secret.value = 'abc'", "auth.bearer.secret.value = '***'"),
            ("# whsec_QUJD+/=.", "# whsec_*******."),
            (r#"secret = "whsec_QUJD+/=" # no table"#, r#"secret = "*************" # no table"#),
            (r#"value = "open"#, r#"value = "****"#),
            (r#"key = ".value""#, r#"key = ".value""#),
            (r#"password = "abc" # a"#, r#"password = "***" # a"#),
            (r#"url = "https://me:pw@example.com/a@b""#, r#"url = "https://*****@example.com/a@b""#),
        ] {
            assert_eq!(mask(line), shown);
        }
    }
}
