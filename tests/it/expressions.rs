//! What programs over hostile answers can do: nothing but fail. Each input is a kind; the generators at the end make others.

use std::time::{Duration, Instant};

use bellpull::expr::{Error, Expr, use_workers};
use serde_json::json;

use super::support::daemon::binary;

/// The program's own limit, the second after it, and what a machine with much to do adds.
const LONGEST: Duration = Duration::from_millis(7_500);

/// These tests fill the line for runs that take long, which is one for a process: they go one after the other.
static LINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn expr(program: &str) -> Expr {
    use_workers(binary());
    Expr::parse(program).unwrap_or_else(|e| panic!("{program}: {}", e.message))
}

/// How it ended: `ok`, or the end of the error.
fn end(program: &str, input: &str) -> String {
    let began = Instant::now();
    let result = expr(program).all_of_text(input.as_bytes());
    let took = began.elapsed();
    assert!(took < LONGEST, "{program}: {took:?}");
    match result {
        Ok(_) => "ok".into(),
        Err(Error::Runaway { limit, .. }) => limit,
        Err(Error::Failed { message, .. } | Error::Json { message, .. }) => message,
    }
}

fn quoted(text: &str) -> String {
    json!({ "p": text }).to_string()
}

/// 8 KB of brackets in a string ended the daemon, again after each restart.
#[test]
fn brackets_in_a_string_end_no_process() {
    let _line = LINE.blocking_lock();
    let nested = |brackets: usize| quoted(&("[".repeat(brackets) + &"]".repeat(brackets)));
    for program in [".p |= fromjson", ".p | fromjson", ".p | fromjson | [., .]"] {
        let said = end(program, &nested(6_000));
        assert!(said.contains("recursion limit"), "{program}: {said}");
    }
    for program in
        [".p | fromjson | tojson", ".p | fromjson | type", ".p | fromjson? // 1", ".p | [fromjson] | flatten"]
    {
        end(program, &nested(6_000));
        end(program, &nested(2_000_000));
    }
    end(".p | fromjson?", &quoted(&"[".repeat(200_000)));
    end(".p | fromjson", &quoted(&("{\"a\":".repeat(50_000) + "1" + &"}".repeat(50_000))));
}

#[test]
fn values_that_a_program_nests_end_no_process() {
    let _line = LINE.blocking_lock();
    for program in [
        "reduce range(100000) as $i (null; [.])",
        "reduce range(100000) as $i (null; {a: .}) | type",
        "reduce range(20000) as $i (null; [.]) | [., .] | unique | length",
        "reduce range(20000) as $i (null; [.]) | tojson | length",
        "reduce range(20000) as $i (null; [.]) | . == (. | [.[]])",
        "reduce range(3000) as $i ({}; setpath([range($i) | \"a\"]; {})) | . * .",
        "[limit(100000; repeat([.]))] | length",
    ] {
        end(program, "null");
    }
}

/// Quadratic in memory, or larger than any.
#[test]
fn a_run_has_so_much_memory_and_no_more() {
    let _line = LINE.blocking_lock();
    let words = "ab ".repeat(70_000);
    for program in [
        ".p | gsub(\"\\\\s+\"; \" \")",
        ".p | [match(\".\"; \"g\")] | length",
        ".p | [scan(\".\")] | [., .] | combinations",
    ] {
        end(program, &quoted(&words));
    }
    for (program, input) in [
        ("\"a\" * .p", r#"{"p":100000000000}"#),
        ("[range(1e7)] | map([.]) | length", "null"),
        ("last(range(40) as $i (\"ab\"; . + .))", "null"),
        ("reduce range(40) as $i (\"ab\"; . + .)", "null"),
        ("[range(1000000) | \"\\(.)\"] | implode?", "null"),
        ("reduce range(30) as $i ([1]; . + .) | length", "null"),
    ] {
        if let Ok(expr) = Expr::parse(program) {
            drop(expr);
            end(program, input);
        }
    }
}

#[test]
fn long_numbers_and_long_natives_are_stopped() {
    let _line = LINE.blocking_lock();
    let digits = "9".repeat(4_000_000);
    let said = end(".[] | select(.id == 1)", &format!("[{{\"id\":1,\"p\":{digits}}}]"));
    assert!(said.contains("digits"), "{said}");
    end(".p | tonumber", &quoted(&digits));
    end("reduce range(30) as $i (\"[\\\"a\\\"]\"; tojson + tojson) | length", "null");
    end("reduce range(25) as $i (7777777; . * .)", "null");
    end("[range(300)] | [., ., .] | [combinations] | length", "null");
}

/// Four bridges whose runs hung stopped all polling, and `status` said ok.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_hang_cost_others_a_moment_at_the_most() {
    use bellpull::compute::compute;
    let _line = LINE.lock().await;
    let quick = expr(".[] | select(.a > 1) | {id: .a}");
    let input = json!([{"a": 1}, {"a": 2}]);
    // Warm: the first run starts a process.
    assert_eq!(quick.ask(&input).await, Ok(Some(json!({"id": 2}))));
    let hanging: Vec<_> = (0..6)
        .map(|number| {
            let hangs = expr(&format!("last(range({number}; 1e18) | tojson | fromjson)"));
            tokio::spawn(async move { compute(move || hangs.first(&json!(null))).await.expect("no panic") })
        })
        .collect();
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        assert_eq!(quick.ask(&input).await, Ok(Some(json!({"id": 2}))));
        longest = longest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The first turns may all be theirs, each for a tenth of a second.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    for run in hanging {
        run.await.expect("no panic").expect_err("it is stopped");
    }
}

