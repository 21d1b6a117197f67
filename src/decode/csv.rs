//! CSV (RFC 4180) and its kin: each row an object of strings, by the names of the header.
//!
//! A row that does not fit the header is an error, never guessed at: a shifted column would look like a change of every
//! record.

use std::collections::BTreeSet;

use ::csv::{ReaderBuilder, StringRecord};

use super::{Declared, Error, Input, Out, line, malformed_text};
use crate::settings::{Table, fingerprint::Fingerprint, key::keys};

const CSV: &str = "CSV";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// `None`: a tab where the content type says so, else a comma.
    delimiter: Option<u8>,
    /// Whether the first row has the names; else columns are named by their number, from 1.
    header: bool,
}

keys! {
    /// How rows are read.
    mod csv;
    /// One ASCII character between the fields.
    maybe DELIMITER: u8 = "delimiter",
        Form::new(Shape::Character, |item| item.parse_text(delimiter, "one character such as \";\"")),
        "a comma, or a tab where the content type says so";
    /// Whether the first row has the names. `false`: the columns are called `"1"`, `"2"`, ...
    or HEADER: bool = "header", BOOLEAN, || true;
    + super::super::plain::FAMILY;
}

impl Options {
    /// Writes how a body is read.
    pub(super) fn define(&self, text: &mut Fingerprint) {
        text.put("decode", "csv");
        text.put_some("delimiter", self.delimiter.map(|byte| char::from(byte).to_string()));
        if !self.header {
            text.put("header", false);
        }
    }

    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self { delimiter: table.get(&csv::DELIMITER), header: table.or(&csv::HEADER) }
    }

    pub(super) fn with_delimiter(delimiter: u8) -> Self {
        Self { delimiter: Some(delimiter), header: true }
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err(format!("{text:?} is not one ASCII character such as \";\" or \"\\t\"")),
    }
}

pub(super) fn decode(options: &Options, input: &Input<'_, '_>) -> Result<Vec<u8>, Error> {
    let text = input.text(Declared::Nowhere, CSV)?;
    input.refuse_html(&text, CSV, &["<!doctype html", "<html"])?;
    let tabs = input.content_type.starts_with("text/tab-separated-values");
    let delimiter = options.delimiter.unwrap_or(if tabs { b'\t' } else { b',' });
    let malformed = |cause: String| malformed_text(CSV, cause, &text);
    if let Some(at) = unclosed_quote(&text, delimiter) {
        return Err(malformed(format!("the quote of line {} is never closed", line(&text, at))));
    }
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let (mut row, mut out) = (StringRecord::new(), input.out(CSV));
    let mut read = |row: &mut StringRecord| reader.read_record(row).map_err(|e| malformed(e.to_string()));
    let mut more = read(&mut row)?;
    let names: Vec<String> = if options.header {
        if !more {
            return Err(Error::Empty);
        }
        let names = row.iter().map(str::to_owned).collect();
        more = read(&mut row)?;
        names
    } else {
        (1..=row.len()).map(|number| number.to_string()).collect()
    };
    let mut known = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !known.insert(name.as_str())) {
        return Err(malformed(format!("the header has two columns {twice:?}")));
    }
    let first = if options.header { "the header" } else { "the first row" };
    out.raw("[");
    let mut rows = 0u64;
    while more {
        if row.len() != names.len() {
            let number = row.position().map_or(0, ::csv::Position::line);
            let (has, wants) = (row.len(), names.len());
            return Err(malformed(format!("line {number}: {first} has {wants} fields, this row has {has}")));
        }
        out.raw(if rows > 0 { ",{" } else { "{" });
        write(&mut out, &names, &row);
        out.raw("}");
        out.check()?;
        rows += 1;
        more = read(&mut row)?;
    }
    out.raw("]");
    out.finish()
}

fn write(out: &mut Out, names: &[String], row: &StringRecord) {
    for (at, (name, field)) in names.iter().zip(row).enumerate() {
        if at > 0 {
            out.raw(",");
        }
        out.string(name);
        out.raw(":");
        out.string(field);
    }
}

