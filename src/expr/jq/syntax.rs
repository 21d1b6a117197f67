//! jq's syntax that jaq's parser has not, written in what it has: `?//`, `$__loc__`, `{$x: pattern}`, `reduce` over an
//! operator, numbers that begin with a point.
//!
//! It is done on jaq's own tokens, for programs that do not parse as they are.

use std::{cell::Cell, fmt::Write as _, slice};

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};

type Tokens<'t, 's> = slice::Iter<'t, Token<&'s str>>;

/// The program without what jaq does not know; `None` when it has no tokens that can be read.
pub(super) fn rewritten(text: &str) -> Option<String> {
    let tokens = Lexer::new(text).lex().ok()?;
    let writer = Writer { text, names: Cell::new(0) };
    Some(writer.scope(&mut tokens.iter(), ""))
}

struct Writer<'s> {
    text: &'s str,
    /// Names that were made up.
    names: Cell<usize>,
}

impl<'s> Writer<'s> {
    /// Writes the tokens up to the end of what a `|` may stand in; `open` is the bracket around them.
    fn scope(&self, tokens: &mut Tokens<'_, 's>, open: &str) -> String {
        let mut out = String::new();
        let mut last = open;
        while let Some(token) = tokens.next() {
            let Token(text, tok) = token;
            match (tok, *text) {
                (Tok::Var, "$__loc__") => {
                    let key = matches!(last, "{" | ",") && open == "{";
                    let line = self.text.get(..self.offset(text)).unwrap_or_default().matches('\n').count() + 1;
                    let place = format!("{{file: \"<top-level>\", line: {line}}}");
                    let _ = if key { write!(out, "__loc__: {place} ") } else { write!(out, "({place}) ") };
                }
                (Tok::Word, "reduce" | "foreach") if !is(tokens.as_slice().first(), ":") => {
                    let mut source = String::new();
                    while let Some(part) = tokens.as_slice().first().filter(|part| part.0 != "as") {
                        self.token(part, &mut source);
                        tokens.next();
                    }
                    let _ = write!(out, "{text} ({source}) ");
                }
                (Tok::Word, "as") if !is(tokens.as_slice().first(), ":") => self.binding(tokens, &mut out),
                (Tok::Sym, ".") if self.is_fraction(text, tokens.as_slice().first()) => out.push_str("0."),
                _ => self.token(token, &mut out),
            }
            last = text;
        }
        out
    }

