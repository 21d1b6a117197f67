//! What entries of a feed say and feed-rs passes over: RSS 1.0's `rdf:about`, a title in Dublin Core, and dates in
//! forms that it cannot read.

use std::collections::HashMap;

use quick_xml::{XmlVersion, events::BytesStart};

use super::super::xml::{Piece, Scan, local};

/// Of one entry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Beside {
    pub about: Option<String>,
    pub title: Option<String>,
    pub published: Option<String>,
    pub updated: Option<String>,
}

/// Namespaces in which entries say something that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Atom,
    DublinCore,
    Rdf,
}

fn namespace(uri: &str) -> Option<Namespace> {
    match uri {
        super::NAMESPACE_ATOM => Some(Namespace::Atom),
        "http://purl.org/dc/elements/1.1/" => Some(Namespace::DublinCore),
        "http://www.w3.org/1999/02/22-rdf-syntax-ns#" => Some(Namespace::Rdf),
        _ => None,
    }
}

/// A place of [`Beside`] for the text of an element.
type Place = fn(&mut Beside) -> &mut Option<String>;

/// Reads a feed piece by piece.
#[derive(Default)]
pub(super) struct Reader {
    pub entries: Vec<Beside>,
    /// By prefix. The last declaration counts: no feed gives a prefix two meanings.
    namespaces: HashMap<String, Namespace>,
    /// The element whose text is kept: its place, how many elements are open with it, and its text so far.
    reading: Option<(Place, usize, String)>,
}

impl Reader {
    /// `opens_entry`: the innermost open element is an entry; `in_entry`: it stands in one.
    pub(super) fn read(&mut self, piece: &Piece<'_>, scan: &Scan<'_>, opens_entry: bool, in_entry: bool) {
        let depth = scan.open().len();
        match piece {
            Piece::Start(name, tag) => {
                self.declare(tag);
                if opens_entry {
                    self.entries.push(Beside { about: self.about(tag), ..Beside::default() });
                } else if in_entry && let Some(place) = self.place(name, scan.open()) {
                    self.reading = Some((place, depth, String::new()));
                }
            }
            Piece::Text(text) => {
                if let Some((_, at, kept)) = &mut self.reading
                    && *at == depth
                {
                    kept.push_str(text);
                }
            }
            Piece::End => {
                if let Some((place, _, text)) = self.reading.take_if(|(_, at, _)| depth < *at)
                    && let Some(entry) = self.entries.last_mut()
                {
                    let text = text.trim();
                    *place(entry) = Some(text.to_owned()).filter(|text| !text.is_empty());
                }
            }
        }
    }

    fn declare(&mut self, tag: &BytesStart<'_>) {
        for attribute in tag.attributes().flatten() {
            if let Some(prefix) = attribute.key.0.strip_prefix("xmlns:")
                && let Some(namespace) = namespace(attribute.value.as_ref())
            {
                self.namespaces.insert(prefix.to_owned(), namespace);
            }
        }
    }

    fn of(&self, name: &str) -> Option<Namespace> {
        self.namespaces.get(name.split_once(':')?.0).copied()
    }

    fn about(&self, tag: &BytesStart<'_>) -> Option<String> {
        let is_about = |name: &str| local(name) == "about" && self.of(name) == Some(Namespace::Rdf);
        let attribute = tag.attributes().flatten().find(|attribute| is_about(attribute.key.0))?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
        Some(value.trim().to_owned()).filter(|about| !about.is_empty())
    }

    fn place(&self, name: &str, open: &[&str]) -> Option<Place> {
        let (feed, of) = (local(open.first()?), self.of(name));
        // Atom has dates of its own, which mean something else than Dublin Core's.
        let is_rss = !matches!(feed, "feed" | "entry");
        let is_own = !name.contains(':') || of == Some(Namespace::Atom);
        Some(match local(name) {
            "title" if of == Some(Namespace::DublinCore) => |entry| &mut entry.title,
            "date" if is_rss && of == Some(Namespace::DublinCore) => |entry| &mut entry.published,
            "pubDate" | "published" if is_own => |entry| &mut entry.published,
            "updated" if is_own => |entry| &mut entry.updated,
            _ => return None,
        })
    }
}
