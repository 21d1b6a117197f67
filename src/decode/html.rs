//! HTML: each element that `select` finds becomes an object of `fields`, found within it.
//!
//! A browser's parser mends any page, at a price that a hostile one can choose. So it is fed in small pieces, and after
//! each it is asked how deep and how large its tree has become.

use std::cell::Cell;

use html5ever::{
    TokenizerResult,
    tendril::StrTendril,
    tokenizer::{BufferQueue, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts},
    tree_builder::{TreeBuilder, TreeBuilderOpts, TreeSink},
};
use scraper::{ElementRef, Html, HtmlTreeSink, Selector, error::SelectorErrorKind};

use super::{Declared, Error, Input, Out, malformed_text};
use crate::settings::{Item, Table, fingerprint::Fingerprint, key::keys};

const HTML: &str = "HTML";

/// Nesting of a page: browsers stop at 512 too (Blink's and WebKit's `kMaximumHTMLParserDOMTreeDepth`).
const DEPTH_MAX: usize = 512;
/// Elements and texts of a page: 20,000 rows of a table have fewer, and this many take 120 MB (measured).
const NODES_MAX: usize = 500_000;
/// The same where a selector looks at siblings before or after (`~`) or below (`:has`), which may take the square of it.
const NODES_MAX_BESIDE: usize = 50_000;
/// Attributes of one tag; the parser compares each with all others.
const ATTRIBUTES_MAX: usize = 512;
/// Elements that are looked at for fields, all together: where the selected elements are within each other, each looks
/// through those below it again. It takes some seconds.
const VISITS_MAX: usize = 1 << 26;
/// What is parsed between two looks at the tree.
const PIECE_BYTES: usize = 1024;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Options {
    select: Css,
    fields: Vec<(String, Field)>,
}

/// What a field takes of an element.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    /// `None`: the selected element itself.
    within: Option<Css>,
    /// `None`: its text.
    attribute: Option<String>,
}

/// A selector; compared and shown as its text, which is part of a bridge's definition.
#[derive(Clone)]
struct Css {
    text: String,
    compiled: Selector,
}

impl PartialEq for Css {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Debug for Css {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.text.fmt(f)
    }
}

impl Css {
    fn parse(text: &str) -> Result<Self, String> {
        let compiled = Selector::parse(text).map_err(|e| match e {
            // Its own message asks to report it to its developer.
            SelectorErrorKind::UnexpectedSelectorParseError(kind) => {
                format!("{text:?} is not a CSS selector: {kind:?}")
            }
            other => format!("{text:?} is not a CSS selector: {other}"),
        })?;
        Ok(Self { text: text.to_owned(), compiled })
    }

    fn looks_beside(&self) -> bool {
        // `[class~=a]` looks at the element alone.
        self.text.replace("~=", "").contains('~') || self.text.contains(":has")
    }
}

impl Field {
    /// `h2`, `a@href` or `@id`.
    fn parse(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.'))
        };
        let (css, attribute) = match text.rsplit_once('@') {
            // An at sign may also stand within a selector, in quotes.
            Some((css, name)) if is_name(name) => (css.trim(), Some(name.to_ascii_lowercase())),
            _ => (text, None),
        };
        let within = if css.is_empty() && attribute.is_some() { None } else { Some(Css::parse(css)?) };
        Ok(Self { within, attribute })
    }
}

keys! {
    /// What is read of a page.
    mod html;
    /// A CSS selector: each element that it finds is an object.
    need SELECT: Css = "select",
        Form::new(Shape::Text, |item| item.parse_text(Css::parse, "a CSS selector such as \"article\"")),
        "select = \"article\"";
    /// What an object holds: the text or the attribute of the first element that a selector finds within the selected one,
    /// `{ title = "h2", url = "a@href" }`, or its own attribute, `"@id"`; null where nothing is found.
    need FIELDS: Vec<(String, Field)> = "fields", Form::new(Shape::SomeNamed(&Shape::Text), fields),
        "fields = { title = \"h2\", url = \"a@href\" }";
    + super::super::plain::FAMILY;
}