/// Where a quote begins that nothing closes: all rows behind it would be one field.
fn unclosed_quote(text: &str, delimiter: u8) -> Option<usize> {
    /// Where in a field a byte stands; a quote's own place is kept with it.
    enum At {
        Begin,
        Bare,
        Quoted(usize),
        /// Behind a quote: closed, unless a second one follows.
        Closed(usize),
    }
    let mut state = At::Begin;
    for (at, byte) in text.bytes().enumerate() {
        state = match (state, byte) {
            (At::Quoted(from), b'"') => At::Closed(from),
            (At::Quoted(from), _) | (At::Closed(from), b'"') => At::Quoted(from),
            (_, byte) if byte == delimiter || matches!(byte, b'\r' | b'\n') => At::Begin,
            (At::Begin, b'"') => At::Quoted(at),
            _ => At::Bare,
        };
    }
    if let At::Quoted(from) = state { Some(from) } else { None }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{body, check_as},
        *,
    };
    use expect_test::{Expect, expect};

    fn check(options: &str, text: &str, expect: Expect) {
        expect.assert_eq(&check_as(&format!("csv = {{ {options} }}"), "text/csv", text.as_bytes()));
    }

    #[test]
    fn rows() {
        check(
            "",
            "id,name\n1,a\n2,\"b, \"\"c\"\"\nd\"\n",
            expect![[r#"[{"id":"1","name":"a"},{"id":"2","name":"b, \"c\"\nd"}]"#]],
        );
        check("", "\u{feff}id\r\n1\r\n\r\n2", expect![[r#"[{"id":"1"},{"id":"2"}]"#]]);
        check("", "id,name\n", expect!["[]"]);
        check(
            "delimiter = \";\", header = false",
            "1;a b\n2;ü",
            expect![[r#"[{"1":"1","2":"a b"},{"1":"2","2":"ü"}]"#]],
        );
        check("header = false", "", expect!["[]"]);
        check(
            "delimiter = \"\\t\"",
            "id\tname\n1\tit's 5\" wide\n",
            expect![[r#"[{"id":"1","name":"it's 5\" wide"}]"#]],
        );
        check("delimiter = \"|\", charset = \"latin1\"", "id|name\n1|a", expect![[r#"[{"id":"1","name":"a"}]"#]]);
    }

    #[test]
    fn rows_that_are_none() {
        check("", "", expect!["error: the answer is empty"]);
        check(
            "",
            "id,name\n1,a\n2,b,c\n",
            expect![
                "error: the answer is not CSV: line 3: the header has 2 fields, this row has 3; it begins: id,name 1,a 2,b,c"
            ],
        );
        check(
            "",
            "id,name\n1,\"a\nb\"\n2\n",
            expect![[
                r#"error: the answer is not CSV: line 4: the header has 2 fields, this row has 1; it begins: id,name 1,"a b" 2"#
            ]],
        );
        check(
            "",
            "id,id\n1,2\n",
            expect![[r#"error: the answer is not CSV: the header has two columns "id"; it begins: id,id 1,2"#]],
        );
        check(
            "header = false",
            "1,2\n3\n",
            expect![
                "error: the answer is not CSV: line 2: the first row has 2 fields, this row has 1; it begins: 1,2 3"
            ],
        );
        check(
            "",
            "id,name\n1,\"a\n2,b\n3,c\n",
            expect![[
                r#"error: the answer is not CSV: the quote of line 2 is never closed; it begins: id,name 1,"a 2,b 3,c"#
            ]],
        );
        check(
            "",
            " <!DOCTYPE html><title>Log in</title>",
            expect![
                "error: the answer is HTML (text/csv), not CSV: a login or an error page? It begins: <!DOCTYPE html><title>Log in</title>"
            ],
        );
    }

    #[test]
    fn tabs_by_the_content_type() {
        let page = body("text/tab-separated-values; charset=utf-8", b"a\tb\n1\t2");
        let text = super::super::decode(None, &page, 8).expect("rows");
        assert_eq!(&*text, br#"[{"a":"1","b":"2"}]"#);
    }

    /// A header of many columns and many short rows: each row repeats all names.
    #[test]
    fn a_small_body_does_not_become_a_large_document() {
        let columns = 2_000;
        let header: Vec<String> = (0..columns).map(|n| format!("a_rather_long_name_{n}")).collect();
        let mut text = header.join(",");
        for _ in 0..1_000 {
            text.push('\n');
            text.push_str(&",".repeat(columns - 1));
        }
        check(
            "",
            &text,
            expect![
                "error: the answer (CSV) has more than 17423688 bytes as JSON: it repeats its names or texts too often"
            ],
        );
    }

    #[test]
    fn quotes_that_are_closed() {
        for (text, open) in [
            ("a,\"b\"\n", None),
            ("a,\"b\"\"\"\n", None),
            ("a 5\" b,c\n", None),
            ("\"\"", None),
            ("\"\"\"", Some(0)),
            ("a\"\"b\"", None),
            ("a\n\"b", Some(2)),
            ("a,\"b\" \"c\n", None),
        ] {
            assert_eq!(unclosed_quote(text, b','), open, "{text}");
        }
    }
}
