//! CSV (RFC 4180) and its kin: each row an object of strings, by the names of the header.
//!
//! A row that does not fit the header is an error, never guessed at: a shifted column would look like a change of every
//! record. The file may say that rows leave out empty fields at their end.

use std::{collections::BTreeSet, fmt};

use ::csv::{ReaderBuilder, StringRecord};

use super::{Declared, Error, Input, Out, line, malformed_text};
use crate::settings::{Table, fingerprint::Fingerprint, key::keys};

const CSV: &str = "CSV";

/// The most lines that may stand before the header.
const SKIP_MAX: u64 = 10_000;

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// `None`: what a first line `sep=;` says, a tab where the content type says so, else a comma.
    delimiter: Option<u8>,
    /// Whether the first row has the names; else columns are named by their number, from 1.
    header: bool,
    /// Lines before it.
    skip: u64,
    /// Begins lines that are not rows.
    comment: Option<u8>,
    /// Whether a row that is too short is filled with empty fields; else it is an error.
    fill: bool,
}

/// As 0.1.0 printed it, which is in the fingerprints of that version, with what is not as it was there.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delimiter, header, skip, comment, fill } = self;
        let mut shown = f.debug_struct("Options");
        shown.field("delimiter", delimiter).field("header", header);
        if *skip > 0 {
            shown.field("skip", skip);
        }
        if comment.is_some() {
            shown.field("comment", comment);
        }
        if *fill {
            shown.field("fill", fill);
        }
        shown.finish()
    }
}

keys! {
    /// How rows are read.
    mod csv;
    /// One ASCII character between the fields.
    maybe DELIMITER: u8 = "delimiter",
        Form::new(Shape::Character, |item| item.parse_text(character, "one character such as \";\"")),
        "that of a first line `sep=;`, otherwise a comma, or a tab where the content type says so";
    /// Whether the first row has the names. `false`: the columns are called `"1"`, `"2"`, ...
    or HEADER: bool = "header", BOOLEAN, || true;
    /// So many lines before the header are not read.
    or SKIP: u64 = "skip", whole(0, SKIP_MAX), || 0;
    /// A line that begins with this ASCII character is not a row.
    get COMMENT: u8 = "comment",
        Form::new(Shape::Character, |item| item.parse_text(character, "one character such as \"#\""));
    /// `"fill"` takes a row with fewer fields than the first row, and gives it empty strings at its end. A row with more fields is
    /// always an error.
    or ROWS: bool = "rows", Form::words(&[("error", false), ("fill", true)]), || false;
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
        if self.skip > 0 {
            text.put("skip", self.skip);
        }
        text.put_some("comment", self.comment.map(|byte| char::from(byte).to_string()));
        if self.fill {
            text.put("rows", "fill");
        }
    }

    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let (delimiter, header) = (table.get(&csv::DELIMITER), table.or(&csv::HEADER));
        let (skip, fill) = (table.or(&csv::SKIP), table.or(&csv::ROWS));
        let place = table.key_place(&csv::COMMENT);
        let comment = table.get(&csv::COMMENT);
        if let Some(place) = place.filter(|_| comment == Some(delimiter.unwrap_or(b','))) {
            let message = format!("`comment` in {} is the character between fields", table.title());
            table.error_at(place, message).help("for example comment = \"#\"".into()).report();
        }
        Self { delimiter, header, skip, comment, fill }
    }

    pub(super) fn with_delimiter(delimiter: u8) -> Self {
        Self { delimiter: Some(delimiter), header: true, skip: 0, comment: None, fill: false }
    }
}

fn character(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err(format!("{text:?} is not one ASCII character such as \";\" or \"\\t\"")),
    }
}