/// 20,000 brackets in `items` ended a daemon that was running, at the reload.
#[test]
fn long_and_deep_programs_are_refused_or_run() {
    let _line = LINE.blocking_lock();
    let refused = |program: &str| Expr::parse(program).expect_err("refused").message;
    assert!(refused(&("(".repeat(20_000) + "." + &")".repeat(20_000))).contains("nested 20000 deep"));
    assert!(refused(&"[".repeat(20_000)).contains("nested"));
    assert!(refused(&(".".to_owned() + &"|.".repeat(200_000))).contains("bytes"));
    assert!(refused(&(".".to_owned() + &"|.".repeat(20_000))).contains("operators"));
    assert!(refused(&("-".repeat(20_000) + ".")).contains("operators"));
    assert!(refused(&"def f: ".repeat(8_000)).contains("operators"));
    for program in [
        "(".repeat(200) + "." + &")".repeat(200),
        ".".to_owned() + &"|.".repeat(3_900),
        "-".repeat(3_900) + ".",
        "if . then ".repeat(1_000) + "1" + &" else 2 end".repeat(1_000),
        "def f: ".repeat(1_900) + "1" + &"; .".repeat(1_900),
        "[".repeat(200) + &"]".repeat(200),
        "try ".repeat(3_900) + ".",
        "\"\\(".repeat(200) + "1" + &")\"".repeat(200),
    ] {
        if let Ok(expr) = Expr::parse(&program) {
            drop(expr);
            end(&program, "1");
        }
    }
}

/// A program and an input, of what programs are made of: recursion, growth, texts, numbers, patterns, paths and updates.
mod made {
    use proptest::{prelude::*, sample::select};

