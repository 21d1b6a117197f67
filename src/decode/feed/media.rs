//! The files that an entry of a feed names: enclosures, attachments, thumbnails and transcripts, whatever the feed
//! calls them.

use std::collections::HashSet;

use feed_rs::model;
use serde_json::{Value as Json, json};
use url::Url;

/// Of one entry.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Media {
    enclosures: Vec<File>,
    pub thumbnail: Option<String>,
    /// Of the entry itself, as it came.
    pub duration: Option<String>,
    transcripts: Vec<Transcript>,
}

#[derive(Debug, Clone, PartialEq)]
struct Transcript {
    url: String,
    kind: Option<String>,
    language: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct File {
    url: String,
    kind: Option<String>,
    /// In bytes.
    length: Json,
    /// In seconds.
    duration: Json,
    title: Option<String>,
}

impl Media {
    /// Adds a file: podcasts name one several times, and the first says most.
    pub fn file(
        &mut self,
        url: String,
        kind: Option<String>,
        length: Option<String>,
        duration: Option<String>,
        title: Option<String>,
    ) {
        let file = File { url, kind, length: number(length), duration: seconds(duration), title };
        self.enclosures.push(file);
    }

    pub fn transcript(&mut self, url: String, kind: Option<String>, language: Option<String>) {
        self.transcripts.push(Transcript { url, kind, language });
    }

    /// Atom's enclosures, which are links.
    pub fn take_links(&mut self, links: &[model::Link]) {
        for link in links.iter().filter(|link| link.rel.as_deref() == Some("enclosure")) {
            let length = link.length.map(|length| length.to_string());
            self.file(link.href.clone(), link.media_type.clone(), length, None, link.title.clone());
        }
    }

    /// Of an item of JSON Feed. What has another form than the standard's is left out, as all that is beside the shape.
    pub fn of_json(attachments: Option<&Json>, image: Option<&Json>) -> Self {
        let mut media = Self { thumbnail: image.and_then(Json::as_str).map(str::to_owned), ..Self::default() };
        for attachment in attachments.and_then(Json::as_array).into_iter().flatten() {
            let text = |name: &str| attachment.get(name).and_then(Json::as_str).map(str::to_owned);
            let value =
                |name: &str| attachment.get(name).filter(|value| value.is_number()).cloned().unwrap_or_default();
            let Some(url) = text("url") else { continue };
            let (length, duration) = (value("size_in_bytes"), value("duration_in_seconds"));
            media.enclosures.push(File { url, kind: text("mime_type"), length, duration, title: text("title") });
        }
        media
    }

    /// Makes links absolute.
    pub fn resolve(&mut self, base: Option<&Url>) {
        let Some(base) = base else { return };
        let files = self.enclosures.iter_mut().map(|file| &mut file.url);
        let transcripts = self.transcripts.iter_mut().map(|transcript| &mut transcript.url);
        for link in files.chain(transcripts).chain(&mut self.thumbnail) {
            if let Ok(url) = base.join(link) {
                *link = url.to_string();
            }
        }
    }

    /// The fields of its entry, without the braces around them.
    pub fn fields(&self) -> String {
        let mut known = HashSet::new();
        let once = self.enclosures.iter().filter(|file| known.insert(file.url.as_str()));
        let enclosures: Vec<Json> = once.map(File::json).collect();
        let transcripts: Vec<Json> = self.transcripts.iter().map(Transcript::json).collect();
        let duration = seconds(self.duration.clone());
        let fields = json!({
            "enclosures": enclosures, "thumbnail": self.thumbnail, "duration": duration, "transcripts": transcripts,
        });
        fields.to_string().trim_start_matches('{').trim_end_matches('}').to_owned()
    }
}

impl File {
    fn json(&self) -> Json {
        let Self { url, kind, length, duration, title } = self;
        json!({ "url": url, "type": kind, "length": length, "duration": duration, "title": title })
    }
}

impl Transcript {
    fn json(&self) -> Json {
        json!({ "url": self.url, "type": self.kind, "language": self.language })
    }
}

/// A whole number, or what came in its place.
fn number(text: Option<String>) -> Json {
    text.map_or(Json::Null, |text| text.parse::<u64>().map_or_else(|_| text.into(), Json::from))
}

/// Seconds of `3723`, `62:03` or `1:02:03`, or what came in their place.
fn seconds(text: Option<String>) -> Json {
    let Some(text) = text else { return Json::Null };
    let sum = text.split(':').try_fold(0_u64, |sum, part| {
        let part = part.trim().parse::<u64>().ok()?;
        sum.checked_mul(60)?.checked_add(part)
    });
    let is_time = text.matches(':').count() <= 2;
    sum.filter(|_| is_time).map_or_else(|| text.into(), Json::from)
}

#[cfg(test)]
mod tests {
    use super::{super::super::tests::check_as, *};

