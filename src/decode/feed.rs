//! RSS 0.9x to 2.0, RSS 1.0, Atom and JSON Feed as one shape: `{ title, link, entries: [...] }`.
//!
//! What a feed leaves out is null, and nothing is made up that another fetch would make up otherwise: an entry without
//! an id is known by its link, else by a hash of its title and date. Of several entries with one id the newest counts.

mod beside;
mod media;

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use chrono::{DateTime, SecondsFormat, Utc};
use feed_rs::{
    model::{self, FeedType, Person},
    parser,
};
use quick_xml::events::BytesStart;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use url::Url;

use super::{
    Declared, Error, Input, Out, check_nesting, malformed_text,
    xml::{Entities, Piece, Scan},
};
use crate::{model::Hash, settings::key::keys};
use beside::{Beside, Reader};
use media::Media;

const FEED: &str = "a feed";

/// Namespaces of podcasts and media, whose elements are no part of the shape. They are renamed before feed-rs sees
/// them: it panics on some numbers in them.
const NAMESPACES_UNUSED: [&str; 3] = [
    "http://search.yahoo.com/mrss/",
    "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "https://podcastindex.org/namespace/1.0",
];

/// Those whose elements are read.
const NAMESPACE_RSS: &str = "http://purl.org/rss/1.0/";
const NAMESPACE_ATOM: &str = "http://www.w3.org/2005/Atom";

keys! {
    /// How a feed is read.
    mod feed;
    /// `true`: an entry has also `enclosures: [{ url, type, length, duration, title }]` (enclosures of RSS and Atom,
    /// `media:content`, and attachments of JSON Feed, each URL once), `thumbnail` (`media:thumbnail`, `image` of JSON
    /// Feed), `duration` (`itunes:duration`) and `transcripts: [{ url, type, language }]` (`podcast:transcript`).
    /// Lengths are bytes and durations seconds, or texts as they came where they cannot be read; what is absent is
    /// null.
    or MEDIA: bool = "media", BOOLEAN, || false;
    + super::super::plain::FAMILY;
}

/// Whether XML of this root, without its prefix, is a feed.
pub(super) fn is_root(name: &str) -> bool {
    matches!(name, "rss" | "feed" | "RDF")
}

/// An entry of any kind of feed.
#[derive(Default)]
struct Entry {
    id: Option<String>,
    title: Option<String>,
    link: Option<String>,
    summary: Option<String>,
    content: Option<String>,
    published: Option<String>,
    updated: Option<String>,
    /// Entries without authors of their own share those of their feed.
    authors: Rc<[String]>,
    categories: Vec<String>,
    /// Where the file wants it.
    media: Option<Media>,
}

pub(super) fn decode(input: &Input<'_, '_>, with_media: bool) -> Result<Vec<u8>, Error> {
    let text = input.text(Declared::Xml, FEED)?;
    if text.trim().is_empty() {
        return Err(Error::Empty);
    }
    input.refuse_html(&text, FEED, &["<!doctype html", "<html"])?;
    // The page's URL may be no more than its origin where the file keeps the rest secret.
    let base = Url::parse(&input.page.url).ok();
    let mut out = input.out(FEED);
    if text.trim_start().starts_with('{') {
        let text = input.whole_pairs(text);
        json_feed(&text, base.as_ref(), (input.depth_max, with_media), &mut out)?;
    } else {
        xml_feed(&text, base.as_ref(), (input.depth_max, with_media), &mut out)?;
    }
    out.finish()
}

