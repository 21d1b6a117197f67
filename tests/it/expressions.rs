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