    fn entry(text: &str) -> Json {
        let feed = check_as("feed = { media = true }", "", text.as_bytes());
        let feed: Json = serde_json::from_str(&feed).unwrap_or_else(|_| panic!("{feed}"));
        feed["entries"][0].clone()
    }

    #[test]
    fn durations_in_every_form() {
        for (text, expected) in [
            ("3723", json!(3723)),
            ("62:03", json!(3723)),
            ("1:02:03", json!(3723)),
            ("1:2:3:4", json!("1:2:3:4")),
            ("1h", json!("1h")),
            ("99999999999999999999:00:00", json!("99999999999999999999:00:00")),
        ] {
            assert_eq!(seconds(Some(text.into())), expected, "{text}");
        }
    }

    const NAMESPACES: &str = "xmlns:media='http://search.yahoo.com/mrss/' xmlns:i='http://www.itunes.com/DTDs/Podcast-1.0.dtd' \
                              xmlns:p='https://podcastindex.org/namespace/1.0'";

    /// A podcast's file was to be had by `decode.xml` only, with a key made by hand.
    #[test]
    fn files_of_every_kind_of_feed() {
        let file = json!({ "url": "https://example.com/data/a.mp3", "type": "audio/mpeg", "length": 7, "duration": null, "title": null });
        let enclosure = "<enclosure url='a.mp3' type='audio/mpeg' length='7'/>";
        let rss = format!(
            "<rss version='2.0' {NAMESPACES}><channel><item><guid>1</guid>{enclosure}<i:duration>1:02</i:duration>\
             <media:group><media:content url='a.mp3' fileSize='8'/><media:content url='/b.mp4' duration='9' fileSize='many'/></media:group>\
             <media:thumbnail url='t.png'/><media:thumbnail url='u.png'/><p:transcript url='t.srt' type='text/srt' language='en'/>\
             </item></channel></rss>"
        );
        let found = entry(&rss);
        let second =
            json!({ "url": "https://example.com/b.mp4", "type": null, "length": "many", "duration": 9, "title": null });
        assert_eq!(found["enclosures"], json!([file, second]));
        assert_eq!(found["thumbnail"], "https://example.com/data/t.png");
        assert_eq!(found["duration"], 62);
        let transcript = json!({ "url": "https://example.com/data/t.srt", "type": "text/srt", "language": "en" });
        assert_eq!(found["transcripts"], json!([transcript]));
        let atom = format!(
            "<feed xmlns='http://www.w3.org/2005/Atom' {NAMESPACES}><entry><id>1</id><title>A</title>\
             <link rel='enclosure' href='a.mp3' type='audio/mpeg' length='7'/><link href='x'/></entry></feed>"
        );
        assert_eq!(entry(&atom)["enclosures"], json!([file]));
        let json = r#"{"version":"https://jsonfeed.org/version/1.1","items":[{"id":"1","image":"t.png","attachments":[
            {"url":"a.mp3","mime_type":"audio/mpeg","size_in_bytes":7},{"mime_type":"x"},7]}]}"#;
        assert_eq!(
            (&entry(json)["enclosures"], &entry(json)["thumbnail"]),
            (&json!([file]), &json!("https://example.com/data/t.png"))
        );
        // An entry without any has the same fields, and a bridge that does not want them has none.
        let bare = entry("<rss version='2.0'><channel><item><guid>1</guid></item></channel></rss>");
        assert_eq!(
            (&bare["enclosures"], &bare["thumbnail"], &bare["duration"]),
            (&json!([]), &json!(null), &json!(null))
        );
        assert!(!check_as("feed = {}", "", rss.as_bytes()).contains("enclosures"));
    }

    /// Numbers at which feed-rs panics.
    #[test]
    fn numbers_beyond_reason_are_texts() {
        let huge = "99999999999999999999:00:00";
        let rss = format!(
            "<rss version='2.0' {NAMESPACES}><channel><item><guid>1</guid><i:duration>{huge}</i:duration>\
             <media:content url='a' duration='{huge}' fileSize='-1'/></item></channel></rss>"
        );
        let found = entry(&rss);
        let file = &found["enclosures"][0];
        assert_eq!(
            (&found["duration"], &file["duration"], &file["length"]),
            (&json!(huge), &json!(huge), &json!("-1"))
        );
    }
}
