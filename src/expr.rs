//! Expressions: jq as jaq reads it, with a fast lane for plain paths and limits on everything else.
//!
//! An expression is checked and compiled when the configuration is read; a distinct text compiles once. It sees its
//! input and `$now`, over a page of an answer also `$headers` and `$status`, and nothing of the daemon. What could leave that box
//! (`env`, `input`, `halt`, modules) is refused by name.

mod jq;
mod path;
mod pool;
mod worker;

use std::{fmt, sync::Arc};

use serde_json::Value as Json;

use crate::compute::compute;
pub use path::Path;
use pool::Pace;
pub use pool::use_workers;
pub use worker::{ARGUMENT, serve};

/// A compiled expression. Cheap to clone; equal when its text is.
#[derive(Clone)]
pub struct Expr {
    text: Arc<str>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Path(Arc<Path>),
    Jq(Arc<jq::Program>, Arc<Pace>),
}

/// What an answer says beside its body: `$headers` and `$status` of jq over a page. Written as JSON, an array of both.
#[derive(Debug, Clone, Default)]
pub struct Said(String);

impl Said {
    /// `headers` have names in lower case, and of a name the first value.
    pub fn new(headers: &serde_json::Map<String, Json>, status: u16) -> Self {
        Self(serde_json::json!([headers, status]).to_string())
    }
}

/// What a run is given.
#[derive(Clone, Copy)]
struct Work<'a> {
    program: &'a str,
    input: &'a [u8],
    /// As [`Said`] has it; empty for a program that does not see it.
    said: &'a str,
    /// Outputs that are wanted at the most.
    limit: usize,
}

/// Why a text is not an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    pub message: String,
    /// The line of the program that is wrong, with a caret.
    pub excerpt: String,
    pub help: Option<String>,
}

/// Why an expression failed on its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("jq `{program}`: {message}")]
    Failed { program: String, message: String },
    #[error("jq `{program}` was stopped: {limit}")]
    Runaway { program: String, limit: String },
    /// The input or an output is not JSON.
    #[error("jq `{program}`: {message}")]
    Json { program: String, message: String },
}

impl Expr {
    /// Parses, checks and compiles; the same text again costs a look-up.
    pub fn parse(text: &str) -> Result<Self, CompileError> {
        let expr = Self::parse_over_answer(text)?;
        if expr.sees_answer() { Err(jq::unseen(text)) } else { Ok(expr) }
    }

    /// As [`parse`](Self::parse), of one that runs over a page of an answer: it may name `$headers` and `$status`.
    pub fn parse_over_answer(text: &str) -> Result<Self, CompileError> {
        let kind = match Path::parse(text) {
            Some(path) => Kind::Path(Arc::new(path)),
            None => Kind::Jq(jq::Program::interned(text)?, Arc::default()),
        };
        Ok(Self { text: text.into(), kind })
    }

    /// As [`parse`](Self::parse), of one that makes the request of each page: it may name `$page`.
    pub fn parse_over_pages(text: &str) -> Result<Self, CompileError> {
        match text.match_indices("$page").any(|(at, word)| !goes_on(text, at + word.len())) {
            // A comment of the program ends with its line.
            true => Self::parse(&format!("{OVER_PAGES}{text}\n)")),
            false => Self::parse(text),
        }
    }