fn xml_feed(
    text: &str,
    base: Option<&Url>,
    (depth_max, with_media): (usize, bool),
    out: &mut Out,
) -> Result<(), Error> {
    let (checked, besides) = checked(text, depth_max)?;
    let entries = besides.len();
    let feed = parser::Builder::new()
        .base_uri(base)
        .sanitize_content(false)
        // Its own generator may be random.
        .id_generator(|_, _, _| String::new())
        .build()
        .parse(checked.as_bytes())
        .map_err(|error| malformed_text(FEED, error.to_string(), text))?;
    if feed.entries.len() < entries {
        // What feed-rs passes over would look deleted.
        let cause = format!(
            "{} of its {entries} entries cannot be read: of RSS 1.0 without a link, in a second channel, or in an unknown namespace",
            entries - feed.entries.len()
        );
        return Err(malformed_text(FEED, cause, text));
    }
    head(out, feed.title.map(|t| t.content), link(&feed.links));
    let is_rss = matches!(feed.feed_type, FeedType::RSS0 | FeedType::RSS2);
    // Where feed-rs finds entries that are none here, it is not known which is which.
    let besides = if feed.entries.len() == entries { besides } else { vec![Beside::default(); feed.entries.len()] };
    let entries = feed.entries.into_iter().zip(besides);
    let entry = |(entry, mut beside): (model::Entry, Beside)| {
        let mut media = std::mem::take(&mut beside.media);
        media.resolve(base);
        media.take_links(&entry.links);
        Entry { media: with_media.then_some(media), ..Entry::from(entry).with(beside, is_rss) }
    };
    write_entries(entries.map(entry).collect(), out)
}

/// The feed from its root on, and what its entries say beside what feed-rs reads, after a check that it is a whole
/// document: feed-rs takes what is cut off for the end.
fn checked(text: &str, depth_max: usize) -> Result<(String, Vec<Beside>), Error> {
    let mut scan = Scan::new(text, FEED, depth_max, Entities::Kept);
    let (mut out, mut reader) = (String::with_capacity(text.len()), Reader::default());
    while let Some(piece) = scan.next()? {
        let parents = scan.open().split_last().map_or(scan.open(), |(_, parents)| parents);
        reader.read(&piece, &scan, is_entry(scan.open()), is_entry(parents));
        match piece {
            Piece::Start(name, tag) => out.push_str(&known(&tag, name, &scan, out.is_empty())?),
            // The end of an element without content is not written.
            Piece::Text(_) | Piece::End => out.push_str(scan.written()),
        }
    }
    Ok((out, reader.entries))
}

/// Writes entries and the end of the feed, each id once: some podcasts have two items of one `guid`.
fn write_entries(entries: Vec<Entry>, out: &mut Out) -> Result<(), Error> {
    // An equal one that comes later is older: feeds begin with the newest.
    let mut newest: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let best = newest.entry(entry.id()).or_insert(at);
        if entries.get(*best).is_some_and(|best| entry.date() > best.date()) {
            *best = at;
        }
    }
    let mut written = 0;
    for (at, entry) in entries.iter().enumerate() {
        let id = entry.id();
        if newest.get(&id) == Some(&at) {
            entry.write(&id, written, out)?;
            written += 1;
        }
    }
    out.raw("]}");
    Ok(())
}

/// Whether the innermost of these elements is an entry. Of a foreign namespace it is none.
fn is_entry(open: &[&str]) -> bool {
    match open {
        ["rss", "channel", "item"] | ["rss" | "rdf:RDF" | "RDF", "item"] | ["entry"] => true,
        [feed, entry] => entry.strip_suffix("entry").is_some_and(|prefix| feed.strip_suffix("feed") == Some(prefix)),
        _ => false,
    }
}

/// A start tag in words that feed-rs knows.
fn known<'a>(tag: &BytesStart<'_>, name: &str, scan: &Scan<'a>, is_root: bool) -> Result<Cow<'a, str>, Error> {
    let mut written = Cow::Borrowed(scan.written());
    let mut version = None;
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|e| scan.wrong(&e.to_string()))?;
        let (key, value) = (attribute.key.0, attribute.value.as_ref());
        if key == "xmlns" && is_root && !value.is_empty() {
            // Older versions, and some versions of RSS 2.0, have namespaces of their own.
            let namespace = if name == "feed" || name == "entry" { NAMESPACE_ATOM } else { NAMESPACE_RSS };
            written = written.replacen(value, namespace, 1).into();
        } else if key.starts_with("xmlns") && NAMESPACES_UNUSED.contains(&value) {
            written = written.replace(value, "urn:bellpull:unused").into();
        }
        if key == "version" {
            version = Some(value.to_owned());
        }
    }
    Ok(if is_root && name == "rss" { versioned(&written, version.as_deref()).into() } else { written })
}

