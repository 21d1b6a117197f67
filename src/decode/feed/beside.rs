//! What entries of a feed say and feed-rs passes over: RSS 1.0's `rdf:about`, a title in Dublin Core, and dates in
//! forms that it cannot read.

use std::collections::HashMap;

use quick_xml::{XmlVersion, events::BytesStart};

use super::{
    super::xml::{Piece, Scan, local},
    media::Media,
};

/// Of one entry.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Beside {
    pub about: Option<String>,
    pub title: Option<String>,
    pub published: Option<String>,
    pub updated: Option<String>,
    pub media: Media,
}

/// Namespaces in which entries say something that is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Atom,
    DublinCore,
    Rdf,
    Media,
    Itunes,
    Podcast,
}

fn namespace(uri: &str) -> Option<Namespace> {
    match uri {
        "http://search.yahoo.com/mrss/" | "http://search.yahoo.com/mrss" => Some(Namespace::Media),
        "https://podcastindex.org/namespace/1.0" => Some(Namespace::Podcast),
        itunes if itunes.eq_ignore_ascii_case("http://www.itunes.com/dtds/podcast-1.0.dtd") => Some(Namespace::Itunes),
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
                } else if let Some(entry) = self.entries.last_mut()
                    && (in_entry || is_in_group(scan.open(), &self.namespaces))
                {
                    let of = name.split_once(':').and_then(|(prefix, _)| self.namespaces.get(prefix).copied());
                    take_file(&mut entry.media, (local(name), of), tag);
                }
                if !opens_entry
                    && in_entry
                    && let Some(place) = self.place(name, scan.open())
                {
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
            "duration" if of == Some(Namespace::Itunes) => |entry| &mut entry.media.duration,
            _ => return None,
        })
    }
}

/// Whether what was opened last stands in a `media:group` of an entry.
fn is_in_group(open: &[&str], namespaces: &HashMap<String, Namespace>) -> bool {
    let [entry @ .., group, _] = open else { return false };
    let Some(("group", prefix)) = group.split_once(':').map(|(prefix, name)| (name, prefix)) else { return false };
    super::is_entry(entry) && namespaces.get(prefix) == Some(&Namespace::Media)
}

/// The file that an element names.
fn take_file(media: &mut Media, (name, of): (&str, Option<Namespace>), tag: &BytesStart<'_>) {
    let attribute = |wanted: &str| {
        let found = tag.attributes().flatten().find(|attribute| attribute.key.0 == wanted)?;
        let value = found.normalized_value(XmlVersion::Implicit1_0).ok()?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let Some(url) = attribute("url") else { return };
    match (name, of) {
        ("enclosure", None) => media.file(url, attribute("type"), attribute("length"), None, None),
        ("content", Some(Namespace::Media)) => {
            media.file(url, attribute("type"), attribute("fileSize"), attribute("duration"), None);
        }
        ("thumbnail", Some(Namespace::Media)) => {
            media.thumbnail.get_or_insert(url);
        }
        ("transcript", Some(Namespace::Podcast)) => media.transcript(url, attribute("type"), attribute("language")),
        _ => {}
    }
}
