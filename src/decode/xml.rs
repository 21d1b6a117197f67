//! XML as an object: `{ "root": ... }`, attributes as `@name`, text beside them as `#text`, repeated elements as arrays.
//!
//! There is no DTD: a DOCTYPE that declares something itself is refused, and what another one names is never read, so
//! that no entity grows and none reads a file or an address. [`Scan`] is the one reader of XML; feeds are checked by it
//! too.

mod references;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{Declared, Error, Input, Out, line, malformed_text};
use crate::settings::{Table, fingerprint::Fingerprint, key::keys};

const XML: &str = "XML";
/// XML Schema, part 1, section 2.6.
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Elements that are arrays even where there is one of them.
    lists: BTreeSet<String>,
    /// Whether `a:b` stays `a:b`; else it is `b`, and `xmlns` is left out.
    prefixes: bool,
    /// Whether `href="#id"` stands for the element with that `id`.
    references: bool,
    /// A source of SOAP has references by itself, which is no line of its definition.
    of_soap: bool,
}

/// As 0.1.0 printed it, which hashed this.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lists, prefixes, references: _, of_soap: _ } = self;
        f.debug_struct("Options").field("lists", lists).field("prefixes", prefixes).finish()
    }
}

keys! {
    /// How elements become values.
    mod xml;
    /// Names of elements that are always arrays, even where one of them comes. An element is an object with an empty array if
    /// `items` looks in it for a list that is named here and it has no such element. `items` has to begin with a plain path for
    /// that: `.Envelope.Body.Response.account[]`, with or without a `|` behind it.
    or LISTS: Vec<String> = "lists", TEXTS, Vec::new;
    /// `true` keeps `a:b` and `xmlns`.
    or PREFIXES: bool = "prefixes", BOOLEAN, || false;
    /// `true`: an element without content but `href="#ID"` becomes the element whose `id` is `ID`, as SOAP's
    /// RPC/encoded answers have it (`multiRef`). One that would stand for itself, or for no element, stays as it is. In
    /// `source.soap` without `decode` it is `true`.
    or REFERENCES: bool = "references", BOOLEAN, || false;
    + super::super::plain::FAMILY;
}

impl Options {
    /// Writes how a body is read.
    pub(super) fn define(&self, text: &mut Fingerprint) {
        text.put("decode", "xml");
        self.lists.iter().for_each(|name| text.put("lists", name.as_str()));
        if self.prefixes {
            text.put("prefixes", true);
        }
        if self.references && !self.of_soap {
            text.put("references", true);
        }
    }

    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Self {
            lists: table.or(&xml::LISTS).into_iter().collect(),
            prefixes: table.or(&xml::PREFIXES),
            references: table.or(&xml::REFERENCES),
            of_soap: false,
        }
    }

    /// Of SOAP, with elements that are always arrays.
    pub(super) fn of_soap(lists: BTreeSet<String>) -> Self {
        Self { lists, prefixes: false, references: true, of_soap: true }
    }

    /// A name as it stands in the object; `None` leaves an attribute out.
    fn name<'a>(&self, name: &'a str) -> Option<&'a str> {
        if self.prefixes {
            return Some(name);
        }
        if name == "xmlns" || name.starts_with("xmlns:") {
            return None;
        }
        Some(local(name))
    }
}

/// A name without its prefix.
pub(super) fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