    pub fn program() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            select(vec![
                ".",
                ".a",
                ".b",
                ".p",
                ".[]?",
                ".[0]?",
                "..",
                "null",
                "0",
                "1",
                "-1",
                "1e300",
                "nan",
                "infinite",
                "9007199254740993"
            ]),
            select(vec![
                r#""a""#,
                r#""[""#,
                r#""(a*)*b""#,
                r#""\\w+""#,
                r#""é☆""#,
                "[]",
                "{}",
                "[1,[2]]",
                r#"{"a":[1]}"#,
                "$now"
            ]),
            select(vec![
                "length",
                "tojson",
                "fromjson",
                "tostring",
                "tonumber",
                "explode",
                "implode",
                "keys",
                "add",
                "any",
                "all",
                "flatten",
                "floor",
                "sqrt",
                "exp10",
                "sort",
                "unique",
                "reverse",
                "min",
                "max",
                "transpose",
                "combinations",
                "to_entries",
                "from_entries",
                "paths",
                "leaf_paths",
                "tostream",
                "ascii_downcase",
                "trim",
                "@csv",
                "@tsv",
                "@html",
                "@uri",
                "@base64",
                "@base64d",
                "@urid",
                "@sh",
                "@json",
                "todate",
                "fromdate",
                "gmtime",
                "mktime",
                "utf8bytelength",
                "isnan",
                "type",
                "not",
                "empty",
                "error",
                "first",
                "last",
                "toarray",
                "ascii",
                "builtins | length",
                "splits(\"a\")",
            ]),
        ];
        leaf.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
            let f = || inner.clone();
            let one = select(vec![
                "[§]",
                "(§)",
                "[§][]",
                "try § catch .",
                "-(§)",
                "{a: §}",
                "\"x\\(§)y\"",
                "map(§)",
                "map_values(§)",
                "select(§)",
                "recurse(§)",
                "walk(§)",
                "path(§)",
                "paths(§)",
                "del(§)",
                "to_entries | map(§)",
                "with_entries(§)",
                "sort_by(§)",
                "group_by(§)",
                "unique_by(§)",
                "min_by(§)",
                "has(§)",
                "contains(§)",
                "inside(§)",
                "index(§)",
                "indices(§)",
                "join(§)",
                "split(§)",
                "test(§)",
                "scan(§)",
                "match(§; \"g\")",
                "capture(§)",
                "ltrimstr(§)",
                "range(§)",
                "flatten(§)",
                "combinations(§)",
                "repeat(§)",
                "first(§)",
                "isempty(§)",
                "error(§)",
                "getpath(§)",
                "delpaths(§)",
                "pick(§)",
                "fromstream(§)",
                "strftime(§)",
                "strptime(§)",
                "bsearch(§)",
                "limit(3; repeat(§))",
                "IN(§)",
                "INDEX(§)",
                "ascii_downcase | test(§)",
                "def f: if . then § | f else . end; f",
                "last(range(1e9) | §)",
                "reduce range(3000) as $i (.; §)",
                "reduce range(25) as $i (.; [., .] | §)",
                "[limit(2000; repeat(§))]",
                "tojson | fromjson | §",
            ]);
            let two = select(vec![
                "§ | §",
                "§, §",
                "§ + §",
                "§ - §",
                "§ * §",
                "§ / §",
                "§ % §",
                "§ == §",
                "§ < §",
                "§ // §",
                "§ and §",
                "(§) |= (§)",
                "(§) = (§)",
                "(§) += (§)",
                "(§) //= (§)",
                ".[§:§]?",
                ".[§]?, §",
                "if § then § else . end",
                "sub(§; §)",
                "gsub(§; §)",
                "setpath(§; §)",
                "until(§; §)",
                "while(§; §)",
                "any(§; §)",
                "§ as $x | §",
                "§ as [$x, {a: $y}] ?// $x | §",
                "reduce § as $x (0; §)",
                "foreach (§) as $x (0; §)",
                "range(§; §; 1)",
                "ltrimstr(§) | rtrimstr(§)",
                "label $f | § | ., break $f | §",
                "limit(§; §)",
                "nth(§; §)",
                "JOIN(§; §)",
                "{(§): §}",
                "truncate_stream(§; §)",
            ]);
            let fill = |shape: &'static str, parts: Vec<String>| {
                let mut parts = parts.into_iter();
                shape.split('§').enumerate().fold(String::new(), |made, (at, text)| {
                    let part = if at == 0 { String::new() } else { parts.next().unwrap_or_else(|| ".".into()) };
                    made + &part + text
                })
            };
            prop_oneof![
                (one, f()).prop_map(move |(shape, a)| fill(shape, vec![a])),
                (two, f(), f()).prop_map(move |(shape, a, b)| fill(shape, vec![a, b])),
            ]
        })
    }

    pub fn input() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            select(vec![
                "",
                "a",
                "[",
                "é☆\u{1f600}",
                "2024-02-30T25:61:00Z",
                "NaN",
                "%f",
                "=QUJD",
                "{\"a\":",
                "\u{0}\u{7f}"
            ])
            .prop_map(str::to_owned),
            (select(vec!["[", "{\"a\":", "ab ", "aaaa", "9", "\\", "\"", "☆", "<&'"]), 1_usize..20_000)
                .prop_map(|(part, times)| part.repeat(times)),
        ];
        let leaf = prop_oneof![
            select(vec!["null", "true", "0", "-0", "1e400", "-1e-400", "0.1", "12345678901234567890123"])
                .prop_map(str::to_owned),
            (1_usize..6_000).prop_map(|digits| "7".repeat(digits)),
            text.prop_map(|text| serde_json::json!(text).to_string()),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec((select(vec!["a", "b", "p", "key", "é"]), inner.clone()), 0..4).prop_map(
                    |pairs| {
                        let pairs: Vec<String> =
                            pairs.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                        format!("{{{}}}", pairs.join(","))
                    }
                ),
                (inner, 1_usize..3_000).prop_map(|(value, deep)| "[".repeat(deep) + &value + &"]".repeat(deep)),
            ]
        })
    }
}

