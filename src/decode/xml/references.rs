//! SOAP 1.1, section 5: `href="#id"` stands for the element that has the `id`, which may stand elsewhere and be meant
//! several times.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};

use super::{
    super::{Error, Out, check_nesting, malformed},
    local,
};

/// What of an element is about its being meant, and nothing of its value.
const OF_REFERENCES: [&str; 3] = ["@id", "@root", "@encodingStyle"];

/// A document in which each reference is what it stands for. One to an element around it, or to none, stays as it is;
/// what grows beyond `out`, or is nested deeper than allowed, is an error.
pub(super) fn resolve(document: &[u8], out: Out, depth_max: usize) -> Result<Vec<u8>, Error> {
    check_nesting(document, depth_max)?;
    let document: Json = serde_json::from_slice(document).map_err(|error| malformed(&error, document))?;
    let mut by_id = HashMap::new();
    find(&document, &mut by_id);
    let mut writer = Writer { by_id, out, depth_max, meant: Vec::new() };
    writer.write(&document, 0)?;
    writer.out.finish()
}

/// Of an object the attribute of a name, whatever its prefix.
fn attribute<'a>(object: &'a Map<String, Json>, name: &str) -> Option<&'a str> {
    let is = |key: &str| key.strip_prefix('@').is_some_and(|key| local(key) == name);
    object.iter().find(|(key, _)| is(key))?.1.as_str()
}

/// All elements that have an id; of several the first.
fn find<'a>(value: &'a Json, by_id: &mut HashMap<&'a str, &'a Map<String, Json>>) {
    match value {
        Json::Array(all) => all.iter().for_each(|value| find(value, by_id)),
        Json::Object(object) => {
            if let Some(id) = attribute(object, "id").filter(|_| reference(object).is_none()) {
                by_id.entry(id).or_insert(object);
            }
            object.values().for_each(|value| find(value, by_id));
        }
        _ => {}
    }
}

/// The id that an element stands for, if that is all there is to it.
fn reference(object: &Map<String, Json>) -> Option<&str> {
    let only_attributes = object.keys().all(|key| key.starts_with('@'));
    attribute(object, "href").and_then(|href| href.strip_prefix('#')).filter(|_| only_attributes)
}

struct Writer<'a> {
    by_id: HashMap<&'a str, &'a Map<String, Json>>,
    out: Out,
    depth_max: usize,
    /// Ids of the elements around the place that is written.
    meant: Vec<&'a str>,
}

impl<'a> Writer<'a> {
    fn write(&mut self, value: &'a Json, depth: usize) -> Result<(), Error> {
        if depth > self.depth_max {
            return Err(Error::Depth { max: self.depth_max });
        }
        self.out.check()?;
        match value {
            Json::Object(object) => self.object(object, depth),
            Json::Array(all) => {
                self.out.raw("[");
                for (at, value) in all.iter().enumerate() {
                    self.out.raw(if at > 0 { "," } else { "" });
                    self.write(value, depth + 1)?;
                }
                self.out.raw("]");
                Ok(())
            }
            other => {
                self.out.raw(&other.to_string());
                Ok(())
            }
        }
    }

    fn object(&mut self, object: &'a Map<String, Json>, depth: usize) -> Result<(), Error> {
        let meant = reference(object).filter(|id| !self.meant.contains(id));
        if let Some((id, target)) = meant.and_then(|id| self.by_id.get_key_value(id)) {
            let (id, target) = (*id, *target);
            self.meant.push(id);
            self.fields(target, true, depth)?;
            self.meant.pop();
            return Ok(());
        }
        // An element with an id may hold a reference to itself.
        let own = attribute(object, "id").filter(|_| reference(object).is_none());
        self.meant.extend(own);
        self.fields(object, false, depth)?;
        if own.is_some() {
            self.meant.pop();
        }
        Ok(())
    }