    fn offset(&self, part: &str) -> usize {
        part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    /// Whether a number follows a point at once: jq writes `.5` for `0.5`.
    fn is_fraction(&self, point: &str, next: Option<&Token<&'s str>>) -> bool {
        matches!(next, Some(Token(next, Tok::Num)) if self.offset(next) == self.offset(point) + 1)
    }

    fn token(&self, Token(text, tok): &Token<&'s str>, out: &mut String) {
        match tok {
            Tok::Block(inner) => {
                let open = text.get(..1).unwrap_or_default();
                out.push_str(open);
                out.push_str(&self.scope(&mut inner.iter(), open));
            }
            Tok::Str(parts) => {
                out.push('"');
                for part in parts {
                    match part {
                        StrPart::Str(text) => out.push_str(text),
                        StrPart::Char(c) => {
                            out.push_str(serde_json::to_string(c).unwrap_or_default().trim_matches('"'))
                        }
                        StrPart::Term(term) => {
                            out.push('\\');
                            self.token(term, out);
                            // What closes it has a space behind it, which would be of the text.
                            out.truncate(out.trim_end().len());
                        }
                    }
                }
                out.push('"');
            }
            _ => out.push_str(text),
        }
        out.push(' ');
    }

    /// What follows on `as`.
    fn binding(&self, tokens: &mut Tokens<'_, 's>, out: &mut String) {
        let mut patterns = vec![self.pattern(tokens.next())];
        let mut variables = patterns.iter().flat_map(|pattern| pattern.variables.clone()).collect::<Vec<_>>();
        let mut ahead = tokens.clone();
        while is(ahead.next(), "?") && is(ahead.next(), "//") {
            let pattern = self.pattern(ahead.next());
            variables
                .extend(pattern.variables.iter().filter(|name| !variables.contains(name)).cloned().collect::<Vec<_>>());
            patterns.push(pattern);
            *tokens = ahead.clone();
        }
        let Some((last, firsts)) = patterns.split_last().filter(|(_, firsts)| !firsts.is_empty()) else {
            let _ = write!(out, "as {} ", patterns.first().map_or("", |pattern| &pattern.text));
            return;
        };
        // Whatever is no `|` is an error that jaq tells.
        if is(tokens.as_slice().first(), "|") {
            tokens.next();
        }
        let number = self.names.replace(self.names.get() + 1);
        let body = self.body(tokens);
        let parameters = variables.join("; ");
        let parameters = if parameters.is_empty() { String::new() } else { format!("({parameters})") };
        let _ = write!(out, "as $v__{number} | . as $d__{number} | def b__{number}{parameters}: {body}; ");
        let call = |pattern: &PatternText| {
            let given = variables.iter().map(|name| if pattern.variables.contains(name) { name } else { "null" });
            let given = given.collect::<Vec<_>>().join("; ");
            let given = if given.is_empty() { given } else { format!("({given})") };
            format!("$v__{number} as {} | b__{number}{given}", pattern.text)
        };
        for pattern in firsts {
            let _ = write!(out, "try ({}) catch ($d__{number} | ", call(pattern));
        }
        let _ = write!(out, "{}{} ", call(last), ")".repeat(firsts.len()));
    }

    /// The tokens that a binding reaches over: to the end of the brackets, or of what `;` or a word ends.
    fn body(&self, tokens: &mut Tokens<'_, 's>) -> String {
        let (mut ifs, mut defs) = (0_usize, 0_usize);
        let all = tokens.as_slice();
        while let Some(Token(text, tok)) = tokens.as_slice().first() {
            let plain = matches!(tok, Tok::Word);
            match *text {
                ")" | "]" | "}" => break,
                ";" if defs == 0 => break,
                ";" => defs -= 1,
                "then" | "elif" | "else" | "end" if plain && ifs == 0 => break,
                "end" if plain => ifs -= 1,
                "if" if plain => ifs += 1,
                "def" if plain => defs += 1,
                _ => {}
            }
            tokens.next();
        }
        let body = all.get(..all.len() - tokens.as_slice().len()).unwrap_or_default();
        self.scope(&mut body.iter(), "")
    }

    fn pattern(&self, token: Option<&Token<&'s str>>) -> PatternText {
        let mut made = PatternText { text: String::new(), variables: Vec::new() };
        if let Some(token) = token {
            self.pattern_into(token, &mut made);
        }
        made
    }

    fn pattern_into(&self, token: &Token<&'s str>, made: &mut PatternText) {
        let Token(text, tok) = token;
        match tok {
            Tok::Var => {
                made.bind(text);
                made.text.push_str(text);
            }
            Tok::Block(inner) if *text != "(" && !text.starts_with('(') => {
                made.text.push_str(text.get(..1).unwrap_or_default());
                let mut inner = inner.iter();
                while let Some(token) = inner.next() {
                    self.pattern_into(token, made);
                    // `{$x: pattern}` is both.
                    if matches!(token.1, Tok::Var) && is(inner.as_slice().first(), ":") {
                        let name = token.0.trim_start_matches('$');
                        let _ = write!(made.text, ", {name} ");
                    }
                }
            }
            _ => self.token(token, &mut made.text),
        }
        made.text.push(' ');
    }
}

struct PatternText {
    text: String,
    variables: Vec<String>,
}

impl PatternText {
    fn bind(&mut self, name: &str) {
        if !self.variables.iter().any(|known| known == name) {
            self.variables.push(name.to_owned());
        }
    }
}

fn is(token: Option<&Token<&str>>, text: &str) -> bool {
    token.is_some_and(|token| token.0 == text)
}
