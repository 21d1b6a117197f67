//! Answers of every kind, polled: what changes in them becomes events, and a hostile one changes nothing.

use bellpull::poller::Polling;

use crate::support::{
    rig::World,
    server::{Answer, Reply},
};

/// A bridge with these lines, whose keys are strings.
async fn world(lines: &str) -> World {
    World::start(&format!(
        "[bridge.orders]\nevery = \"100ms\"\nto = [\"me\"]\ndeletes.after = 1\nguard.deletes = 1.0\n{lines}\n\
         source.http.url = \"UPSTREAM/data/list\"\n"
    ))
    .await
}

fn answer(content_type: &str, body: impl Into<Vec<u8>>) -> Reply {
    Answer::new(200, body).header("content-type", content_type).into()
}

/// Polls three records, then the same without the second and with another third and a fourth.
async fn polls(lines: &str, content_type: &str, before: impl Into<Vec<u8>>, after: impl Into<Vec<u8>>) -> World {
    let (before, after) = (before.into(), after.into());
    let mut world = world(lines).await;
    world.upstream.next(answer(content_type, before.clone()));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 }, "{lines}");
    world.upstream.next(answer(content_type, before));
    assert_eq!(world.poll().await, Polling::Unchanged, "{lines}");
    world.upstream.next(answer(content_type, after.clone()));
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 1, deleted: 1 }, "{lines}");
    world.upstream.next(answer(content_type, after));
    assert_eq!(world.poll().await, Polling::Unchanged, "{lines}");
    assert_eq!(
        world.rig.lines().await,
        ["orders.created 4 #1", "orders.updated 3 #2", "orders.deleted 2 #3"],
        "{lines}"
    );
    world
}

/// The `after` of the record that was created.
async fn created(world: &World) -> String {
    world.rig.events().await[0]["data"]["after"].to_string()
}

#[tokio::test]
async fn xml() {
    let list = |items: &str| format!("<?xml version=\"1.0\"?>\n<list xmlns=\"urn:l\">\n{items}</list>\n");
    let world = polls(
        "items = \".list.item[]\"\nkey = \".\\\"@id\\\"\"",
        "text/xml; charset=utf-8",
        list("<item id='1'>a</item><item id='2'>b</item><item id='3'>c</item>"),
        list(
            "<item id='1'>a</item>\n <item id='3'>C</item><item id='4'><name>d &amp; é</name><tag/><tag>x</tag></item>",
        ),
    )
    .await;
    assert_eq!(created(&world).await, r#"{"@id":"4","name":"d & é","tag":["","x"]}"#);
}

/// A list of one is a list, where the file says so.
#[tokio::test]
async fn xml_with_a_list_of_one() {
    let mut world =
        world("items = \".list.item[]\"\nkey = \".id\"\nsource.http.decode.xml = { lists = [\"item\"] }").await;
    world.upstream.next(answer("application/xml", "<list><item><id>1</id></item></list>"));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
}

#[tokio::test]
async fn csv() {
    let world = polls(
        "items = \".[]\"\nkey = \".nr\"",
        "text/csv",
        "nr,name\r\n1,a\r\n2,b\r\n3,c\r\n",
        "nr,name\r\n1,a\r\n3,\"c\r\nd\"\r\n4,\"d, \"\"e\"\"\"\r\n",
    )
    .await;
    assert_eq!(created(&world).await, r#"{"name":"d, \"e\"","nr":"4"}"#);
    polls(
        "items = \".[]\"\nkey = \".nr\"",
        "text/tab-separated-values",
        "nr\tn\n1\ta\n2\tb\n3\tc",
        "nr\tn\n1\ta\n3\tC\n4\td",
    )
    .await;
    polls(
        "items = \".[]\"\nkey = \".\\\"1\\\"\"\nsource.http.decode.csv = { delimiter = \";\", header = false }",
        "text/plain",
        "1;a\n2;b\n3;c",
        "1;a\n3;C\n4;d",
    )
    .await;
}

#[tokio::test]
async fn rss() {
    let feed = |items: &[(u8, &str)]| {
        let items: String = items
            .iter()
            .map(|(id, title)| format!("<item><guid>{id}</guid><title>{title}</title><link>/{id}</link></item>\n"))
            .collect();
        format!(
            "<?xml version=\"1.0\"?>\n<rss version=\"2.0\"><channel><title>News</title><link>https://example.com/</link>\n{items}</channel></rss>"
        )
    };
    let (before, after) = (feed(&[(1, "a"), (2, "b"), (3, "c")]), feed(&[(4, "d"), (3, "C"), (1, "a")]));
    for content_type in ["application/rss+xml", "text/xml", "application/xml; charset=utf-8"] {
        let world = polls("items = \".entries[]\"\nkey = \".id\"", content_type, before.clone(), after.clone()).await;
        let expected = format!(
            r#"{{"authors":[],"categories":[],"content":null,"id":"4","link":"{}/4","published":null,"summary":null,"title":"d","updated":null}}"#,
            world.upstream.origin()
        );
        assert_eq!(created(&world).await, expected);
    }
}

#[tokio::test]
async fn atom() {
    let feed = |entries: &[(u8, &str)]| {
        let entries: String = entries
            .iter()
            .map(|(id, title)| {
                format!("<entry><id>{id}</id><title>{title}</title><link href='{id}'/><updated>2026-11-22T09:00:00Z</updated></entry>")
            })
            .collect();
        format!("<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>News</title><id>f</id>{entries}</feed>")
    };
    polls(
        "items = \".entries[]\"\nkey = \".id\"",
        "application/atom+xml",
        feed(&[(1, "a"), (2, "b"), (3, "c")]),
        feed(&[(1, "a"), (3, "C"), (4, "d")]),
    )
    .await;
}

/// Entries without an id keep the one that is made for them, through a restart too.
#[tokio::test]
async fn a_feed_without_ids() {
    let feed = |titles: &[&str]| {
        let items: String = titles.iter().map(|title| format!("<item><title>{title}</title></item>")).collect();
        format!("<rss version=\"2.0\"><channel><title>News</title>{items}</channel></rss>")
    };
    let text = "[bridge.news]\nevery = \"100ms\"\nitems = \".entries[]\"\nkey = \".id\"\nto = [\"me\"]\ndeletes.after = 1\n\
        source.http.url = \"UPSTREAM/feed\"\n";
    let mut world = World::start(text).await;
    world.upstream.next(answer("application/rss+xml", feed(&["a", "b"])));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    world.restart(text).await;
    world.upstream.next(answer("application/rss+xml", feed(&["c", "b", "a"])));
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 0, deleted: 0 });
}