/// Programs over answers, made from a grammar: none ends this process, none takes longer than its time, none more than its memory.
fn programs_over_answers(count: usize) {
    use proptest::{
        strategy::{Strategy, ValueTree},
        test_runner::TestRunner,
    };
    let _line = LINE.blocking_lock();
    use_workers(binary());
    let mut runner = TestRunner::deterministic();
    let (mut ended, mut refused) = (std::collections::BTreeMap::<String, usize>::new(), 0);
    for _ in 0..count {
        let (program, input) = (made::program(), made::input()).new_tree(&mut runner).expect("made").current();
        if Expr::parse(&program).is_err() {
            refused += 1;
            continue;
        }
        let end = end(&program, &input);
        let kind = if end == "ok" || end.starts_with("more than") || end.starts_with("longer") {
            end
        } else {
            "an error".into()
        };
        *ended.entry(kind).or_default() += 1;
    }
    println!("{count} programs: {refused} refused, {ended:?}");
    assert!(refused * 10 < count, "{refused} of {count} programs are none");
    assert!(ended.get("ok").is_some_and(|ok| *ok * 10 > count), "hardly one gave a value: {ended:?}");
}

#[test]
fn programs_that_a_grammar_makes_end_nothing() {
    programs_over_answers(100);
}

/// `cargo test --release --test it ten_thousand_programs -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_programs_over_answers() {
    programs_over_answers(10_000);
}