/// The local name of the first element.
pub(super) fn root(text: &str) -> Option<&str> {
    let mut reader = Reader::from_str(text);
    loop {
        let from = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => {
                // A tag begins with `<`, and its name follows at once.
                return text.get(from.checked_add(1)?..)?.get(..tag.name().0.len()).map(local);
            }
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// What stands in a document, one after the other.
pub(super) enum Piece<'a> {
    /// A start tag; its name is a part of the text.
    Start(&'a str, BytesStart<'a>),
    Text(Cow<'a, str>),
    End,
}

/// Entities that XML does not define by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entities {
    Refused,
    /// They stay as they are written. Many feeds have those of HTML.
    Kept,
}

/// Reads a document from its begin to its end: one root, closed tags, no DTD, and no deeper than allowed.
pub(super) struct Scan<'a> {
    reader: Reader<&'a [u8]>,
    text: &'a str,
    expected: &'static str,
    depth_max: usize,
    entities: Entities,
    open: Vec<&'a str>,
    had_root: bool,
    /// Where what was read last begins.
    from: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str, expected: &'static str, depth_max: usize, entities: Entities) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, text, expected, depth_max, entities, open: Vec::new(), had_root: false, from: 0 }
    }

    /// What was read last, as it is written.
    pub(super) fn written(&self) -> &'a str {
        self.text.get(self.from..self.at()).unwrap_or_default()
    }

    /// The elements that are open, the root first.
    pub(super) fn open(&self) -> &[&'a str] {
        &self.open
    }

    /// The byte behind it.
    fn at(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The error of what was read last.
    pub(super) fn wrong(&self, cause: &str) -> Error {
        self.fail(self.from, cause)
    }

    fn fail(&self, at: usize, cause: &str) -> Error {
        malformed_text(self.expected, format!("line {}: {cause}", line(self.text, at)), self.text)
    }

    /// The next piece; `None` at the end of a whole document.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'a>>, Error> {
        loop {
            let from = self.at();
            self.from = from;
            let event = self.reader.read_event().map_err(|error| {
                let at = usize::try_from(self.reader.error_position()).unwrap_or(from);
                self.fail(at, &error.to_string())
            })?;
            match event {
                Event::Start(tag) | Event::Empty(tag) => return self.start(from, tag).map(Some),
                Event::End(_) => {
                    self.open.pop();
                    return Ok(Some(Piece::End));
                }
                Event::Text(text) => {
                    let text = text.into_inner();
                    if !self.open.is_empty() {
                        return Ok(Some(Piece::Text(lines(text))));
                    }
                    if !text.trim().is_empty() {
                        let at = from + (text.len() - text.trim_start().len());
                        let side = if self.had_root { "behind" } else { "before" };
                        return Err(self.fail(at, &format!("text {side} the root element")));
                    }
                }
                Event::CData(_) | Event::GeneralRef(_) if self.open.is_empty() => {
                    return Err(self.fail(from, "text outside of the root element"));
                }
                Event::CData(text) => return Ok(Some(Piece::Text(lines(text.into_inner())))),
                Event::GeneralRef(reference) => {
                    let character = reference.resolve_char_ref().map_err(|e| self.fail(from, &e.to_string()))?;
                    let text = match character {
                        Some(character) => Cow::Owned(character.to_string()),
                        None => self.entity(from, &reference.into_inner())?,
                    };
                    return Ok(Some(Piece::Text(text)));
                }
                Event::DocType(_) if self.had_root => {
                    return Err(self.fail(from, "a DOCTYPE that does not stand before the root element"));
                }
                Event::DocType(ref doctype) if has_subset(doctype) => {
                    return Err(self.fail(from, "its DOCTYPE has declarations (`[...]`), which are refused"));
                }
                Event::Eof => return self.end(from),
                Event::DocType(_) | Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
            }
        }
    }

    fn start(&mut self, from: usize, tag: BytesStart<'a>) -> Result<Piece<'a>, Error> {
        if self.open.is_empty() && self.had_root {
            return Err(self.fail(from, "a second root element"));
        }
        if self.open.len() >= self.depth_max {
            return Err(Error::Depth { max: self.depth_max });
        }
        // A tag begins with `<`, and its name follows at once.
        let name = from.checked_add(1).and_then(|begin| self.text.get(begin..)?.get(..tag.name().0.len()));
        let name = name.filter(|name| is_name(name)).ok_or_else(|| self.fail(from, "a tag without a proper name"))?;
        self.had_root = true;
        self.open.push(name);
        Ok(Piece::Start(name, tag))
    }

    fn end(&self, from: usize) -> Result<Option<Piece<'a>>, Error> {
        match self.open.last() {
            Some(name) => Err(self.fail(from, &format!("it ends within <{name}>"))),
            None if self.had_root => Ok(None),
            None => Err(self.fail(from, "it has no element")),
        }
    }

    fn entity(&self, at: usize, name: &str) -> Result<Cow<'a, str>, Error> {
        match resolve_predefined_entity(name) {
            Some(text) => Ok(Cow::Borrowed(text)),
            None if self.entities == Entities::Kept => Ok(Cow::Owned(format!("&{name};"))),
            None => Err(self.fail(at, &format!("the entity &{name}; is not one of XML's own five"))),
        }
    }
}