    /// Whether it is another text for each page.
    pub fn sees_page(&self) -> bool {
        self.text.starts_with(OVER_PAGES)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it depends on more of an answer than its body.
    pub fn sees_answer(&self) -> bool {
        matches!(&self.kind, Kind::Jq(program, _) if program.sees_answer)
    }

    /// The plain path that this is, if it is one.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Path(path) => Some(path),
            Kind::Jq(..) => None,
        }
    }

    /// The ways to the lists that it begins by going through, where that is a plain path: `.a.b[] | select(.c)` goes
    /// through `a b`.
    pub fn lists(&self) -> Vec<Vec<String>> {
        let begin = self.text.split('|').next().and_then(Path::parse);
        begin.map(|path| path.lists()).unwrap_or_default()
    }

    /// The first output; `None` when there is none. May wait for another process: not for an async thread.
    pub fn first(&self, input: &Json) -> Result<Option<Json>, Error> {
        Ok(self.up_to(input, 1)?.into_iter().next())
    }

    /// As [`first`](Self::first), from an async thread.
    pub async fn ask(&self, input: &Json) -> Result<Option<Json>, Error> {
        match &self.kind {
            Kind::Path(_) => self.first(input),
            Kind::Jq(..) => {
                let (expr, input) = (self.clone(), input.clone());
                compute(move || expr.first(&input)).await.map_err(|e| self.failed(format!("it panicked: {e}")))?
            }
        }
    }

    /// The first outputs.
    pub fn up_to(&self, input: &Json, limit: usize) -> Result<Vec<Json>, Error> {
        match &self.kind {
            Kind::Path(path) => {
                let values = path.values(input).map_err(|e| self.failed(e))?;
                Ok(values.into_iter().take(limit).cloned().collect())
            }
            Kind::Jq(..) => self.run(input.to_string().as_bytes(), &Said::default(), limit),
        }
    }

    /// Every output.
    pub fn all(&self, input: &Json) -> Result<Vec<Json>, Error> {
        self.up_to(input, usize::MAX)
    }

    /// Every output over a JSON text; numbers keep their digits.
    pub fn all_of_text(&self, text: &[u8]) -> Result<Vec<Json>, Error> {
        self.all_of_answer(text, &Said::default())
    }

    /// As [`all_of_text`](Self::all_of_text), of one that may see what an answer says beside its body.
    pub fn all_of_answer(&self, text: &[u8], said: &Said) -> Result<Vec<Json>, Error> {
        match &self.kind {
            Kind::Path(path) => {
                let raw = path.raw_values(text).map_err(|e| self.failed(e))?;
                raw.iter().map(|raw| serde_json::from_str(raw.get()).map_err(|e| self.failed(e.to_string()))).collect()
            }
            Kind::Jq(..) => self.run(text, said, usize::MAX),
        }
    }

    /// The outputs of a program, as JSON texts that nobody has looked at.
    pub fn texts(&self, text: &[u8], limit: usize) -> Result<Vec<String>, Error> {
        self.outputs(text, &Said::default(), limit)
    }

    fn outputs(&self, text: &[u8], said: &Said, limit: usize) -> Result<Vec<String>, Error> {
        let Kind::Jq(program, pace) = &self.kind else {
            let raw = self.as_path().map(|path| path.raw_values(text)).transpose().map_err(|e| self.failed(e))?;
            return Ok(raw.into_iter().flatten().take(limit).map(|raw| raw.get().to_owned()).collect());
        };
        // Who does not see it need not be sent it.
        let said = if program.sees_answer { said.0.as_str() } else { "" };
        if pool::has_workers() {
            return pool::run(Work { program: &self.text, input: text, said, limit }, pace);
        }
        let mut outputs = Vec::new();
        program.run_here(text, said, limit, jq::STACK_BYTES_HERE, &mut |output| {
            outputs.push(output.to_owned());
            true
        })?;
        Ok(outputs)
    }

    fn run(&self, text: &[u8], said: &Said, limit: usize) -> Result<Vec<Json>, Error> {
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|e| Error::Json {
                program: self.text.to_string(),
                message: format!("an output is not JSON: {e}"),
            })
        };
        self.outputs(text, said, limit)?.into_iter().map(read).collect()
    }

    /// Whether the first output is neither `false` nor `null`.
    pub fn holds(&self, input: &Json) -> Result<bool, Error> {
        Ok(meant(self.first(input)?).is_some())
    }

    fn failed(&self, message: String) -> Error {
        Error::Failed { program: self.text.to_string(), message }
    }
}

/// Before a program that names `$page`.
const OVER_PAGES: &str = ".page as $page | (";