impl Options {
    /// Writes how a body is read.
    pub(super) fn define(&self, text: &mut Fingerprint) {
        text.put("decode.html", self.select.text.as_str());
        for (name, field) in &self.fields {
            text.put_named("fields", name, field.within.as_ref().map(|css| css.text.as_str()));
            field.attribute.iter().for_each(|attribute| text.put_named("fields.attr", name, attribute.as_str()));
        }
    }

    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let (select, fields) = (table.need(&html::SELECT), table.need(&html::FIELDS));
        Some(Self { select: select?, fields: fields? })
    }

    /// The selector of its elements.
    pub(super) fn select(&self) -> &str {
        &self.select.text
    }

    fn nodes_max(&self) -> usize {
        let mut all = self.fields.iter().filter_map(|(_, field)| field.within.as_ref()).chain([&self.select]);
        if all.any(Css::looks_beside) { NODES_MAX_BESIDE } else { NODES_MAX }
    }
}

fn fields(item: &Item<'_>) -> Option<Vec<(String, Field)>> {
    let all = item.table()?.take_all();
    if all.is_empty() {
        item.error(format!("`{}` is empty", item.path)).help("for example { title = \"h2\" }".into()).report();
    }
    let what = "a selector and an attribute such as \"a@href\"";
    let fields: Vec<_> =
        all.iter().map(|(name, _, i)| Some(((*name).to_owned(), i.parse_text(Field::parse, what)?))).collect();
    fields.into_iter().collect::<Option<Vec<_>>>().filter(|fields| !fields.is_empty())
}

pub(super) fn decode(options: &Options, input: &Input<'_, '_>) -> Result<Vec<u8>, Error> {
    let text = input.text(Declared::Html, HTML)?;
    if text.trim().is_empty() {
        return Err(Error::Empty);
    }
    let page = parse(&text, options.nodes_max()).map_err(|cause| malformed_text(HTML, cause, &text))?;
    let mut out = input.out(HTML);
    let searched = options.fields.iter().filter(|(_, field)| field.within.is_some()).count();
    let mut visits = 0usize;
    out.raw("[");
    for (number, element) in page.select(&options.select.compiled).enumerate() {
        visits = visits.saturating_add(element.descendants().count().saturating_mul(searched));
        if visits > VISITS_MAX {
            let cause = "the fields take too long to look for: let `select` find smaller elements".to_owned();
            return Err(malformed_text(HTML, cause, &text));
        }
        for (at, (name, field)) in options.fields.iter().enumerate() {
            out.raw(match (number, at) {
                (0, 0) => "{",
                (_, 0) => ",{",
                _ => ",",
            });
            out.string(name);
            out.raw(":");
            let found = match &field.within {
                Some(css) => element.select(&css.compiled).next(),
                None => Some(element),
            };
            match (found, &field.attribute) {
                (None, _) => out.raw("null"),
                (Some(found), Some(attribute)) => out.string_or_null(found.attr(attribute)),
                (Some(found), None) => write_text(found, &mut out)?,
            }
            out.check()?;
        }
        out.raw("}");
    }
    out.raw("]");
    out.finish()
}

/// An element's text, as a person sees it: white space is one space, and scripts are no text.
fn write_text(element: ElementRef<'_>, out: &mut Out) -> Result<(), Error> {
    let mut text = String::new();
    for node in element.descendants() {
        let Some(part) = node.value().as_text() else { continue };
        let parent = node.parent();
        let hidden = parent
            .as_ref()
            .and_then(|p| p.value().as_element())
            .is_some_and(|parent| matches!(parent.name(), "script" | "style" | "template" | "noscript"));
        if hidden && parent.is_some_and(|parent| parent.id() != element.id()) {
            continue;
        }
        for word in part.split_inclusive(char::is_whitespace) {
            let bare = word.trim_end();
            text.push_str(bare);
            if bare.len() < word.len() && !text.is_empty() && !text.ends_with(' ') {
                text.push(' ');
            }
        }
        if text.len() > out.limit {
            return Err(Error::Grows { expected: out.expected, limit: out.limit });
        }
    }
    out.string(text.trim_end());
    Ok(())
}