#[tokio::test]
async fn json_feed() {
    let feed =
        |items: &str| format!(r#"{{"version":"https://jsonfeed.org/version/1.1","title":"News","items":[{items}]}}"#);
    let world = polls(
        "items = \".entries[]\"\nkey = \".id\"",
        "application/feed+json",
        feed(r#"{"id":1,"title":"a"},{"id":2,"title":"b"},{"id":"3","title":"c"}"#),
        feed(r#"{"id":"1","title":"a"},{"id":3,"title":"C"},{"id":4,"url":"4","content_text":"d"}"#),
    )
    .await;
    let expected = format!("\"link\":\"{}/data/4\"", world.upstream.origin());
    assert!(created(&world).await.contains(&expected), "{}", created(&world).await);
}

#[tokio::test]
async fn html() {
    let page = |items: &str| format!("<!doctype html><title>Jobs</title><ul>{items}</ul>");
    let world = polls(
        "items = \".[]\"\nkey = \".id\"\nsource.http.decode.html = { select = \"li\", fields = { id = \"@id\", name = \"b\", url = \"a@href\" } }",
        "text/html; charset=utf-8",
        page("<li id=1><b>a</b><li id=2><b>b</b><li id=3><b>c</b>"),
        page("<li id=1><b>\n a </b></li><li id=3><b>C</b><li id=4><b>d &amp; e<a href='/4'>more</a>"),
    )
    .await;
    assert_eq!(created(&world).await, r#"{"id":"4","name":"d & emore","url":"/4"}"#);
}

#[tokio::test]
async fn text() {
    let mut world = world("source.http.decode.text = {}").await;
    world.upstream.next(answer("text/plain; charset=iso-8859-1", b"all is \xe9t\xe9".to_vec()));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    world.upstream.next(answer("text/plain", "degraded"));
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 1, deleted: 0 });
    let event = world.rig.events().await.remove(0);
    assert_eq!(event["data"]["before"], "all is été");
    assert_eq!(event["data"]["after"], "degraded");
    world.upstream.next(Answer::new(404, ""));
    world.fail().await;
}

/// A document that is replaced by one in which one line is gone and one is new.
#[tokio::test]
async fn text_of_many_lines() {
    polls(
        "items = \"split(\\\"\\\\n\\\")[] | select(. != \\\"\\\") | { id: .[:1], line: . }\"\nkey = \".id\"\nsource.http.decode.text = {}",
        "text/plain",
        "1 a\n2 b\n3 c\n",
        "1 a\n3 C\n4 d\n",
    )
    .await;
}

#[tokio::test]
async fn charsets() {
    let body = |three: &str, four: &str| format!("nr,name\n1,Jürgen\n{three}{four}");
    let (before, after) = (body("2,b\n3,ß\n", ""), body("3,ẞ\n", "4,é\n").replace('ẞ', "ö"));
    let latin = |text: &str| -> Vec<u8> { text.chars().map(|c| u8::try_from(c).expect("latin-1")).collect() };
    let utf_16 = |text: &str, bom: &str| -> Vec<u8> {
        format!("{bom}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let keys = "items = \".[]\"\nkey = \".nr\"";
    let bodies = |encode: &dyn Fn(&str) -> Vec<u8>| [encode(&before), encode(&after)];
    for (lines, content_type, [before, after]) in [
        ("", "text/csv; charset=iso-8859-1", bodies(&latin)),
        ("source.http.decode.csv = { charset = \"windows-1252\" }", "text/csv; charset=utf-8", bodies(&latin)),
        ("", "text/csv", bodies(&|text| utf_16(text, "\u{feff}"))),
        ("source.http.decode.csv.charset = \"utf-16le\"", "text/csv", bodies(&|text| utf_16(text, ""))),
    ] {
        let world = polls(&format!("{keys}\n{lines}"), content_type, before, after).await;
        assert_eq!(created(&world).await, r#"{"name":"é","nr":"4"}"#);
    }
    // XML says it itself; what is not in latin-1 is in windows-1252.
    let xml = |items: &str| latin(&format!("<?xml version=\"1.0\" encoding=\"windows-1252\"?><l>{items}</l>"));
    let world = polls(
        "items = \".l.i[]\"\nkey = \".n\"",
        "text/xml",
        xml("<i><n>1</n></i><i><n>2</n></i><i><n>3</n></i>"),
        xml("<i><n>1</n></i><i><n>3</n>x</i><i><n>4</n>\u{80}</i>"),
    )
    .await;
    assert_eq!(created(&world).await, r##"{"#text":"€","n":"4"}"##);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).expect("memory takes it");
    out.finish().expect("memory takes it")
}

/// Exports are kept as `.gz` files; some servers unpack them on the way, and some pack them twice.
#[tokio::test]
async fn a_file_of_gzip_is_unpacked() {
    let list = |fourth: &str| format!("nr,n\n1,a\n{fourth}\n3,c\n").into_bytes();
    let text = "[bridge.orders]\nevery = \"100ms\"\nto = [\"me\"]\nitems = \".[]\"\nkey = \".nr\"\n\
                source.http.decode.csv = {}\nsource.http.url = \"UPSTREAM/export.CSV.gz?day=1\"\n";
    let mut world = World::start(text).await;
    world.upstream.next(answer("application/octet-stream", gzip(&list("2,b"))));
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    world.upstream.next(answer("text/csv", list("2,b")));
    assert_eq!(world.poll().await, Polling::Unchanged);
    world.upstream.next(Answer::new(200, gzip(&list("2,b"))).header("content-encoding", "gzip"));
    assert_eq!(world.poll().await, Polling::Unchanged);
    world.upstream.next(Answer::new(200, gzip(&gzip(&list("2,B")))).header("content-encoding", "gzip"));
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 1, deleted: 0 });
    // Cut off it is not a file.
    let whole = gzip(&list("2,x"));
    world.upstream.next(answer("application/gzip", &whole[..whole.len() - 9]));
    assert!(world.fail().await.contains("ended early or is damaged"));
    // By its type alone, under another name.
    let text = "[bridge.orders]\nevery = \"100ms\"\nto = [\"me\"]\nitems = \".[]\"\nkey = \".id\"\n\
                source.http.url = \"UPSTREAM/export\"\n";
    let mut world = World::start(text).await;
    world.upstream.next(answer("application/gzip", gzip(br#"[{"id":1}]"#)));
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
}

/// A server that names an encoding that nobody knows was refused; browsers take what it sends as it is.
#[tokio::test]
async fn an_unknown_content_encoding_is_read_as_it_comes() {
    let mut world = world("items = \".[]\"\nkey = \".id\"").await;
    for encoding in ["utf-8", "none", "snappy"] {
        world.upstream.next(Answer::json(r#"[{"id":"1"}]"#).header("content-encoding", encoding));
        world.poll().await;
    }
    assert_eq!(world.rig.snapshot().await.len(), 1);
}

/// Half an emoji in one record of 51 stopped the other 50, whatever kind of JSON it stood in.
#[tokio::test]
async fn half_a_surrogate_pair_stops_no_record() {
    let list = r#"[{"id":"1","t":"a"},{"id":"2","t":"x \ud83d"}]"#;
    let lines = "{\"id\":\"1\",\"t\":\"a\"}\n{\"id\":\"2\",\"t\":\"x \\ud83d\"}\n";
    let feed = r#"{"version":"https://jsonfeed.org/version/1.1","items":[{"id":"1"},{"id":"2","title":"x \ud83d"}]}"#;
    for (items, content_type, body) in [
        (".[]", "application/json", list),
        (".[] | select(true)", "application/json", list),
        (".[]", "application/x-ndjson", lines),
        (".entries[]", "application/feed+json", feed),
    ] {
        let mut world = world(&format!("items = \"{items}\"\nkey = \".id\"")).await;
        world.upstream.next(answer(content_type, body));
        assert_eq!(world.poll().await, Polling::Baseline { records: 2 }, "{items} {content_type}");
        assert!(world.rig.snapshot().await["2"].contains("x \u{fffd}"), "{items} {content_type}");
        assert_eq!(world.rig.polled().progress.flaws.replaced, 1, "{items} {content_type}");
        world.upstream.next(answer(content_type, body.replace("\\ud83d", "y")));
        assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 1, deleted: 0 });
        assert!(world.rig.polled().progress.flaws.is_none());
    }
}

/// An edit of a decoder's options is an edit of the definition: what is known is compared under its guard.
#[tokio::test]
async fn an_edited_decoder_is_an_edited_definition() {
    let text = |options: &str| {
        format!(
            "[bridge.orders]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".\\\"1\\\" // .nr\"\nto = [\"me\"]\n\
             source.http.url = \"UPSTREAM/list\"\nsource.http.decode.csv = {{ {options} }}\n"
        )
    };
    let body = || answer("text/csv", "nr,name\n1,a\n2,b\n");
    let mut world = World::start(&text("")).await;
    world.upstream.next(body());
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    world.upstream.next(body());
    assert_eq!(world.poll().await, Polling::Unchanged);
    world.restart(&text("header = false")).await;
    world.upstream.next(body());
    // The header is a record now, and both others have other fields.
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 2, deleted: 0 });
}

/// A good answer, then a hostile one, then the good one with a change: the hostile one fails, says what it is and
/// leaves everything as it was.
async fn hostile(lines: &str, content_type: &str, good: [&str; 2], bad: impl Into<Vec<u8>>, words: &[&str]) {
    let mut world = world(lines).await;
    world.upstream.next(answer(content_type, good[0]));
    assert!(matches!(world.poll().await, Polling::Baseline { records } if records > 0));
    let (before, snapshot) = (world.rig.export().await, world.rig.snapshot().await);
    world.upstream.next(answer(content_type, bad));
    let error = world.fail().await;
    for word in words {
        assert!(error.contains(word), "{error:?} says {word:?}");
    }
    assert!(error.len() < 500 && !error.contains("root:x:0"), "{error}");
    assert_eq!(world.rig.export().await, before, "the snapshot and the queue are as they were");
    assert_eq!(world.rig.snapshot().await, snapshot);
    world.upstream.next(answer(content_type, good[1]));
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 1, deleted: 0 });
}

const XML: &str = "items = \".l.i[]\"\nkey = \".\\\"@id\\\"\"\nsource.http.decode.xml = { lists = [\"i\"] }";
const XML_GOOD: [&str; 2] = ["<l><i id='1'>a</i></l>", "<l><i id='1'>b</i></l>"];
const CSV: &str = "items = \".[]\"\nkey = \".id\"\nsource.http.decode.csv = {}";
const CSV_GOOD: [&str; 2] = ["id,v\n1,a\n", "id,v\n1,b\n"];
const FEED: &str = "items = \".entries[]\"\nkey = \".id\"\nsource.http.decode.feed = {}";
const FEED_GOOD: [&str; 2] = [
    "<rss version='2.0'><channel><item><guid>1</guid><title>a</title></item></channel></rss>",
    "<rss version='2.0'><channel><item><guid>1</guid><title>b</title></item></channel></rss>",
];
const HTML: &str = "items = \".[]\"\nkey = \".id\"\nsource.http.decode.html = { select = \"li\", fields = { id = \"@id\", t = \"b\" } }";
const HTML_GOOD: [&str; 2] = ["<li id=1><b>a</b>", "<li id=1><b>b</b>"];
const JSON: &str = "items = \".[]\"\nkey = \".id\"\nsource.http.decode.json = {}";
const JSON_GOOD: [&str; 2] = [r#"[{"id":1,"v":1}]"#, r#"[{"id":1,"v":2}]"#];

fn feed_of(ids: &[u32]) -> String {
    let items: String = ids.iter().map(|id| format!("<item><guid>{id}</guid><title>t{id}</title></item>")).collect();
    format!("<rss version='2.0'><channel>{items}</channel></rss>")
}

/// An entry that scrolled off its feed was `deleted`, unless the file knew the word `window`.
#[tokio::test]
async fn a_feed_is_a_window_unless_the_file_says_otherwise() {
    for (line, deleted) in [("", 0), ("window = true\n", 0), ("window = false\n", 1)] {
        let mut world = world(&format!("{line}{FEED}")).await;
        world.upstream.next(answer("application/rss+xml", feed_of(&[2, 1])));
        assert_eq!(world.poll().await, Polling::Baseline { records: 2 }, "{line:?}");
        world.upstream.next(answer("application/rss+xml", feed_of(&[3, 2])));
        assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 0, deleted }, "{line:?}");
        // One that comes back is not created again while it is known.
        world.upstream.next(answer("application/rss+xml", feed_of(&[3, 2, 1])));
        let again = if deleted == 0 { Polling::Same } else { Polling::Changed { created: 1, updated: 0, deleted: 0 } };
        assert_eq!(world.poll().await, again, "{line:?}");
    }
}

/// The store of a bridge that was a complete list holds it while the bridge becomes a window, and back.
#[tokio::test]
async fn a_list_that_becomes_a_window_tells_nothing_twice() {
    let text = |window: &str| {
        format!(
            "[bridge.orders]\nevery = \"100ms\"\nto = [\"me\"]\ndeletes.after = 1\nguard.deletes = 1.0\nguard.definition = 1.0\n{window}{FEED}\n\
             source.http.url = \"UPSTREAM/data/list\"\n"
        )
    };
    let mut world = World::start(&text("window = false\n")).await;
    world.upstream.next(answer("application/rss+xml", feed_of(&[2, 1])));
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    world.restart(&text("")).await;
    world.upstream.next(answer("application/rss+xml", feed_of(&[3, 2])));
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 0, deleted: 0 });
    world.restart(&text("window = false\n")).await;
    world.upstream.next(answer("application/rss+xml", feed_of(&[4, 3, 2])));
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 0, deleted: 1 });
}