/// Whether a name goes on at this place.
fn goes_on(text: &str, at: usize) -> bool {
    text.get(at..).and_then(|rest| rest.chars().next()).is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// What a first output says: none, `null` and `false` say nothing.
pub fn meant(output: Option<Json>) -> Option<Json> {
    output.filter(|output| !matches!(output, Json::Null | Json::Bool(false)))
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jq {:?}", self.text)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn run(program: &str, input: &str) -> String {
        match Expr::parse(program).map(|e| e.all_of_text(input.as_bytes())) {
            Ok(Ok(out)) => out.iter().map(Json::to_string).collect::<Vec<_>>().join(" "),
            Ok(Err(error)) => format!("error: {error}"),
            Err(error) => format!("refused: {}", error.message),
        }
    }

    fn check(program: &str, input: &str, expected: Expect) {
        expected.assert_eq(&run(program, input));
    }

    #[test]
    fn numbers_keep_their_digits_in_both_lanes() {
        // serde_json writes the sign of an exponent; the digits stay.
        let input = r#"{"a":[12345678901234567890,1.10,1e2,-0.0,123456789012345678901234567890.5]}"#;
        check(".a[]", input, expect!["12345678901234567890 1.10 1e+2 -0.0 123456789012345678901234567890.5"]);
        check(".a | .[]", input, expect!["12345678901234567890 1.10 1e+2 -0.0 123456789012345678901234567890.5"]);
    }

    #[test]
    fn plain_paths_behave_as_jq_does() {
        let cases = [
            (".", r#"{"a":1}"#),
            (".a", r#"{"a":1}"#),
            (".b", r#"{"a":1}"#),
            (".a.b", r#"{"a":null}"#),
            (".a[]", r#"{"a":[1,2]}"#),
            (".[]", r#"{"a":1,"b":2}"#),
            (".[].id", r#"[{"id":1},{"id":2},{}]"#),
            (r#"."x-y""#, r#"{"x-y":3}"#),
            (r#".["x y"][]"#, r#"{"x y":[3]}"#),
            (".a", r#"{"a":1,"a":2}"#),
        ];
        for (path, input) in cases {
            assert!(Expr::parse(path).expect(path).as_path().is_some(), "{path} is plain");
            let as_jq = format!("{path} | .");
            assert!(Expr::parse(&as_jq).expect("valid").as_path().is_none());
            assert_eq!(run(path, input), run(&as_jq, input), "{path} over {input}");
            let value: Json = serde_json::from_str(input).expect("valid");
            let by_value = Expr::parse(path).expect("valid").all(&value).expect("runs");
            assert_eq!(by_value.iter().map(Json::to_string).collect::<Vec<_>>().join(" "), run(path, input));
        }
        for (path, input) in [(".a[]", r#"{"a":null}"#), (".[]", "3"), (".a", "[1]"), (".a.b", r#"{"a":1}"#)] {
            assert!(run(path, input).starts_with("error"), "{path} over {input}: {}", run(path, input));
            assert!(run(&format!("{path} | ."), input).starts_with("error"), "jq: {path} over {input}");
        }
    }

    #[test]
    fn what_leaves_the_box_is_refused() {
        for program in [
            "env",
            "$ENV",
            "$ENV.PATH",
            "input",
            "[inputs]",
            "debug",
            "debug(1)",
            "stderr",
            "halt",
            "halt_error",
            "now",
            "include \"a\"; .",
            "import \"a\" as a; .",
            "[.[] | env]",
            "{a: env.HOME}",
            "\"\\(env)\"",
            "if env then 1 else 2 end",
            "debug_empty",
            "input_line_number",
        ] {
            assert!(run(program, "null").starts_with("refused"), "{program}: {}", run(program, "null"));
        }
    }

    #[test]
    fn compile_errors_show_where() {
        let error = Expr::parse(".a | foo(1)").expect_err("foo is unknown");
        expect![[r#"
            CompileError {
                message: "undefined filter `foo/1`",
                excerpt: ".a | foo(1)\n     ^^^",
                help: None,
            }
        "#]]
        .assert_debug_eq(&error);
        let error = Expr::parse(".a | [").expect_err("no bracket");
        expect![[r#"
            CompileError {
                message: "jq: `[` is not closed",
                excerpt: ".a | [\n     ^",
                help: None,
            }
        "#]]
        .assert_debug_eq(&error);
        let error = Expr::parse(".a | | .b").expect_err("two pipes");
        expect![[r#"
            CompileError {
                message: "jq: expected term",
                excerpt: ".a | | .b\n     ^",
                help: None,
            }
        "#]]
        .assert_debug_eq(&error);
    }

    #[test]
    fn runaways_are_stopped() {
        for program in [
            "[range(1e18)] | length",
            "last(repeat(1))",
            "until(false; .)",
            "[limit(1e15; repeat(1))]",
            "[recurse(.)]",
            "def f: f; f",
            "def f: 1 + f; f",
        ] {
            let out = run(program, "0");
            assert!(out.contains("was stopped"), "{program}: {out}");
        }
    }

    #[test]
    fn what_an_answer_says_beside_its_body() {
        let headers = json!({ "x-next": "abc", "x-total-count": "250" });
        let said = Said::new(headers.as_object().expect("an object"), 206);
        let run = |program: &str| {
            let expr = Expr::parse_over_answer(program).map_err(|e| e.message)?;
            let out = expr.all_of_answer(b"{\"a\":1}", &said).map_err(|e| e.to_string())?;
            Ok::<_, String>(out.iter().map(Json::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(run("$headers[\"x-next\"], $status, .a, ($now | type)").as_deref(), Ok("\"abc\" 206 1 \"string\""));
        assert_eq!(run("$headers[\"x-total-count\"] | tonumber").as_deref(), Ok("250"));
        // A name that a program binds itself is its own, everywhere.
        for own in [". as $status | $status", ". as {a: $headers} | $headers"] {
            assert!(!Expr::parse(own).expect("valid").sees_answer(), "{own}");
        }
        assert_eq!(run(". as $status | $status.a").as_deref(), Ok("1"));
        for program in ["$headers.link", "[$status]", ".a | . as $x | $headers"] {
            let error = Expr::parse(program).expect_err("it runs over no page");
            assert!(error.message.starts_with("undefined variable `$"), "{program}: {}", error.message);
            assert!(error.help.is_some_and(|help| help.contains("`next`")), "{program}");
        }
        assert!(run("$header").is_err() && run("$headers | $x").is_err());
    }

    #[test]
    fn a_request_of_a_page_sees_its_number() {
        let run = |program: &str| {
            let expr = Expr::parse_over_pages(program).map_err(|e| e.message)?;
            let out = expr.first(&json!({ "page": 7, "item": "a" })).map_err(|e| e.to_string())?;
            Ok::<_, String>((expr.sees_page(), out.unwrap_or_default().to_string()))
        };
        for (program, sees, out) in [
            ("\"/\\(.item)/page/\\($page)\"", true, "\"/a/page/7\""),
            ("$page # a comment", true, "7"),
            ("def f: $page; f + 1", true, "8"),
            ("5 as $pages | $pages", false, "5"),
            (".item", false, "\"a\""),
        ] {
            assert_eq!(run(program), Ok((sees, out.to_owned())), "{program}");
        }
        assert!(run("$page |").is_err() && run("$pages").is_err());
        assert!(Expr::parse("$page").is_err(), "elsewhere there is none");
    }

    #[test]
    fn jq_works() {
        check(".[] | select(.a > 1) | {id: .a}", r#"[{"a":1},{"a":2}]"#, expect![[r#"{"id":2}"#]]);
        check("if .ok then null else .error end", r#"{"ok":false,"error":"no"}"#, expect![[r#""no""#]]);
        check("IN(1, 2)", "2", expect!["true"]);
        check("INDEX(.id) | keys", r#"[{"id":1},{"id":2}]"#, expect![[r#"["1","2"]"#]]);
        check("[.[] | tostring | ascii_downcase] | join(\",\")", r#"["A",1]"#, expect![[r#""a,1""#]]);
        check(".a | test(\"^x\")", r#"{"a":"xy"}"#, expect!["true"]);
        check("$now | type", "null", expect![[r#""string""#]]);
        check("to_entries | map(.key) | @json", r#"{"a":1}"#, expect![[r#""[\"a\"]""#]]);
        check(".a | error", r#"{"a":"boom"}"#, expect!["error: jq `.a | error`: boom"]);
        assert!(Expr::parse(".a == 1").expect("valid").holds(&json!({"a": 1})).expect("runs"));
    }
}