/// The tree of a page that stays within the limits.
fn parse(text: &str, nodes_max: usize) -> Result<Html, String> {
    let builder = TreeBuilder::new(HtmlTreeSink::new(Html::new_document()), TreeBuilderOpts::default());
    let tokenizer = Tokenizer::new(Counted { builder, tokens: Cell::new(0) }, TokenizerOpts::default());
    let feed = |piece: &str| {
        let queue = BufferQueue::default();
        queue.push_back(StrTendril::from_slice(piece));
        // It stops at each script, which is not run, and where a page names its charset, which is decoded already.
        while !matches!(tokenizer.feed(&queue), TokenizerResult::Done) {}
        tokenizer.sink.tokens.get()
    };
    let (mut looked, mut unseen, mut tokens) = (0, 0, 0);
    // Whether all that was fed has become tokens; and the tag that has not.
    let (mut clean, mut tag) = (true, None::<Tag>);
    let mut rest = text;
    while let Some(piece) = cut(&mut rest) {
        if clean && begins_tag(piece) {
            tag = Some(Tag::default());
        }
        if let Some(tag) = &mut tag {
            tag.read(piece);
        }
        let (body, last) = piece.split_at(piece.char_indices().next_back().map_or(0, |(at, _)| at));
        let (before, within) = (tokens, feed(body));
        tokens = feed(last);
        clean = tokens > within;
        // What became text or a token was no tag, or is one no more.
        tag = tag.filter(|_| tokens == before);
        if tag.as_ref().is_some_and(|tag| tag.attributes > ATTRIBUTES_MAX) {
            return Err(format!("a tag has more than {ATTRIBUTES_MAX} attributes"));
        }
        unseen += piece.len();
        if unseen >= PIECE_BYTES {
            unseen = 0;
            look(&tokenizer.sink.builder.sink.0.borrow(), &mut looked, nodes_max)?;
        }
    }
    tokenizer.end();
    let page = tokenizer.sink.builder.sink.finish();
    look(&page, &mut looked, nodes_max)?;
    Ok(page)
}

/// The next piece: up to the next `<`, or as much as may be parsed at a time.
fn cut<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let mut end = rest.len().min(PIECE_BYTES);
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    let (piece, _) = rest.split_at_checked(end)?;
    let end = piece.bytes().skip(1).position(|byte| byte == b'<').map_or(end, |at| at + 1);
    let (piece, after) = rest.split_at_checked(end)?;
    *rest = after;
    Some(piece).filter(|piece| !piece.is_empty())
}