/// A part of a list was taken for all of it, and the rest was `deleted`.
#[tokio::test]
async fn a_part_is_never_the_whole_list() {
    const ACCEPT: &str = "source.http.accept = [200, 206, 226]";
    for (status, name) in [(206, "Partial Content"), (226, "IM Used")] {
        let part = || -> Reply {
            Answer::new(status, r#"[{"id":1,"v":1}]"#).header("content-type", "application/json").into()
        };
        let mut whole = world(&format!("{JSON}\n{ACCEPT}")).await;
        whole.upstream.next(answer("application/json", r#"[{"id":1,"v":1},{"id":2,"v":1}]"#));
        whole.poll().await;
        let before = whole.rig.export().await;
        whole.upstream.next(part());
        let error = whole.fail().await;
        let expected =
            format!("{} answered {status} {name}: a part is not taken for the whole list", whole.upstream.origin());
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(whole.rig.export().await, before);
        // A window, and a walk over pages of which each is a part.
        for lines in ["window = true\n", "source.http.pages.link = {}\n"] {
            let mut world = world(&format!("{lines}{JSON}\n{ACCEPT}")).await;
            world.upstream.next(part());
            assert_eq!(world.poll().await, Polling::Baseline { records: 1 }, "{lines}");
        }
    }
}

#[tokio::test]
async fn events_of_a_stream_that_ends() {
    let events = |all: &[&str]| -> String {
        all.iter().map(|json| format!(": ping\r\nevent: order\r\ndata: {json}\r\n\r\n")).collect::<String>()
            + "data: half"
    };
    for decoder in ["", "\nsource.http.decode.sse = {}"] {
        polls(
            &format!("items = '.[] | select(.event == \"order\").data | fromjson'\nkey = \".id\"{decoder}"),
            "text/event-stream",
            events(&[r#"{"id":"1"}"#, r#"{"id":"2"}"#, r#"{"id":"3"}"#]),
            events(&[r#"{"id":"1"}"#, r#"{"id":"3","v":1}"#, r#"{"id":"4"}"#]),
        )
        .await;
    }
}

#[tokio::test]
async fn a_billion_laughs() {
    let mut laughs = "<?xml version=\"1.0\"?>\n<!DOCTYPE l [\n<!ENTITY a \"ha\">\n".to_owned();
    for (name, of) in ('b'..='j').zip('a'..='i') {
        laughs.push_str(&format!("<!ENTITY {name} \"{}\">\n", format!("&{of};").repeat(10)));
    }
    let words = ["line 2", "its DOCTYPE has declarations (`[...]`), which are refused"];
    hostile(XML, "text/xml", XML_GOOD, format!("{laughs}]>\n<l><i id='1'>&j;</i></l>"), &words).await;
    let feed = format!("{laughs}]>\n<rss version='2.0'><channel><title>&j;</title></channel></rss>");
    hostile(FEED, "application/rss+xml", FEED_GOOD, feed, &words).await;
}

#[tokio::test]
async fn an_entity_that_reads_a_file_or_an_address() {
    let words = ["line 1", "its DOCTYPE has declarations (`[...]`), which are refused"];
    for entity in [
        "<!DOCTYPE l [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>",
        "<!DOCTYPE l [<!ENTITY % x SYSTEM \"http://169.254.169.254/\"> %x;]>",
    ] {
        hostile(XML, "text/xml", XML_GOOD, format!("{entity}<l><i id='1'>&x;</i></l>"), &words).await;
        let feed = format!("{entity}<rss version='2.0'><channel><title>&x;</title></channel></rss>");
        hostile(FEED, "text/xml", FEED_GOOD, feed, &words).await;
    }
    let words = ["line 1: the entity &x; is not one of XML's own five"];
    for doctype in ["", "<!DOCTYPE l SYSTEM \"file:///etc/passwd\">"] {
        hostile(XML, "text/xml", XML_GOOD, format!("{doctype}<l><i id='1'>&x;</i></l>"), &words).await;
    }
}

#[tokio::test]
async fn documents_nested_too_deep() {
    let words = ["the answer is nested deeper than 128 (`depth-max`)"];
    hostile(XML, "text/xml", XML_GOOD, "<i>".repeat(100_000), &words).await;
    hostile(FEED, "text/xml", FEED_GOOD, format!("<rss version='2.0'>{}", "<i>".repeat(100_000)), &words).await;
    hostile(FEED, "application/feed+json", FEED_GOOD, "{\"items\":".repeat(100_000), &words).await;
    hostile(JSON, "application/json", JSON_GOOD, "[".repeat(100_000), &words).await;
    let words = ["its elements are nested deeper than 512"];
    hostile(HTML, "text/html", HTML_GOOD, "<div>".repeat(100_000), &words).await;
}

#[tokio::test]
async fn a_document_that_grows() {
    let header: Vec<String> = (0..2_000).map(|n| format!("a_long_name_of_a_column_{n}")).collect();
    let rows = format!("\n{}", ",".repeat(1_999)).repeat(1_000);
    let words = ["the answer (CSV) has more than", "as JSON"];
    hostile(CSV, "text/csv", CSV_GOOD, header.join(",") + &rows, &words).await;
}

#[tokio::test]
async fn a_login_page_instead_of_data() {
    let page = "<!DOCTYPE html>\n<html><title>Sign in</title><form>";
    for (lines, content_type, good, expected) in [
        (XML, "text/xml", XML_GOOD, "XML"),
        (CSV, "text/csv", CSV_GOOD, "CSV"),
        (FEED, "application/rss+xml", FEED_GOOD, "a feed"),
        (JSON, "application/json", JSON_GOOD, "JSON"),
    ] {
        let words = [&format!("not {expected}: a login or an error page?"), "<title>Sign in</title>"];
        hostile(lines, content_type, good, page, &words).await;
        // Under its own name too, however it looks.
        let mut world = world(lines).await;
        world.upstream.next(answer("text/html; charset=utf-8", "<p>Please sign in"));
        let error = world.fail().await;
        assert!(error.contains(&format!("the answer is HTML (text/html; charset=utf-8), not {expected}")), "{error}");
    }
}

#[tokio::test]
async fn bytes_of_another_charset() {
    let latin = |text: &str| -> Vec<u8> { text.chars().map(|c| u8::try_from(c).expect("latin-1")).collect() };
    let words = ["it is not UTF-8: invalid utf-8 sequence of 1 bytes from index"];
    hostile(XML, "text/xml", XML_GOOD, latin("<l><i id='1'>é!</i></l>"), &words).await;
    hostile(CSV, "text/csv", CSV_GOOD, latin("id,v\n1,é!\n"), &words).await;
    hostile(
        FEED,
        "text/xml",
        FEED_GOOD,
        latin("<rss version='2.0'><channel><title>é!</title></channel></rss>"),
        &words,
    )
    .await;
    hostile(HTML, "text/html", HTML_GOOD, latin("<li id=1>é!"), &words).await;
    hostile(JSON, "application/json", JSON_GOOD, latin(r#"[{"id":1,"v":"é!"}]"#), &words).await;
    let japanese = CSV.replace("csv = {}", "csv = { charset = \"shift_jis\" }");
    let words = ["it is not Shift_JIS: malformed bytes from index 7"];
    hostile(&japanese, "text/csv", CSV_GOOD, b"id,v\n1,\x82\n".to_vec(), &words).await;
    let xml = "<?xml version=\"1.0\" encoding=\"klingon\"?><l><i id='1'>b</i></l>";
    hostile(XML, "text/xml", XML_GOOD, xml, &["\"klingon\" is not a known charset", "set `charset`"]).await;
}

/// What was cut off without a word, or does not fit, is not a shorter list.
#[tokio::test]
async fn documents_that_are_damaged() {
    hostile(XML, "text/xml", XML_GOOD, "<l><i id='1'>a</i>\n", &["line 2: it ends within <l>"]).await;
    hostile(XML, "text/xml", XML_GOOD, "<l>\n</i></l>", &["line 2", "expected `</l>`, but `</i>` was found"]).await;
    hostile(XML, "text/xml", XML_GOOD, "<l/>\n\n<l/>", &["line 3: a second root element"]).await;
    let feed = "<rss version='2.0'><channel><item><guid>2</guid></item>\n";
    hostile(FEED, "text/xml", FEED_GOOD, feed, &["line 2: it ends within <channel>"]).await;
    hostile(CSV, "text/csv", CSV_GOOD, "id,v\n2,a\n3\n", &["line 3: the header has 2 fields, this row has 1"]).await;
    hostile(CSV, "text/csv", CSV_GOOD, "id,v\n2,\"a\n3,b\n", &["the quote of line 2 is never closed"]).await;
    hostile(CSV, "text/csv", CSV_GOOD, "id,v,v\n2,a,b\n", &["the header has two columns \"v\""]).await;
    hostile(CSV, "text/csv", CSV_GOOD, "", &["the answer is empty"]).await;
    hostile(HTML, "text/html", HTML_GOOD, " \n", &["the answer is empty"]).await;
}