/// The tag of `<rss>` with a version that feed-rs knows: it refuses 0.93 and 0.94, and a feed without one.
fn versioned(tag: &str, version: Option<&str>) -> String {
    match version {
        Some("2.0" | "0.91" | "0.92") => tag.to_owned(),
        Some(other) => {
            let quoted = |mark: char| format!("{mark}{other}{mark}");
            tag.replace(&quoted('"'), "\"2.0\"").replace(&quoted('\''), "\"2.0\"")
        }
        None => tag.replacen("<rss", "<rss version=\"2.0\"", 1),
    }
}

/// The link to what a feed or an entry is about; others lead to itself, to comments or to files.
fn link(links: &[model::Link]) -> Option<String> {
    let about = |link: &&model::Link| link.target.is_none() && link.rel.as_deref().is_none_or(|rel| rel == "alternate");
    links.iter().find(about).map(|link| link.href.clone())
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl From<model::Entry> for Entry {
    fn from(entry: model::Entry) -> Self {
        // RSS writes `lawyer@boyer.net (Lawyer Boyer)`; feed-rs leaves the brackets.
        let bare = |name: String| match name.strip_prefix('(').and_then(|n| n.strip_suffix(')')) {
            Some(bare) => bare.to_owned(),
            None => name,
        };
        let name = |person: Person| person.name.filter(|n| !n.is_empty()).map(bare).or(person.email);
        Self {
            id: Some(entry.id),
            link: link(&entry.links),
            title: entry.title.map(|t| t.content),
            summary: entry.summary.map(|t| t.content),
            content: entry.content.and_then(|c| c.body),
            published: entry.published.map(time),
            updated: entry.updated.map(time),
            authors: entry.authors.into_iter().filter_map(name).collect(),
            categories: entry.categories.into_iter().map(|c| c.term).collect(),
            media: None,
        }
    }
}

fn head(out: &mut Out, title: Option<String>, link: Option<String>) {
    out.raw("{\"title\":");
    out.string_or_null(title.as_deref());
    out.raw(",\"link\":");
    out.string_or_null(link.as_deref());
    out.raw(",\"entries\":[");
}

impl Entry {
    fn id(&self) -> String {
        let given = [&self.id, &self.link].into_iter().flatten().map(|text| text.trim()).find(|text| !text.is_empty());
        given.map(str::to_owned).unwrap_or_else(|| {
            let (named, told) = ([&self.title, &self.published], [&self.summary, &self.content]);
            let parts = if named.iter().any(|part| part.is_some()) { named } else { told };
            Hash::of(json!(parts).to_string().as_bytes()).to_string()
        })
    }

    /// With what feed-rs passed over.
    fn with(mut self, beside: Beside, is_rss: bool) -> Self {
        self.id = self.id.filter(|id| !id.trim().is_empty()).or(beside.about);
        self.title = self.title.or(beside.title);
        self.published = self.published.or(beside.published);
        // RSS has one date, and feed-rs gives it to both.
        let only = || self.published.clone().filter(|_| is_rss);
        self.updated = self.updated.or(beside.updated).or_else(only);
        self
    }

    /// When it was written last, if that can be read.
    fn date(&self) -> Option<DateTime<Utc>> {
        let dates = [&self.updated, &self.published].into_iter().flatten();
        dates.filter_map(|text| DateTime::parse_from_rfc3339(text).ok()).map(|date| date.to_utc()).next()
    }

    fn write(&self, id: &str, at: usize, out: &mut Out) -> Result<(), Error> {
        out.raw(if at > 0 { ",{\"id\":" } else { "{\"id\":" });
        out.string(id);
        for (name, value) in [
            (",\"title\":", &self.title),
            (",\"link\":", &self.link),
            (",\"summary\":", &self.summary),
            (",\"content\":", &self.content),
            (",\"published\":", &self.published),
            (",\"updated\":", &self.updated),
        ] {
            out.raw(name);
            out.string_or_null(value.as_deref());
        }
        for (name, list) in [(",\"authors\":[", &*self.authors), (",\"categories\":[", &*self.categories)] {
            out.raw(name);
            for (at, text) in list.iter().enumerate() {
                out.raw(if at > 0 { "," } else { "" });
                out.string(text);
            }
            out.raw("]");
        }
        if let Some(media) = &self.media {
            out.raw(",");
            out.raw(&media.fields());
        }
        out.raw("}");
        out.check()
    }
}

/// JSON Feed 1.0 and 1.1. feed-rs reads it too, but resolves no links, takes no numbers for ids, and copies all authors
/// of the feed into each entry before anything bounds it.
#[derive(Deserialize)]
struct JsonFeed {
    version: String,
    title: Option<String>,
    home_page_url: Option<String>,
    author: Option<JsonAuthor>,
    authors: Option<Vec<JsonAuthor>>,
    items: Vec<JsonItem>,
}

#[derive(Deserialize)]
struct JsonAuthor {
    name: Option<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
struct JsonItem {
    id: Option<Json>,
    url: Option<String>,
    title: Option<String>,
    content_html: Option<String>,
    content_text: Option<String>,
    summary: Option<String>,
    date_published: Option<String>,
    date_modified: Option<String>,
    author: Option<JsonAuthor>,
    authors: Option<Vec<JsonAuthor>>,
    tags: Option<Vec<String>>,
    image: Option<Json>,
    attachments: Option<Json>,
}

fn json_feed(
    text: &str,
    base: Option<&Url>,
    (depth_max, with_media): (usize, bool),
    out: &mut Out,
) -> Result<(), Error> {
    check_nesting(text.as_bytes(), depth_max)?;
    let feed: JsonFeed = serde_json::from_str(text).map_err(|e| malformed_text(FEED, e.to_string(), text))?;
    if !feed.version.starts_with("https://jsonfeed.org/version/1") {
        let cause = format!("`version` is {:?}, not \"https://jsonfeed.org/version/1.1\"", feed.version);
        return Err(malformed_text(FEED, cause, text));
    }
    let resolved = |link: String| match base.and_then(|base| base.join(&link).ok()) {
        Some(url) => url.to_string(),
        None => link,
    };
    head(out, feed.title, feed.home_page_url.map(resolved));
    let authors: Rc<[String]> = names(feed.author, feed.authors).into();
    let entry = |item: JsonItem| {
        let own = names(item.author, item.authors);
        Entry {
            id: item.id.and_then(|id| match id {
                Json::String(text) => Some(text),
                Json::Number(number) => Some(number.to_string()),
                _ => None,
            }),
            title: item.title,
            link: item.url.map(resolved),
            summary: item.summary,
            content: item.content_html.or(item.content_text),
            published: item.date_published.map(rfc_3339),
            updated: item.date_modified.map(rfc_3339),
            // An item without authors has those of the feed (JSON Feed 1.1, "authors").
            authors: if own.is_empty() { authors.clone() } else { own.into() },
            categories: item.tags.unwrap_or_default(),
            media: with_media.then(|| {
                let mut media = Media::of_json(item.attachments.as_ref(), item.image.as_ref());
                media.resolve(base);
                media
            }),
        }
    };
    write_entries(feed.items.into_iter().map(entry).collect(), out)
}

fn names(one: Option<JsonAuthor>, list: Option<Vec<JsonAuthor>>) -> Vec<String> {
    // `author` is 1.0's; a feed of 1.1 may have both, for old readers.
    let all = list.unwrap_or_default();
    let all = if all.is_empty() { one.into_iter().collect() } else { all };
    all.into_iter().filter_map(|author| author.name.or(author.url)).collect()
}

/// A date in the one spelling of feeds here; what is not a date stays as it is.
fn rfc_3339(text: String) -> String {
    DateTime::parse_from_rfc3339(text.trim()).map_or(text, |date| time(date.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_as;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(text: &str, expect: Expect) {
        expect.assert_eq(&check_as("feed = {}", "", text.as_bytes()));
    }

    #[test]
    fn rss_2() {
        check(
            r#"<?xml version="1.0" encoding="utf-8"?>
            <rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:content="http://purl.org/rss/1.0/modules/content/"
              xmlns:media="http://search.yahoo.com/mrss/" xmlns:atom="http://www.w3.org/2005/Atom"><channel>
            <title>News &amp; more</title><atom:link rel="self" href="/feed"/><link>https://example.com/</link>
            <lastBuildDate>Mon, 23 Nov 2026 10:00:00 GMT</lastBuildDate>
            <item><title>One</title><link>/1</link><guid isPermaLink="false">tag:1</guid><description>&lt;p&gt;Short</description>
              <content:encoded><![CDATA[<p>Long&nbsp;one]]></content:encoded><pubDate>Sun, 22 Nov 2026 09:00:00 +0100</pubDate>
              <dc:creator>Ann</dc:creator><category>a</category><category>b</category>
              <media:content duration="99999999999999999999:00:00"/></item>
            <item><title>Two</title><link>https://example.com/2</link></item>
            <item><title>Three</title><pubDate>Sun, 22 Nov 2026 09:00:00 GMT</pubDate></item>
            <item><description>Four</description></item>
            </channel></rss>"#,
            expect![[
                r#"{"title":"News & more","link":"https://example.com/","entries":[{"id":"tag:1","title":"One","link":"https://example.com/1","summary":"<p>Short","content":"<p>Long&nbsp;one","published":"2026-11-22T08:00:00Z","updated":"2026-11-22T08:00:00Z","authors":["Ann"],"categories":["a","b"]},{"id":"https://example.com/2","title":"Two","link":"https://example.com/2","summary":null,"content":null,"published":null,"updated":null,"authors":[],"categories":[]},{"id":"7570815c7fe9648e77e4aa8dd54ce02a","title":"Three","link":null,"summary":null,"content":null,"published":"2026-11-22T09:00:00Z","updated":"2026-11-22T09:00:00Z","authors":[],"categories":[]},{"id":"e8fd2d8db6d0aed5227018a0185ad2d2","title":null,"link":null,"summary":"Four","content":null,"published":null,"updated":null,"authors":[],"categories":[]}]}"#
            ]],
        );
    }

    #[test]
    fn older_rss() {
        for version in ["version=\"0.91\"", "version='0.92'", "version=\"0.93\"", "version='0.94'", ""] {
            let text = format!(
                "<rss {version}><channel><title>Old</title><link>/</link><item><title>A</title><link>/a</link></item></channel></rss>"
            );
            let read = check_as("feed = {}", "", text.as_bytes());
            assert!(
                read.contains(r#"{"id":"https://example.com/a","title":"A","link":"https://example.com/a""#),
                "{read}"
            );
        }
        check(
            r#"<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
            <channel rdf:about="https://example.com/"><title>One</title><link>https://example.com/</link></channel>
            <item rdf:about="https://example.com/a"><title>A</title><link>https://example.com/a</link><description>x</description>
            <dc:date>2026-11-22T09:00:00+01:00</dc:date><dc:creator>Ann</dc:creator></item></rdf:RDF>"#,
            expect![[
                r#"{"title":"One","link":"https://example.com/","entries":[{"id":"https://example.com/a","title":"A","link":"https://example.com/a","summary":"x","content":null,"published":"2026-11-22T08:00:00Z","updated":null,"authors":["Ann"],"categories":[]}]}"#
            ]],
        );
    }

    /// The form that RSS 2.0 gives for an author came out as `(Ann)`.
    #[test]
    fn an_author_of_rss_has_no_brackets() {
        let text = "<rss version='2.0'><channel><item><title>A</title><author>ann@shop.example (Ann)</author></item></channel></rss>";
        assert!(check_as("feed = {}", "", text.as_bytes()).contains(r#""authors":["Ann"]"#));
    }

    #[test]
    fn namespaces_of_other_versions() {
        for text in [
            "<rss version='2.0' xmlns='http://backend.userland.com/rss2'><channel><item><title>A</title></item></channel></rss>",
            "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://my.netscape.com/rdf/simple/0.9/'><item><title>A</title><link>a</link></item></rdf:RDF>",
            "<feed version='0.3' xmlns='http://purl.org/atom/ns#'><entry><title>A</title></entry></feed>",
            "<feed><entry><title>A</title></entry></feed>",
            "<a:feed xmlns:a='http://www.w3.org/2005/Atom'><a:entry><a:title>A</a:title></a:entry></a:feed>",
        ] {
            let read = check_as("feed = {}", "", text.as_bytes());
            assert!(read.contains(r#","title":"A","#), "{read}");
        }
    }

    fn entries(text: &str) -> Vec<serde_json::Value> {
        let feed: serde_json::Value =
            serde_json::from_str(&check_as("feed = {}", "", text.as_bytes())).expect("a feed");
        feed["entries"].as_array().expect("entries").clone()
    }

    /// RSS 0.91's own form begins with a DOCTYPE, and was refused.
    #[test]
    fn rss_0_91_with_its_doctype() {
        let doctype = "<!DOCTYPE rss PUBLIC \"-//Netscape Communications//DTD RSS 0.91//EN\"\n \"http://my.netscape.com/publish/formats/rss-0.91.dtd\">";
        let item = "<item><title>A &eacute;</title><link>/a</link></item>";
        let text = format!(
            "<?xml version='1.0'?>\n{doctype}\n<rss version='0.91'><channel><title>t</title>{item}</channel></rss>"
        );
        let all = entries(&text);
        assert_eq!((&all[0]["title"], &all[0]["link"]), (&json!("A &eacute;"), &json!("https://example.com/a")));
    }

    /// Two items of RSS 1.0 with one link were "the same key", though each has an id.
    #[test]
    fn about_is_the_id_of_rss_1() {
        let item = |about: &str| {
            format!("<item rdf:about='{about}'><title>A</title><link>https://example.com/all</link></item>")
        };
        let text = format!(
            "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://purl.org/rss/1.0/'>{}{}</rdf:RDF>",
            item("urn:1&amp;2"),
            item("urn:2")
        );
        let ids: Vec<_> = entries(&text).iter().map(|entry| entry["id"].clone()).collect();
        assert_eq!(ids, ["urn:1&2", "urn:2"]);
    }

    /// A date that feed-rs cannot read was null, so that nobody saw it change; a title in Dublin Core was null too.
    #[test]
    fn what_feed_rs_passes_over_is_kept_as_text() {
        let dc = "xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:media='http://search.yahoo.com/mrss/'";
        for (date, read) in [
            ("2015-03-05 23:51:47", "2015-03-05 23:51:47"),
            ("Thu, 05 Mar 2015", "Thu, 05 Mar 2015"),
            (" Thu Mar  5 23:51:47 2015 ", "Thu Mar  5 23:51:47 2015"),
            ("Thu, 05 Mar 2015 23:51:47 CEST", "Thu, 05 Mar 2015 23:51:47 CEST"),
            ("gestern &amp; heute", "gestern & heute"),
            ("Thu, 05 Mar 2015 23:51:47 GMT", "2015-03-05T23:51:47Z"),
        ] {
            let rss = |element: &str| {
                format!(
                    "<rss version='2.0' {dc}><channel><item><dc:title>T <b>x</b></dc:title><media:title>no</media:title>\
                     <{element}>{date}</{element}></item></channel></rss>"
                )
            };
            for text in [rss("pubDate"), rss("dc:date")] {
                let all = entries(&text);
                assert_eq!((&all[0]["published"], &all[0]["updated"]), (&json!(read), &json!(read)), "{text}");
                assert_eq!(all[0]["title"], "T", "{text}");
            }
            let atom = format!(
                "<feed xmlns='http://www.w3.org/2005/Atom' {dc}><entry><id>1</id><title>own</title><dc:title>T</dc:title>\
                 <updated>{date}</updated></entry></feed>"
            );
            let all = entries(&atom);
            let found = (&all[0]["published"], &all[0]["updated"], &all[0]["title"]);
            assert_eq!(found, (&json!(null), &json!(read), &json!("own")), "{atom}");
        }
    }

    /// A podcast with two items of one `guid` was never polled: the newest counts, wherever it stands.
    #[test]
    fn a_doubled_id_is_the_newest_entry() {
        // Whether each has a date, and in which order: every feed of three entries and two ids.
        let dates = ["", "Sun, 22 Nov 2026 09:00:00 GMT", "Sun, 22 Nov 2026 10:30:00 +0100", "some day"];
        let value = |date: &str| match date {
            "" | "some day" => 0,
            date if date.ends_with("GMT") => 1,
            _ => 2,
        };
        for number in 0..dates.len().pow(3) * 8 {
            let of = |at: u32| dates[(number / 8 / dates.len().pow(at)) % dates.len()];
            let id = |at: u32| (number >> at) & 1;
            let item = |at: u32| {
                format!("<item><guid>{}</guid><title>{at}</title><pubDate>{}</pubDate></item>", id(at), of(at))
            };
            let text = format!("<rss version='2.0'><channel>{}{}{}</channel></rss>", item(0), item(1), item(2));
            let all = entries(&text);
            let mut titles: Vec<String> = Vec::new();
            for at in 0..3 {
                let newer =
                    |other: u32| value(of(other)) > value(of(at)) || value(of(other)) == value(of(at)) && other < at;
                if !(0..3).any(|other| other != at && id(other) == id(at) && newer(other)) {
                    titles.push(at.to_string());
                }
            }
            let found: Vec<_> = all.iter().map(|entry| entry["title"].as_str().expect("a title")).collect();
            assert_eq!(found, titles, "{text}");
        }
        let json = r#"{"version":"https://jsonfeed.org/version/1.1","items":[{"id":1,"title":"old"},{"id":1,"title":"new","date_modified":"2026-11-22T09:00:00Z"}]}"#;
        assert_eq!(entries(json).len(), 1);
        assert_eq!(entries(json)[0]["title"], "new");
    }

    /// feed-rs passes over them, and they would look deleted.
    #[test]
    fn entries_that_cannot_be_read() {
        let item = "<item><title>A</title></item>";
        check(
            &format!("<rss version='2.0'><channel>{item}</channel><channel>{item}</channel></rss>"),
            expect![
                "error: the answer is not a feed: 1 of its 2 entries cannot be read: of RSS 1.0 without a link, in a second channel, or in an unknown namespace; it begins: <rss version='2.0'><channel><item><title>A</title></item></channel><channel><ite"
            ],
        );
        let xmlns = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://purl.org/rss/1.0/'";
        check(
            &format!("<rdf:RDF {xmlns}><item><link>a</link></item>{item}</rdf:RDF>"),
            expect![
                "error: the answer is not a feed: 1 of its 2 entries cannot be read: of RSS 1.0 without a link, in a second channel, or in an unknown namespace; it begins: <rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns='http://p"
            ],
        );
        check(
            &format!("<rss version='2.0'><channel><x>{item}</x></channel></rss>"),
            expect![[r#"{"title":null,"link":null,"entries":[]}"#]],
        );
    }

    #[test]
    fn atom() {
        check(
            r#"<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://example.org/x/"><title type="html">A &lt;b&gt;</title>
            <link rel="self" href="feed"/><link href="."/><id>urn:f</id><updated>2026-11-22T09:00:00Z</updated>
            <entry><id>urn:1</id><title>One</title><link rel="edit" href="e"/><link href="1"/><updated>2026-11-22T09:00:00.5Z</updated>
            <published>2026-11-21T09:00:00+01:00</published><summary>s</summary><author><name>Ann</name><email>a@example.com</email></author>
            <author><email>b@example.com</email></author><category term="a" label="A"/>
            <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>x &amp; y</p></div></content></entry></feed>"#,
            expect![[
                r#"{"title":"A <b>","link":"https://example.org/x/","entries":[{"id":"urn:1","title":"One","link":"https://example.org/x/1","summary":"s","content":"<p>x &amp; y</p>","published":"2026-11-21T08:00:00Z","updated":"2026-11-22T09:00:00.500Z","authors":["Ann","b@example.com"],"categories":["a"]}]}"#
            ]],
        );
    }

    #[test]
    fn json_feeds() {
        check(
            r#"{"version":"https://jsonfeed.org/version/1.1","title":"J","home_page_url":"/","authors":[{"name":"Ann"}],"items":[
            {"id":1,"url":"a","content_html":"<p>x","content_text":"x","date_published":"2026-11-22T09:00:00+01:00","tags":["t"]},
            {"id":"2","author":{"name":"Bob"},"summary":"s","date_modified":"yesterday"},
            {"url":"https://example.com/3","title":"three"}]}"#,
            expect![[
                r#"{"title":"J","link":"https://example.com/","entries":[{"id":"1","title":null,"link":"https://example.com/data/a","summary":null,"content":"<p>x","published":"2026-11-22T08:00:00Z","updated":null,"authors":["Ann"],"categories":["t"]},{"id":"2","title":null,"link":null,"summary":"s","content":null,"published":null,"updated":"yesterday","authors":["Bob"],"categories":[]},{"id":"https://example.com/3","title":"three","link":"https://example.com/3","summary":null,"content":null,"published":null,"updated":null,"authors":["Ann"],"categories":[]}]}"#
            ]],
        );
        check(
            "{\"version\":\"https://jsonfeed.org/version/2\",\"items\":[]}",
            expect![[
                r#"error: the answer is not a feed: `version` is "https://jsonfeed.org/version/2", not "https://jsonfeed.org/version/1.1"; it begins: {"version":"https://jsonfeed.org/version/2","items":[]}"#
            ]],
        );
        check(
            "{\"version\":\"https://jsonfeed.org/version/1\"}",
            expect![[
                r#"error: the answer is not a feed: missing field `items` at line 1 column 44; it begins: {"version":"https://jsonfeed.org/version/1"}"#
            ]],
        );
    }

    #[test]
    fn what_is_refused() {
        check("", expect!["error: the answer is empty"]);
        check(
            "<a/>",
            expect!["error: the answer is not a feed: unable to parse feed: no root element; it begins: <a/>"],
        );
        check(
            "<rss version='2.0'></rss>",
            expect![
                "error: the answer is not a feed: unable to parse feed: no root element; it begins: <rss version='2.0'></rss>"
            ],
        );
        // A feed that is cut off would look like one of fewer entries.
        check(
            "<rss version='2.0'><channel><item><title>A</title></item>\n<item><ti",
            expect![
                "error: the answer is not a feed: line 2: syntax error: tag not closed: `>` not found before end of input; it begins: <rss version='2.0'><channel><item><title>A</title></item> <item><ti"
            ],
        );
        check(
            "<!DOCTYPE rss [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\n<rss version='2.0'><channel><title>&x;</title></channel></rss>",
            expect![
                "error: the answer is not a feed: line 1: its DOCTYPE has declarations (`[...]`), which are refused; it begins: <!DOCTYPE rss [<!ENTITY x SYSTEM 'file:///etc/passwd'>]> <rss version='2.0'><cha"
            ],
        );
        check(
            "<HTML><title>Log in</title>",
            expect![
                "error: the answer is HTML (no content type), not a feed: a login or an error page? It begins: <HTML><title>Log in</title>"
            ],
        );
        check(
            &format!("<rss version='2.0'><channel>{}", "<a>".repeat(100_000)),
            expect!["error: the answer is nested deeper than 8 (`depth-max`)"],
        );
        check(
            &format!("{{\"items\":{}", "[".repeat(100_000)),
            expect!["error: the answer is nested deeper than 8 (`depth-max`)"],
        );
    }

    /// All authors of a feed in each of its entries: bytes that are named once and written many times.
    #[test]
    fn a_small_feed_does_not_become_a_large_document() {
        let author = "{\"name\":\"an author of many entries\"}";
        // Each with an id of its own: of those with one id only the newest is written.
        let items: Vec<String> = (1000..3000).map(|id| format!("{{\"id\":{id}}}")).collect();
        let text = format!(
            "{{\"version\":\"https://jsonfeed.org/version/1.1\",\"authors\":[{}],\"items\":[{}]}}",
            vec![author; 2_000].join(","),
            items.join(",")
        );
        check(
            &text,
            expect![
                "error: the answer (a feed) has more than 1833120 bytes as JSON: it repeats its names or texts too often"
            ],
        );
    }

    #[test]
    fn a_feed_is_read_the_same_twice() {
        let text =
            "<rss version='2.0'><channel><item><title>A</title></item><item><title>B</title></item></channel></rss>";
        let read = || check_as("feed = {}", "", text.as_bytes());
        assert_eq!(read(), read());
        assert!(!read().contains("\"id\":\"\""));
    }
}