/// Where jaq differed from jq without a word, or failed at what jq does.
#[test]
fn what_people_know_of_jq_is_so() {
    for (program, input, expected) in [
        (r#"join(" ")"#, r#"["a",null,"b",1,true]"#, r#""a  b 1 true""#),
        (r#"capture("(?<a>a)?(?<b>b)")"#, r#""b""#, r#"{"a":null,"b":"b"}"#),
        (r#"[match("(x)?b").captures[0] | .string, .offset]"#, r#""b""#, "[null,-1]"),
        (r#"[scan("\\w+")]"#, r#""café crème""#, r#"["café","crème"]"#),
        (r#"test("é"; "i")"#, r#""É""#, "true"),
        ("5.9 % 2, -5 % 3, 5 % -3", "null", "1 -2 2"),
        ("@html", r#""<'&\">""#, r#""&lt;&#39;&amp;&quot;&gt;""#),
        ("[nth(0, 2; 1, 2, 3)]", "null", "[1,3]"),
        ("@base64d", r#""YQ""#, r#""a""#),
        (".a.b = 1", "null", r#"{"a":{"b":1}}"#),
        (".a[2] = 1", r#"{"a":[0]}"#, r#"{"a":[0,null,1]}"#),
        (".a += 1 | .b |= . + 1 | .c //= 3", "{}", r#"{"a":1,"b":1,"c":3}"#),
        (
            "from_entries",
            r#"[{"name":"a","value":1},{"k":"b","v":2},{"key":null,"value":3}]"#,
            r#"{"a":1,"b":2,"null":3}"#,
        ),
        (
            "@csv, @tsv",
            r#"["a,\"b",1,null,true,"x\ty"]"#,
            r#""\"a,\"\"b\",1,,true,\"x\ty\"" "a,\"b\t1\t\ttrue\tx\\ty""#,
        ),
        (
            r#"("a" | in({"a": 1})), ("a" | inside("cab")), (65 | ascii), (1 | toarray), ("xax" | trimstr("x"))"#,
            "null",
            r#"true true "A" [1] "a""#,
        ),
        ("[leaf_paths]", r#"{"a":[1]}"#, r#"[["a",0]]"#),
        ("fromstream(tostream)", r#"{"a":[1,{"b":2}]}"#, r#"{"a":[1,{"b":2}]}"#),
        (".[] as [$a] ?// $a | $a", "[[1],2]", "1 2"),
        ("$__loc__.line", "null", "1"),
        ("del(.[1], .[-1])", "[1,2,3,4]", "[1,3]"),
        ("[.[1.2:3.5]]", "[0,1,2,3,4]", "[[1,2,3]]"),
        ("6 / 2, ([1, 2, 3] / [2])?, (10 / 4), (1e1000 + 0)", "null", "3 2.5 1.7976931348623157e+308"),
        (
            "\"\\(6 / 2) \\(1.5 * 2) \\(1e15 + 0) \\(1e17 + 0) \\(0.0001 + 0) \\(0.00001 + 0)\"",
            "null",
            r#""3 3 1000000000000000 1e+17 0.0001 1e-05""#,
        ),
        ("[.[] | tonumber?]", r#"["1","2a"," 4",".5","+5.43"]"#, "[1,0.5,5.43]"),
        ("def f: if . > 2 then . else . + 1 | f end; f", "0", "3"),
        ("limit(2; .[]), first(.[]), (0 | until(. > 4; . + 1))", "[1,2,3]", "1 2 1 5"),
        ("try error catch .", r#"{"a":1}"#, r#"{"a":1}"#),
        ("try .a catch .", "[1]", r#""Cannot index array with string (\"a\")""#),
        ("try .[] catch .", "1", r#""Cannot iterate over number (1)""#),
        ("[splits(\", *\")]", r#""a, b,c""#, r#"["a","b","c"]"#),
        ("gsub(\"(?<x>[a-z])\"; \"<\\(.x)>\"), sub(\"b\"; \"1\", \"2\")", r#""abc""#, r#""<a><b><c>" "a1c" "a2c""#),
        ("{\"a\":1} * {\"a\":{\"b\":2}}, ([1,2,2] - [2]), (\"a,b\" / \",\")", "null", r#"{"a":{"b":2}} [1] ["a","b"]"#),
    ] {
        let outputs = expr(program).all_of_text(input.as_bytes()).unwrap_or_else(|e| panic!("{program}: {e}"));
        let outputs: Vec<String> = outputs.iter().map(ToString::to_string).collect();
        assert_eq!(outputs.join(" "), expected, "{program}");
    }
}

/// What others poll holds nobody up: `cargo test --release --test it beside_hostile -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn a_bridge_beside_hostile_ones_keeps_its_interval() {
    use std::sync::{Arc, Mutex};

    use super::support::{
        daemon::Place,
        recorder::Recorder,
        server::{Answer, Request},
    };
    const SECONDS: u64 = 60;
    let nested = quoted(&("[".repeat(6_000) + &"]".repeat(6_000)));
    let long = quoted(&"ab ".repeat(70_000));
    let digits = format!("[{{\"id\":1,\"p\":{}}}]", "9".repeat(4_000_000));
    let hostile = [
        (".p | fromjson | tojson", nested.clone()),
        (".p | gsub(\"\\\\s+\"; \" \")", long.clone()),
        ("last(range(1e9) | tojson | fromjson)", "{}".into()),
        ("reduce range(25) as $i (7777777; . * .)", "{}".into()),
        ("[limit(1e7; repeat(.p))] | length", long),
        (".[]", digits),
        ("reduce range(100000) as $i (null; [.]) | tojson", nested),
        ("def f: [f, f]; f", "{}".into()),
    ];
    let (api, asked): (Recorder, Arc<Mutex<Vec<Instant>>>) = (Recorder::start().await, Arc::default());
    let times = asked.clone();
    let answers: Vec<String> = hostile.iter().map(|(_, answer)| answer.clone()).collect();
    api.answers(move |request: &Request| match request.path.trim_start_matches('/').parse::<usize>() {
        Ok(number) => Answer::json(answers[number].clone()).into(),
        Err(_) => {
            times.lock().unwrap().push(Instant::now());
            Answer::json(r#"[{"id":1}]"#).into()
        }
    });
    let bridge = |name: &str, items: &str, path: &str| {
        format!(
            "[bridge.{name}]\nevery = \"1s\"\njitter = \"0s\"\nitems = '{items}'\nkey = \".id\"\nto = [\"me\"]\n\
             source.http = {{ url = \"{}/{path}\", conditional = false }}\n",
            api.origin()
        )
    };
    let mut text =
        format!("[endpoint.me]\nurl = \"{}/me\"\n{}", api.origin(), bridge("quick", ".[] | select(.id > 0)", "quick"));
    for (number, (program, _)) in hostile.iter().enumerate() {
        text += &bridge(&format!("hostile{number}"), program, &number.to_string());
    }
    tokio::task::spawn_blocking(move || {
        let place = Place::new(&text);
        let daemon = place.start();
        std::thread::sleep(Duration::from_secs(SECONDS));
        daemon.stop();
    })
    .await
    .expect("no panic");
    let asked = asked.lock().unwrap().clone();
    // After the first polls, which begin where the start put them.
    let mut lags: Vec<Duration> =
        asked.windows(2).skip(2).map(|pair| (pair[1] - pair[0]).abs_diff(Duration::from_secs(1))).collect();
    lags.sort();
    let p99 = lags[lags.len() * 99 / 100];
    println!(
        "{} polls in {SECONDS} s; lag: p50 {:?}, p99 {p99:?}, longest {:?}",
        asked.len(),
        lags[lags.len() / 2],
        lags[lags.len() - 1]
    );
    assert!(
        asked.len() + 4 >= usize::try_from(SECONDS).expect("small") && p99 <= Duration::from_millis(100),
        "{p99:?}"
    );
}
