//! A bridge as TOML, made of a guess, with the reason beside each line.

use super::{
    Because, Guess,
    credentials::{Request, Secrets},
    pages::Pages,
    text::{interval, quoted},
};
use crate::terminal;

/// A bridge to write.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    pub name: &'a str,
    pub request: &'a Request,
    pub guess: &'a Guess,
    /// An endpoint's name.
    pub to: &'a str,
}

/// What is done about further pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// As it was guessed.
    All,
    /// The same, with so many pages at most.
    Within(usize),
    /// The first page alone, as a window of the list.
    First,
}

/// A line with its reason. Names and texts of a server end no line.
fn because(line: &str, why: &str) -> String {
    format!("{line} # {}\n", terminal::line(why))
}

impl Draft<'_> {
    /// `[bridge.NAME]` and its source.
    pub fn bridge(&self, secrets: Secrets, walk: Walk) -> String {
        let Guess { list, ignore, pages, every, changed, .. } = self.guess;
        let mut out = format!("[bridge.{}]\n", self.name);
        out += &because(&format!("every = \"{}\"", interval(every.what)), &every.why);
        match (&list.items, &list.key) {
            (Because { what: Some(items), why }, Some(key)) => {
                out += &because(&format!("items = {}", quoted(items)), why);
                out += &because(&format!("key = {}", quoted(&key.what)), &key.why);
            }
            (items, _) => out += &format!("# The whole document is one record: {}.\n", terminal::line(&items.why)),
        }
        if !list.others.is_empty() {
            out += &format!("# Other lists in the answer: {}\n", terminal::line(&list.others.join(", ")));
        }
        if !ignore.is_empty() {
            let paths: Vec<String> = ignore.iter().map(|path| quoted(&path.what)).collect();
            let why = ignore.first().map_or("", |path| path.why.as_str());
            out += &because(&format!("ignore = [{}]", paths.join(", ")), why);
        }
        if pages.is_some() && walk == Walk::First {
            out += &because("window = true", "one page of several: a record that leaves it is not deleted");
        }
        if let Some(field) = changed {
            let field = quoted(field);
            out += "# If the API can filter by it, ask only for what is new (`param` is the API's own):\n";
            out += &terminal::line(&format!("# since = {{ from = {field}, param = \"updated_since\" }}"));
            out.push('\n');
        }
        out += &format!("to = [{}]\n", quoted(self.to));
        out + &self.source(secrets, walk)
    }

    fn source(&self, secrets: Secrets, walk: Walk) -> String {
        let Guess { format, needs_decode, pages, .. } = self.guess;
        let (pages, left) = if walk == Walk::First { (None, pages.as_ref()) } else { (pages.as_ref(), None) };
        let params = pages.map(|pages| pages.what.params()).unwrap_or_default();
        let url = self.request.url_without(&params);
        let mut out = format!("\n[bridge.{}.source.http]\nurl = {}\n", self.name, quoted(url.as_str()));
        for line in self.request.lines(self.name, secrets) {
            out += &line;
            out.push('\n');
        }
        if *needs_decode {
            out += &because(&format!("decode.{}", format.what.key()), &format.why);
        }
        if let Some(Because { what, why }) = pages {
            let max = if let Walk::Within(max) = walk { Some(max) } else { None };
            let edit = match what {
                Pages::Cursor { is_known: false, .. } => "; edit `param`: the answer does not say what it is called",
                _ => "",
            };
            out += &because(&format!("pages.{}", what.key_within(max)), &format!("{why}{edit}"));
        }
        if let Some(Because { what, why }) = left {
            // Not in force: a comment of its own is where it is edited.
            out += &terminal::line(&format!("# pages.{} # {why}; left out, since it did not hold", what.key()));
            out.push('\n');
        }
        out
    }
}