    /// Writes an element, in the place of a reference to it as it would stand there itself.
    fn fields(&mut self, object: &'a Map<String, Json>, is_meant: bool, depth: usize) -> Result<(), Error> {
        let is_of_value = |key: &str| {
            let bare = key.strip_prefix('@').map(local);
            !is_meant || !OF_REFERENCES.iter().any(|name| bare == name.strip_prefix('@'))
        };
        let fields: Vec<_> = object.iter().filter(|(key, _)| is_of_value(key)).collect();
        // A text alone is a string.
        if let ([(key, text)], true) = (fields.as_slice(), is_meant)
            && *key == "#text"
        {
            return self.write(text, depth);
        }
        if fields.is_empty() && is_meant {
            self.out.raw("\"\"");
            return Ok(());
        }
        self.out.raw("{");
        for (at, (key, value)) in fields.into_iter().enumerate() {
            self.out.raw(if at > 0 { "," } else { "" });
            self.out.string(key);
            self.out.raw(":");
            self.write(value, depth + 1)?;
        }
        self.out.raw("}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::check_as;

    fn check(text: &str) -> String {
        check_as("xml = { references = true }", "text/xml", text.as_bytes())
    }

    #[test]
    fn a_reference_is_what_it_stands_for() {
        for (text, expected) in [
            ("<a><b href='#1'/><m id='1'>x</m></a>", r##"{"a":{"b":"x","m":{"@id":"1","#text":"x"}}}"##),
            (
                "<a><b href='#1'/><m id='1' root='0' e:encodingStyle='u' t='y'><c>1</c></m></a>",
                r#"{"a":{"b":{"@t":"y","c":"1"},"m":{"@id":"1","@root":"0","@encodingStyle":"u","@t":"y","c":"1"}}}"#,
            ),
            // One behind the other, and one that is meant twice.
            (
                "<a><b href='#1'/><b href='#1'/><m id='1'><c href='#2'/></m><m id='2'>x</m></a>",
                r##"{"a":{"b":[{"c":"x"},{"c":"x"}],"m":[{"@id":"1","c":"x"},{"@id":"2","#text":"x"}]}}"##,
            ),
            ("<a><b href='#1'/><m id='1'/></a>", r#"{"a":{"b":"","m":{"@id":"1"}}}"#),
            // No element, another document, and a link beside a text.
            ("<a><b href='#9'/></a>", r##"{"a":{"b":{"@href":"#9"}}}"##),
            ("<a><b href='x#1'/><m id='1'/></a>", r#"{"a":{"b":{"@href":"x#1"},"m":{"@id":"1"}}}"#),
            ("<a><b href='#1'>t</b><m id='1'/></a>", r##"{"a":{"b":{"@href":"#1","#text":"t"},"m":{"@id":"1"}}}"##),
            // Circles: the reference to what is around it stays.
            ("<a><m id='1'><c href='#1'/></m></a>", r##"{"a":{"m":{"@id":"1","c":{"@href":"#1"}}}}"##),
            (
                "<a><b href='#1'/><m id='1'><c href='#2'/></m><m id='2'><d href='#1'/></m></a>",
                r##"{"a":{"b":{"c":{"d":{"@href":"#1"}}},"m":[{"@id":"1","c":{"d":{"@href":"#1"}}},{"@id":"2","d":{"c":{"@href":"#2"}}}]}}"##,
            ),
            ("<a><b id='1' href='#1'/></a>", r##"{"a":{"b":{"@id":"1","@href":"#1"}}}"##),
        ] {
            let found: serde_json::Value =
                serde_json::from_str(&check(text)).unwrap_or_else(|_| panic!("{}", check(text)));
            let expected: serde_json::Value = serde_json::from_str(expected).expect("JSON");
            assert_eq!(found, expected, "{text}");
        }
        let off = check_as("xml = {}", "text/xml", b"<a><b href='#1'/><m id='1'>x</m></a>");
        assert!(off.contains("@href"), "{off}");
    }

    /// Each element means the next one many times: a small answer that would become any size.
    #[test]
    fn a_small_answer_does_not_become_a_large_document() {
        for (levels, times, expected) in [(2, 10, "{\"a\":"), (40, 2, "nested deeper"), (2, 2000, "more than")] {
            let level = |at: usize| format!("<m id='{at}'>{}</m>", format!("<c href='#{}'/>", at + 1).repeat(times));
            let text = format!("<a>{}<m id='{levels}'/></a>", (0..levels).map(level).collect::<String>());
            let found: String = check(&text).chars().take(200).collect();
            assert!(found.contains(expected), "{levels} {times}: {found}");
        }
    }
}