/// Whether a DOCTYPE has declarations of its own (XML 1.0, 2.8: the internal subset).
fn has_subset(doctype: &str) -> bool {
    let mut quote = None;
    doctype.chars().any(|c| match quote {
        Some(mark) => {
            quote = Some(mark).filter(|mark| *mark != c);
            false
        }
        None => {
            quote = Some(c).filter(|c| matches!(c, '"' | '\''));
            c == '['
        }
    })
}

/// Line ends as XML has them (XML 1.0, 2.11).
fn lines(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text }
}

/// Nearly XML's rule for names: what could be taken for markup, or for a name that is made here, is none.
fn is_name(name: &str) -> bool {
    let proper = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
    let begins = |c: char| !c.is_ascii() || c.is_ascii_alphabetic() || matches!(c, '_' | ':');
    name.starts_with(begins) && name.chars().all(proper) && !local(name).is_empty()
}

pub(super) fn decode(options: &Options, input: &Input<'_, '_>) -> Result<Vec<u8>, Error> {
    let text = input.text(Declared::Xml, XML)?;
    if text.trim().is_empty() {
        return Err(Error::Empty);
    }
    input.refuse_html(&text, XML, &["<!doctype html"])?;
    let mut tree = Tree {
        options,
        lists: input.lists,
        out: input.out(XML),
        open: vec![Frame::new("", 0)],
        instance: HashSet::from(["xsi".to_owned()]),
    };
    let mut scan = Scan::new(&text, XML, input.depth_max, Entities::Refused);
    while let Some(piece) = scan.next()? {
        match piece {
            Piece::Start(name, tag) => {
                tree.start(options.name(name).unwrap_or(name));
                tree.attributes(&tag).map_err(|cause| scan.wrong(&cause))?;
            }
            Piece::Text(text) => tree.text(&text),
            Piece::End => tree.end()?,
        }
        tree.out.check()?;
    }
    let document = tree.finish()?;
    if options.references && text.contains("href=") {
        return references::resolve(&document, input.out(XML), input.depth_max);
    }
    Ok(document)
}

/// The object under construction. Values are written at the end of `out` as they are read; when an element ends, those
/// of one name are put together. So memory is a small multiple of the document, whatever it is made of.
struct Tree<'a, 'o> {
    options: &'o Options,
    /// See [`Input`].
    lists: &'o [Vec<String>],
    out: Out,
    /// Open elements; the first stands for the document.
    open: Vec<Frame<'a>>,
    /// Prefixes of XML Schema's own attributes. The last declaration counts.
    instance: HashSet<String>,
}

/// An open element.
struct Frame<'a> {
    name: &'a str,
    /// Where its values begin in `out`.
    from: usize,
    text: String,
    /// In the order in which they came first.
    names: Vec<Cow<'a, str>>,
    by_name: HashMap<Cow<'a, str>, usize>,
    /// Of each value its name, and where it ends in `out`.
    values: Vec<(usize, usize)>,
    /// It says that it has no value (`xsi:nil`).
    nil: bool,
    /// It has more than attributes of XML Schema.
    holds: bool,
}

impl<'a> Frame<'a> {
    fn new(name: &'a str, from: usize) -> Self {
        Self {
            name,
            from,
            text: String::new(),
            names: Vec::new(),
            by_name: HashMap::new(),
            values: Vec::new(),
            nil: false,
            holds: false,
        }
    }

    fn add(&mut self, name: Cow<'a, str>, end: usize) {
        let number = *self.by_name.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            self.names.len() - 1
        });
        self.values.push((number, end));
    }
}