fn begins_tag(piece: &str) -> bool {
    let name = piece.strip_prefix('<').map(|rest| rest.strip_prefix('/').unwrap_or(rest));
    name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Checks what has come to the tree since the last look.
fn look(page: &Html, looked: &mut usize, nodes_max: usize) -> Result<(), String> {
    let nodes = page.tree.nodes();
    let count = nodes.len();
    if count > nodes_max {
        return Err(format!("it has more than {nodes_max} elements and texts"));
    }
    for node in nodes.rev().take(count - *looked) {
        if node.ancestors().take(DEPTH_MAX + 1).count() > DEPTH_MAX {
            return Err(format!("its elements are nested deeper than {DEPTH_MAX}"));
        }
    }
    *looked = count;
    Ok(())
}

/// Counts the tokens on their way to the tree; errors are none.
struct Counted<Builder> {
    builder: Builder,
    tokens: Cell<usize>,
}

impl<Builder: TokenSink> TokenSink for Counted<Builder> {
    type Handle = Builder::Handle;

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<Self::Handle> {
        if !matches!(token, Token::ParseError(_)) {
            self.tokens.set(self.tokens.get() + 1);
        }
        self.builder.process_token(token, line)
    }

    fn end(&self) {
        self.builder.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.builder.adjusted_current_node_present_but_not_in_html_namespace()
    }
}

/// A tag as far as it was read: the tokenizer shows none before its end.
#[derive(Default)]
struct Tag {
    at: At,
    attributes: usize,
}

/// Where in a tag the next byte stands (HTML, 13.2.5.32 to 13.2.5.40).
#[derive(Default, Clone, Copy)]
enum At {
    #[default]
    Name,
    BeforeAttribute,
    Attribute,
    AfterAttribute,
    BeforeValue,
    Quoted(u8),
    Unquoted,
    End,
}

impl Tag {
    fn read(&mut self, piece: &str) {
        for byte in piece.bytes() {
            let white = byte.is_ascii_whitespace();
            self.at = match (self.at, byte) {
                (At::End, _) => At::End,
                (At::Quoted(quote), _) if byte == quote => At::BeforeAttribute,
                (At::Quoted(quote), _) => At::Quoted(quote),
                (_, b'>') => At::End,
                (At::BeforeValue, _) if white => At::BeforeValue,
                (At::BeforeValue, b'"' | b'\'') => At::Quoted(byte),
                (At::Unquoted | At::Name, _) if white => At::BeforeAttribute,
                (At::BeforeValue | At::Unquoted, _) => At::Unquoted,
                (_, b'/') => At::BeforeAttribute,
                (At::Name, _) => At::Name,
                (At::Attribute | At::AfterAttribute, b'=') => At::BeforeValue,
                (At::Attribute | At::AfterAttribute, _) if white => At::AfterAttribute,
                (At::BeforeAttribute, _) if white => At::BeforeAttribute,
                (At::Attribute, _) => At::Attribute,
                (At::BeforeAttribute | At::AfterAttribute, _) => {
                    self.attributes += 1;
                    At::Attribute
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check_as, *};
    use expect_test::{Expect, expect};

    fn read(options: &str, text: &str) -> String {
        check_as(&format!("html = {{ {options} }}"), "text/html", text.as_bytes())
    }

    fn check(options: &str, text: &str, expect: Expect) {
        expect.assert_eq(&read(options, text));
    }

    const FIELDS: &str = r#"select = "article", fields = { title = "h2", url = "a@href", id = "@id", none = "h3" }"#;

    #[test]
    fn elements() {
        check(
            FIELDS,
            "<!doctype html><article id=1><h2> One \n<b>two</b>&amp;</h2><a href='/1'>x</a><article><h2>in</h2></article></article>",
            expect![[
                r#"[{"id":"1","none":null,"title":"One two&","url":"/1"},{"id":null,"none":null,"title":"in","url":null}]"#
            ]],
        );
        check(FIELDS, "<p>nothing", expect!["[]"]);
        check(FIELDS, "", expect!["error: the answer is empty"]);
        check(
            r#"select = "tr:has(td)", fields = { a = "td:nth-child(1)", b = "td:nth-child(2)" }"#,
            "<table><tr><th>A<th>B<tr><td>1<td>2<tr><td>3</table>",
            expect![[r#"[{"a":"1","b":"2"},{"a":"3","b":null}]"#]],
        );
        check(
            r#"select = "div", fields = { text = "div, span", own = "@data-x" }"#,
            "<div data-x=\"a &lt; b\">a<script>var x;</script> <span>b</span>\tc</div>",
            expect![[r#"[{"own":"a < b","text":"b"}]"#]],
        );
        check(
            r#"select = "li", fields = { l = "a[href*=\"@\"]", m = "a[href*=\"@\"]@href" }"#,
            "<li><a href='mailto:a@b'>m</a>",
            expect![[r#"[{"l":"m","m":"mailto:a@b"}]"#]],
        );
        let meta = b"<meta charset=windows-1252><article><h2>\x80";
        expect![[r#"[{"id":null,"none":null,"title":"€","url":null}]"#]].assert_eq(&check_as(
            &format!("html = {{ {FIELDS} }}"),
            "text/html",
            meta,
        ));
    }

    #[test]
    fn nesting() {
        check(
            FIELDS,
            &"<div>".repeat(100_000),
            expect![
                "error: the answer is not HTML: its elements are nested deeper than 512; it begins: <div><div><div><div><div><div><div><div><div><div><div><div><div><div><div><div>"
            ],
        );
        check(
            FIELDS,
            &"<b>".repeat(100_000),
            expect![
                "error: the answer is not HTML: its elements are nested deeper than 512; it begins: <b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b><b"
            ],
        );
        check(
            FIELDS,
            &"<table><td>".repeat(100_000),
            expect![
                "error: the answer is not HTML: its elements are nested deeper than 512; it begins: <table><td><table><td><table><td><table><td><table><td><table><td><table><td><ta"
            ],
        );
        // What stands behind the body goes up to it, while the open elements stay.
        check(
            FIELDS,
            &"<div></body><!-- x -->".repeat(100_000),
            expect![
                "error: the answer is not HTML: its elements are nested deeper than 512; it begins: <div></body><!-- x --><div></body><!-- x --><div></body><!-- x --><div></body><!"
            ],
        );
        assert!(read(FIELDS, &"<div>".repeat(500)).starts_with('['));
    }

    /// Each `<p>` opens all formatting elements again.
    #[test]
    fn a_page_that_multiplies_itself() {
        let bold: String = (0..400).map(|n| format!("<b id={n}>")).collect();
        check(
            r#"select = "h2 ~ p", fields = { id = "@id" }"#,
            &format!("<p>{bold}{}", "<p>x".repeat(100_000)),
            expect![
                "error: the answer is not HTML: it has more than 50000 elements and texts; it begins: <p><b id=0><b id=1><b id=2><b id=3><b id=4><b id=5><b id=6><b id=7><b id=8><b id"
            ],
        );
    }

    /// The parser compares each attribute with all others of its tag.
    #[test]
    fn a_tag_of_many_attributes() {
        let many = |n: usize, glue: &str| -> String { (0..n).map(|n| format!("{glue}a{n}")).collect() };
        check(
            FIELDS,
            &format!("<div{}>", many(200_000, " ")),
            expect![
                "error: the answer is not HTML: a tag has more than 512 attributes; it begins: <div a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13 a14 a15 a16 a17 a18 a19 a20 a"
            ],
        );
        for glue in ["/", " =<", "=\"<>\" x", "='>' y", "\n"] {
            let text = format!("x<div b{}", many(200_000, glue));
            assert!(read(FIELDS, &text).contains("more than 512 attributes"), "{glue:?}");
        }
        for text in [
            format!("<script>if (a <b{}", many(2_000, " ")),
            format!("<!-- <b{} -->", many(2_000, " ")),
            format!("<article data-json='{}'>", many(2_000, " ")),
            format!("<p>a < b{}", many(2_000, " ")),
            format!("<textarea><b{}", many(2_000, " ")),
        ] {
            assert!(read(FIELDS, &text).starts_with('['), "{}", read(FIELDS, &text));
        }
    }

    #[test]
    fn text_that_is_taken_many_times() {
        let text = format!("{}{}", "<div>".repeat(500), "x".repeat(100_000));
        check(
            r#"select = "div", fields = { t = ":scope *" }"#,
            &text,
            expect![
                "error: the answer (HTML) has more than 1868576 bytes as JSON: it repeats its names or texts too often"
            ],
        );
    }

    /// Each selected element is looked through for each field: the outer ones for all that is in the inner ones.
    #[test]
    fn fields_that_take_too_long() {
        let text = "<p></p>".repeat(20_000);
        let fields = |n: usize| -> String { (0..n).map(|n| format!("f{n} = \"h2\",")).collect() };
        check(
            &format!(r#"select = "body", fields = {{ {} }}"#, fields(4_000)),
            &text,
            expect![
                "error: the answer is not HTML: the fields take too long to look for: let `select` find smaller elements; it begins: <p></p><p></p><p></p><p></p><p></p><p></p><p></p><p></p><p></p><p></p><p></p><p>"
            ],
        );
        assert!(read(&format!(r#"select = "p", fields = {{ {} }}"#, fields(4)), &text).starts_with('['));
    }

    #[test]
    fn selectors_that_look_beside() {
        let text = "<p>".repeat(60_000);
        check(
            r#"select = "h2 ~ p", fields = { id = "@id" }"#,
            &text,
            expect![
                "error: the answer is not HTML: it has more than 50000 elements and texts; it begins: <p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p><p"
            ],
        );
        assert_eq!(read(r#"select = "h2 p", fields = { id = "@id" }"#, &text), "[]");
    }

    #[test]
    fn pieces() {
        let text = format!("a<b>é<<{}", "é".repeat(PIECE_BYTES));
        let (mut rest, mut pieces) = (text.as_str(), Vec::new());
        while let Some(piece) = cut(&mut rest) {
            pieces.push(piece);
        }
        assert_eq!(pieces.concat(), text);
        assert_eq!(pieces.get(..3), Some(&["a", "<b>é", "<"][..]));
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
    }
}