pub(super) fn decode(options: &Options, input: &Input<'_, '_>) -> Result<Vec<u8>, Error> {
    let text = input.text(Declared::Nowhere, CSV)?;
    input.refuse_html(&text, CSV, &["<!doctype html", "<html"])?;
    let tabs = input.content_type.starts_with("text/tab-separated-values");
    let (delimiter, skipped) = beginning(options, &text, if tabs { b'\t' } else { b',' });
    let rows = text.get(skipped..).unwrap_or_default();
    let malformed = |cause: String| malformed_text(CSV, cause, &text);
    if let Some(at) = unclosed_quote(rows, delimiter, options.comment) {
        return Err(malformed(format!("the quote of line {} is never closed", line(&text, skipped + at))));
    }
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .comment(options.comment)
        .has_headers(false)
        .flexible(true)
        .from_reader(rows.as_bytes());
    let (mut row, mut out) = (StringRecord::new(), input.out(CSV));
    let mut read = |row: &mut StringRecord| reader.read_record(row).map_err(|e| malformed(e.to_string()));
    let mut more = read(&mut row)?;
    let names: Vec<String> = if options.header {
        if !more {
            return Err(Error::Empty);
        }
        let names = names(&row);
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
    let before = line(&text, skipped) - 1;
    out.raw("[");
    let mut written = 0u64;
    while more {
        let (has, wants) = (row.len(), names.len());
        if has > wants || has < wants && !options.fill {
            let number = row.position().and_then(|at| usize::try_from(at.line()).ok()).unwrap_or(0) + before;
            let way = if has < wants { "; `decode.csv.rows` = \"fill\" takes short rows" } else { "" };
            return Err(malformed(format!("line {number}: {first} has {wants} fields, this row has {has}{way}")));
        }
        out.raw(if written > 0 { ",{" } else { "{" });
        write(&mut out, &names, &row);
        out.raw("}");
        out.check()?;
        written += 1;
        more = read(&mut row)?;
    }
    out.raw("]");
    out.finish()
}

/// The delimiter, and where the first row begins: behind the lines that the file skips, and behind a line `sep=;`, with
/// which spreadsheets say their delimiter.
fn beginning(options: &Options, text: &str, by_type: u8) -> (u8, usize) {
    let mut lines = text.split_inclusive('\n');
    let mut from = 0;
    for _ in 0..options.skip {
        from += lines.next().map_or(0, str::len);
    }
    let first = lines.next().unwrap_or_default();
    let said = first.trim_end_matches(['\r', '\n']).trim_matches('"').strip_prefix("sep=");
    match said.and_then(|said| character(said).ok()) {
        Some(said) => (options.delimiter.unwrap_or(said), from + first.len()),
        None => (options.delimiter.unwrap_or(by_type), from),
    }
}

/// The header's names. Spreadsheets leave columns without one: the third is `column_3`.
fn names(header: &StringRecord) -> Vec<String> {
    let named = |(at, name): (usize, &str)| match name.trim() {
        "" => format!("column_{}", at + 1),
        _ => name.to_owned(),
    };
    header.iter().enumerate().map(named).collect()
}

/// A field that a row leaves out is empty.
fn write(out: &mut Out, names: &[String], row: &StringRecord) {
    let fields = row.iter().chain(std::iter::repeat(""));
    for (at, (name, field)) in names.iter().zip(fields).enumerate() {
        if at > 0 {
            out.raw(",");
        }
        out.string(name);
        out.raw(":");
        out.string(field);
    }
}

/// Where a quote begins that nothing closes: all rows behind it would be one field. A comment's quotes are none.
fn unclosed_quote(text: &str, delimiter: u8, comment: Option<u8>) -> Option<usize> {
    /// Where in a field a byte stands; a quote's own place is kept with it.
    enum At {
        Begin,
        Bare,
        Quoted(usize),
        /// Behind a quote: closed, unless a second one follows.
        Closed(usize),
        Comment,
    }
    let mut state = At::Begin;
    let mut begins_line = true;
    for (at, byte) in text.bytes().enumerate() {
        let is_comment = std::mem::replace(&mut begins_line, byte == b'\n' || byte == b'\r') && comment == Some(byte);
        state = match (state, byte) {
            (At::Comment, byte) if byte != b'\n' => At::Comment,
            (At::Begin, _) if is_comment => At::Comment,
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

    /// Reports begin with a title and leave out what is empty; spreadsheets say their delimiter in a first line.
    #[test]
    fn what_spreadsheets_and_reports_write() {
        check(
            "skip = 2, comment = \"#\", rows = \"fill\"",
            "Report \"May\nfrom: x,y,z\n# it's 5\" wide\nid,name,,\n1,a\n#2,b\n3\n4,d,e,f\n",
            expect![[
                r#"[{"id":"1","name":"a","column_3":"","column_4":""},{"id":"3","name":"","column_3":"","column_4":""},{"id":"4","name":"d","column_3":"e","column_4":"f"}]"#
            ]],
        );
        for first in ["sep=;\r\n", "\"sep=;\"\n", "sep=;\n"] {
            let text = format!("{first}id;v\r\n1;a,b\r\n");
            assert_eq!(check_as("csv = {}", "text/csv", text.as_bytes()), r#"[{"id":"1","v":"a,b"}]"#, "{first}");
        }
        // What the file says goes first, and a column of such a name is one.
        check("delimiter = \",\"", "sep=;\nid,v\n1,a;b\n", expect![[r#"[{"id":"1","v":"a;b"}]"#]]);
        check("", "sep=x,v\n1,a\n", expect![[r#"[{"sep=x":"1","v":"a"}]"#]]);
        check("skip = 1", "Report\nsep=;\nid;v\n1;a\n", expect![[r#"[{"id":"1","v":"a"}]"#]]);
        check("skip = 9", "id\n1\n", expect!["error: the answer is empty"]);
        check(
            "rows = \"fill\", header = false",
            "1,2,3\n4\n",
            expect![[r#"[{"1":"1","2":"2","3":"3"},{"1":"4","2":"","3":""}]"#]],
        );
        // A longer row is never cut, and lines are counted from the first.
        check(
            "skip = 2, rows = \"fill\"",
            "a\nb\nid,v\n1,2\n1,2,3\n",
            expect![
                "error: the answer is not CSV: line 5: the header has 2 fields, this row has 3; it begins: a b id,v 1,2 1,2,3"
            ],
        );
        check(
            "skip = 1",
            "a\nid,v\n\"1,2\n",
            expect![[r#"error: the answer is not CSV: the quote of line 3 is never closed; it begins: a id,v "1,2"#]],
        );
        check(
            "",
            "id,column_3,\n1,2,3\n",
            expect![[
                r#"error: the answer is not CSV: the header has two columns "column_3"; it begins: id,column_3, 1,2,3"#
            ]],
        );
    }

    proptest::proptest! {
        /// Whatever stands before the header and between rows, and whatever rows leave out, the records are the same.
        #[test]
        fn reports_are_read_as_their_plain_table(
            fields in proptest::collection::vec(proptest::collection::vec("[a-c \"#,;\n]{0,4}", 3), 1..6),
            title in "[a-z\",;#= ]{0,12}",
            skip in 0usize..3,
            cut in 0usize..4,
            semicolons: bool,
        ) {
            let delimiter = if semicolons { ";" } else { "," };
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let mut report = format!("{title}\n").repeat(skip);
            if semicolons {
                report.push_str("sep=;\n");
            }
            report.push_str(&["id", "v", ""].join(delimiter));
            let mut expected = Vec::new();
            for (at, row) in fields.iter().enumerate() {
                let kept = if at % 2 == 0 { 3 } else { 3 - cut.min(2) };
                let all: Vec<String> = row.iter().take(kept).map(quoted).collect();
                report.push_str(&format!("\n# {at} \"\n{}", all.join(delimiter)));
                let field = |at: usize| row.get(at).filter(|_| at < kept).cloned().unwrap_or_default();
                expected.push(serde_json::json!({ "id": field(0), "v": field(1), "column_3": field(2) }));
            }
            let read = check_as(
                &format!("csv = {{ skip = {skip}, comment = \"#\", rows = \"fill\" }}"),
                "text/csv",
                report.as_bytes(),
            );
            let read: serde_json::Value = serde_json::from_str(&read).expect(&read);
            proptest::prop_assert_eq!(read, serde_json::Value::from(expected), "{}", report);
        }
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
                r#"error: the answer is not CSV: line 4: the header has 2 fields, this row has 1; `decode.csv.rows` = "fill" takes short rows; it begins: id,name 1,"a b" 2"#
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
            expect![[
                r#"error: the answer is not CSV: line 2: the first row has 2 fields, this row has 1; `decode.csv.rows` = "fill" takes short rows; it begins: 1,2 3"#
            ]],
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
            ("#it's 5\"\na\n\"b", Some(11)),
            ("a,#\"\n", None),
            ("a,\"\n#\"", None),
            ("a\r\n#\"\r\nb", None),
        ] {
            assert_eq!(unclosed_quote(text, b',', Some(b'#')), open, "{text}");
        }
    }
}