impl<'a, 'o> Tree<'a, 'o> {
    fn top(&mut self) -> &mut Frame<'a> {
        self.open.last_mut().expect("the document is always open")
    }

    fn start(&mut self, name: &'a str) {
        self.open.push(Frame::new(name, self.out.bytes.len()));
    }

    fn attributes(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        self.declare(tag);
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|e| e.to_string())?;
            let name = attribute.key.0;
            if !is_name(name) {
                return Err(format!("an attribute without a proper name: {name:?}"));
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| format!("`{name}`: {e}"))?;
            let is_instance = name.split_once(':').is_some_and(|(prefix, _)| self.instance.contains(prefix));
            let top = self.top();
            top.nil |= is_instance && local(name) == "nil" && matches!(value.trim(), "true" | "1");
            top.holds |= !is_instance && name != "xmlns" && !name.starts_with("xmlns:");
            if let Some(name) = self.options.name(name) {
                self.out.string(&value);
                let end = self.out.bytes.len();
                self.top().add(Cow::Owned(format!("@{name}")), end);
            }
        }
        Ok(())
    }

    /// The prefixes that a tag declares.
    fn declare(&mut self, tag: &BytesStart<'_>) {
        for attribute in tag.attributes().flatten() {
            if let Some(prefix) = attribute.key.0.strip_prefix("xmlns:") {
                if attribute.value.as_ref() == INSTANCE {
                    self.instance.insert(prefix.to_owned());
                } else {
                    self.instance.remove(prefix);
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.top().text.push_str(text);
    }

    /// Writes an element's value, and gives it to the element around it.
    fn end(&mut self) -> Result<(), Error> {
        let frame = self.open.pop().expect("only what is open ends");
        let text = frame.text.trim();
        let empty = self.empty_lists(&frame);
        if frame.nil && !frame.holds && text.is_empty() && empty.is_empty() {
            self.out.bytes.truncate(frame.from);
            self.out.raw("null");
        } else if frame.values.is_empty() && (empty.is_empty() || !text.is_empty()) {
            self.out.string(text);
        } else {
            let values = self.out.bytes.split_off(frame.from);
            self.object(&frame, &values, text, &empty)?;
        }
        let end = self.out.bytes.len();
        let top = self.top();
        top.holds = true;
        top.add(Cow::Borrowed(frame.name), end);
        Ok(())
    }

    /// Lists that `items` looks for in an element that has none of their elements.
    fn empty_lists(&self, frame: &Frame<'_>) -> Vec<&'o str> {
        let way = || self.open.iter().skip(1).map(|open| open.name).chain([frame.name]);
        let empty = |list: &'o Vec<String>| {
            let (name, parents) = list.split_last()?;
            let is_list = self.options.lists.contains(name) && !frame.by_name.contains_key(name.as_str());
            (is_list && way().eq(parents.iter().map(String::as_str))).then_some(name.as_str())
        };
        self.lists.iter().filter_map(empty).collect()
    }

    fn object(&mut self, frame: &Frame<'_>, values: &[u8], text: &str, empty: &[&str]) -> Result<(), Error> {
        let mut by_name: Vec<Vec<&[u8]>> = vec![Vec::new(); frame.names.len()];
        let mut from = frame.from;
        for (name, end) in &frame.values {
            let value = values.get(from - frame.from..end - frame.from).unwrap_or_default();
            if let Some(list) = by_name.get_mut(*name) {
                list.push(value);
            }
            from = *end;
        }
        for (at, (name, list)) in frame.names.iter().zip(by_name).enumerate() {
            self.out.raw(if at > 0 { "," } else { "{" });
            self.out.string(name);
            self.out.raw(":");
            let array = list.len() > 1 || self.options.lists.contains(name.as_ref());
            for (at, value) in list.into_iter().enumerate() {
                self.out.raw(match at {
                    0 if array => "[",
                    0 => "",
                    _ => ",",
                });
                self.out.bytes.extend_from_slice(value);
            }
            self.out.raw(if array { "]" } else { "" });
            self.out.check()?;
        }
        for (at, name) in empty.iter().enumerate() {
            self.out.raw(if at > 0 || !frame.names.is_empty() { "," } else { "{" });
            self.out.string(name);
            self.out.raw(":[]");
        }
        if !text.is_empty() {
            self.out.raw(",\"#text\":");
            self.out.string(text);
        }
        self.out.raw("}");
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        let frame = self.open.pop().expect("the document is always open");
        let values = self.out.bytes.split_off(frame.from);
        self.object(&frame, &values, "", &[])?;
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check_as, *};
    use expect_test::{Expect, expect};

    fn check(options: &str, text: &str, expect: Expect) {
        expect.assert_eq(&check_as(&format!("xml = {{ {options} }}"), "text/xml", text.as_bytes()));
    }

    #[test]
    fn elements() {
        check("", "<a/>", expect![[r#"{"a":""}"#]]);
        check("", "<a>\n  text\n</a>", expect![[r#"{"a":"text"}"#]]);
        check("", "<a><b>1</b>\n<c/><b>2</b></a>", expect![[r#"{"a":{"b":["1","2"],"c":""}}"#]]);
        check(
            "",
            "<a id='1'>x<b/>y &amp; &#233;<![CDATA[<&>]]></a>",
            expect![[r##"{"a":{"@id":"1","b":"","#text":"xy & é<&>"}}"##]],
        );
        check(
            "",
            "<?xml version='1.0'?>\n<!-- c --><a b=\"x\ny&lt;\"></a ><!-- d -->\n",
            expect![[r#"{"a":{"@b":"x y<"}}"#]],
        );
        check("lists = [\"b\"]", "<a><b>1</b><c>2</c></a>", expect![[r#"{"a":{"b":["1"],"c":"2"}}"#]]);
        check(
            "",
            "<x:a xmlns:x='urn:x' xmlns='urn:y' x:b='1'><x:c/><c/></x:a>",
            expect![[r#"{"a":{"@b":"1","c":["",""]}}"#]],
        );
        check(
            "prefixes = true",
            "<x:a xmlns:x='urn:x' x:b='1'><x:c/><c/></x:a>",
            expect![[r#"{"x:a":{"@xmlns:x":"urn:x","@x:b":"1","x:c":"","c":""}}"#]],
        );
        check("", "<a x:b='1' y:b='2'/>", expect![[r#"{"a":{"@b":["1","2"]}}"#]]);
        check("", "<a>one\r\ntwo</a>", expect![[r#"{"a":"one\ntwo"}"#]]);
    }

    #[test]
    fn what_is_refused() {
        check("", "", expect!["error: the answer is empty"]);
        check(
            "",
            "<a>\n<b>\n</c></a>",
            expect![
                "error: the answer is not XML: line 3: ill-formed document: expected `</b>`, but `</c>` was found; it begins: <a> <b> </c></a>"
            ],
        );
        check("", "<a>\n<b>", expect!["error: the answer is not XML: line 2: it ends within <b>; it begins: <a> <b>"]);
        check(
            "",
            "<a/>\n<b/>",
            expect!["error: the answer is not XML: line 2: a second root element; it begins: <a/> <b/>"],
        );
        check(
            "",
            "<a/>\ntrailing",
            expect!["error: the answer is not XML: line 2: text behind the root element; it begins: <a/> trailing"],
        );
        check(
            "",
            "leading <a/>",
            expect!["error: the answer is not XML: line 1: text before the root element; it begins: leading <a/>"],
        );
        check(
            "",
            "<a>\n&nbsp;</a>",
            expect![
                "error: the answer is not XML: line 2: the entity &nbsp; is not one of XML's own five; it begins: <a> &nbsp;</a>"
            ],
        );
        check(
            "",
            "<a>a & b</a>",
            expect![
                "error: the answer is not XML: line 1: ill-formed document: entity or character reference not closed: `;` not found before end of input; it begins: <a>a & b</a>"
            ],
        );
        check(
            "",
            "<a b='&x;'/>",
            expect![
                "error: the answer is not XML: line 1: `b`: at 1..2: unrecognized entity `x`; it begins: <a b='&x;'/>"
            ],
        );
        check(
            "",
            "<a b='1' b='2'/>",
            expect![
                "error: the answer is not XML: line 1: position 8: duplicated attribute, previous declaration at position 2; it begins: <a b='1' b='2'/>"
            ],
        );
        check(
            "",
            "<a b=1/>",
            expect![[
                r#"error: the answer is not XML: line 1: position 4: attribute value must be enclosed in `"` or `'`; it begins: <a b=1/>"#
            ]],
        );
        check(
            "",
            "<a>&#0;</a>",
            expect![
                "error: the answer is not XML: line 1: invalid character reference: 0x0 character is not permitted in XML; it begins: <a>&#0;</a>"
            ],
        );
        check(
            "",
            "<1a/>",
            expect!["error: the answer is not XML: line 1: a tag without a proper name; it begins: <1a/>"],
        );
        check(
            "",
            "<!-- nothing -->",
            expect!["error: the answer is not XML: line 1: it has no element; it begins: <!-- nothing -->"],
        );
        check(
            "",
            "<!DOCTYPE html><html><title>Log in</title></html>",
            expect![
                "error: the answer is HTML (text/xml), not XML: a login or an error page? It begins: <!DOCTYPE html><html><title>Log in</title></html>"
            ],
        );
        check(
            "",
            "</a>",
            expect![
                "error: the answer is not XML: line 1: ill-formed document: close tag `</a>` does not match any open tag; it begins: </a>"
            ],
        );
    }

    /// CVE-2003-1564 and its many heirs: ten entities of ten entities each.
    #[test]
    fn a_billion_laughs() {
        let text = "<?xml version=\"1.0\"?>\n<!DOCTYPE lolz [\n<!ENTITY lol \"lol\">\n<!ENTITY lol2 \"&lol;&lol;\">\n]>\n<lolz>&lol2;</lolz>";
        check(
            "",
            text,
            expect![[
                r#"error: the answer is not XML: line 2: its DOCTYPE has declarations (`[...]`), which are refused; it begins: <?xml version="1.0"?> <!DOCTYPE lolz [ <!ENTITY lol "lol"> <!ENTITY lol2 "&lol;&"#
            ]],
        );
    }

    #[test]
    fn an_entity_that_reads_a_file() {
        let text = "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\n<a>&x;</a>";
        check(
            "",
            text,
            expect![[
                r#"error: the answer is not XML: line 1: its DOCTYPE has declarations (`[...]`), which are refused; it begins: <!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]> <a>&x;</a>"#
            ]],
        );
    }

    /// NCBI's answers, Apple's lists and RSS 0.91 name a DTD and were refused, though nothing of it is read.
    #[test]
    fn a_doctype_that_declares_nothing_is_passed_over() {
        for (root, doctype) in [
            ("a", "<!DOCTYPE a>"),
            ("a", "<!DOCTYPE a SYSTEM \"http://169.254.169.254/\">"),
            ("a", "<!DOCTYPE a SYSTEM 'x[\"].dtd' >"),
            ("plist", "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/x.dtd\">"),
            ("a", "<!doctype a>"),
        ] {
            let text = format!("<?xml version='1.0'?>\n{doctype}\n<{root}>1</{root}>");
            assert_eq!(check_as("xml = {}", "text/xml", text.as_bytes()), format!("{{\"{root}\":\"1\"}}"), "{doctype}");
            // An entity that only the DTD would know stays unknown.
            let text = text.replace(">1<", ">&eacute;<");
            assert!(check_as("xml = {}", "text/xml", text.as_bytes()).contains("&eacute; is not one"), "{doctype}");
        }
        for refused in
            ["<!DOCTYPE a []><a/>", "<!DOCTYPE a SYSTEM 'x' [<!ELEMENT a ANY>]><a/>", "<!DOCTYPE a \"'\" ['\"]><a/>"]
        {
            assert!(check_as("xml = {}", "text/xml", refused.as_bytes()).contains("declarations"), "{refused}");
        }
        for refused in ["<a><!DOCTYPE a></a>", "<a/><!DOCTYPE a>"] {
            assert!(check_as("xml = {}", "text/xml", refused.as_bytes()).contains("before the root"), "{refused}");
        }
    }

    /// A field that had no value was an object where it is a string otherwise, and `key` or `since.from` failed on it.
    #[test]
    fn an_element_that_is_nil_is_null() {
        let xsi = "xmlns:i='http://www.w3.org/2001/XMLSchema-instance'";
        for (text, expected) in [
            ("<a xsi:nil='true'/>", "null"),
            (&format!("<a {xsi} i:nil='1'>\n</a>"), "null"),
            (&format!("<a {xsi} i:nil='true' i:type='x:int'/>"), "null"),
            (&format!("<a {xsi}><b i:nil='true'/><b>1</b></a>"), r#"{"b":[null,"1"]}"#),
            // What says more than that stays.
            (&format!("<a {xsi} i:nil='true' id='7'/>"), r#"{"@nil":"true","@id":"7"}"#),
            (&format!("<a {xsi} i:nil='true'>x</a>"), r##"{"@nil":"true","#text":"x"}"##),
            (&format!("<a {xsi} i:nil='true'><b/></a>"), r#"{"@nil":"true","b":""}"#),
            ("<a xsi:nil='false'/>", r#"{"@nil":"false"}"#),
            ("<a nil='true'/>", r#"{"@nil":"true"}"#),
            ("<a xmlns:xsi='urn:other' xsi:nil='true'/>", r#"{"@nil":"true"}"#),
        ] {
            assert_eq!(check_as("xml = {}", "text/xml", text.as_bytes()), format!("{{\"a\":{expected}}}"), "{text}");
        }
    }

    /// The last account was deleted at the bank, `<GetAccountsResponse/>` became a text, and the bridge failed in place
    /// of the deletion.
    #[test]
    fn an_empty_container_keeps_the_list_that_items_looks_for() {
        let way = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let lists = [way(&["r", "l", "e"]), way(&["r", "l", "e", "i"])];
        let check = |text: &str, expected: &str| {
            let decoder = super::super::Decoder::soap(["e", "i"].map(str::to_owned).into());
            let page = super::super::tests::body("text/xml", text.as_bytes());
            let made = super::super::document(Some(&decoder), &page, 8, &lists).expect("a document");
            assert_eq!(std::str::from_utf8(&made.text), Ok(expected), "{text}");
        };
        for (text, expected) in [
            ("<r><l><e><i>1</i></e></l></r>", r#"{"r":{"l":{"e":[{"i":["1"]}]}}}"#),
            ("<r><l><e/></l></r>", r#"{"r":{"l":{"e":[{"i":[]}]}}}"#),
            ("<r><l/></r>", r#"{"r":{"l":{"e":[]}}}"#),
            ("<r><l>\n</l></r>", r#"{"r":{"l":{"e":[]}}}"#),
            ("<r><l nil='true'/></r>", r#"{"r":{"l":{"@nil":"true","e":[]}}}"#),
            ("<r><l><total>0</total></l></r>", r#"{"r":{"l":{"total":"0","e":[]}}}"#),
            ("<x:r xmlns:x='urn:x'><x:l/></x:r>", r#"{"r":{"l":{"e":[]}}}"#),
            // Not where `items` looks: an answer without the container says nothing of the list.
            ("<r/>", r#"{"r":""}"#),
            ("<r><m/></r>", r#"{"r":{"m":""}}"#),
            ("<l/>", r#"{"l":""}"#),
            ("<r><l>down</l></r>", r#"{"r":{"l":"down"}}"#),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn nesting() {
        check(
            "",
            &format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000)),
            expect!["error: the answer is nested deeper than 8 (`depth-max`)"],
        );
        check(
            "",
            &"<a>".repeat(8),
            expect!["error: the answer is not XML: line 1: it ends within <a>; it begins: <a><a><a><a><a><a><a><a>"],
        );
        // Arrays nest too.
        check(
            "lists = [\"a\"]",
            &format!("{}{}", "<a>".repeat(5), "</a>".repeat(5)),
            expect!["error: the answer is nested deeper than 8 (`depth-max`)"],
        );
    }

    #[test]
    fn the_root() {
        for (text, name) in [
            ("<?xml version='1.0'?><!-- <b> --><rss version='2.0'>", Some("rss")),
            ("<rdf:RDF a='>' b='<'>", Some("RDF")),
            ("<a/>", Some("a")),
            ("", None),
            ("{}", None),
        ] {
            assert_eq!(root(text), name, "{text}");
        }
    }
}
