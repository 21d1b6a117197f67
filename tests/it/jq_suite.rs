//! jq's own tests, over the expressions of this program: `../shared/suites/jq`, in place.

use std::{fs, path::Path};

use bellpull::expr::{Error, Expr, use_workers};
use serde_json::Value as Json;

use super::support::daemon::binary;

/// Of 879 that are right today: 835, of which one takes seconds, and is stopped on a machine that has much to do.
const RIGHT: usize = 834;

/// One of their cases.
struct Case {
    place: String,
    program: String,
    /// `None`: the program must not compile.
    run: Option<(String, Vec<String>)>,
}

/// How a case ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Right,
    /// It does not compile, or stops with an error, where jq gives values: told, at least.
    Refused(String),
    /// Another value and no word about it.
    Silent(String),
}

fn cases(text: &str, file: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{file}:{}", number + 1);
        if line.starts_with("%%FAIL") {
            let program = lines.next().map(|(_, line)| line.to_owned()).unwrap_or_default();
            while lines.next_if(|(_, line)| !line.trim().is_empty()).is_some() {}
            cases.push(Case { place, program, run: None });
            continue;
        }
        let input = lines.next().map(|(_, line)| line.to_owned()).unwrap_or_default();
        let mut outputs = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            if !line.starts_with('#') {
                outputs.push(line.to_owned());
            }
        }
        cases.push(Case { place, program: line.to_owned(), run: Some((input, outputs)) });
    }
    cases
}

/// Numbers count by their value, as jq's own runner has it.
fn same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => left == right,
    }
}

fn run(case: &Case) -> Ended {
    let expr = match Expr::parse(&case.program) {
        Ok(expr) => expr,
        Err(_) if case.run.is_none() => return Ended::Right,
        Err(error) => return Ended::Refused(format!("does not compile: {}", error.message)),
    };
    let Some((input, expected)) = &case.run else {
        return Ended::Silent("it compiles".into());
    };
    let input = input.trim_start_matches('\u{feff}').as_bytes();
    // As their own runner has it: what comes first counts, and an error behind it does not.
    let told = |error| match error {
        Error::Failed { message, .. } | Error::Json { message, .. } => Ended::Refused(message),
        Error::Runaway { limit, .. } => Ended::Refused(format!("stopped: {limit}")),
    };
    let outputs = match expr.all_of_text(input) {
        Err(error) => match expr.texts(input, expected.len()) {
            Ok(texts) if texts.len() == expected.len() => {
                let outputs: Result<Vec<Json>, _> = texts.iter().map(|text| serde_json::from_str(text)).collect();
                let Ok(outputs) = outputs else { return told(error) };
                outputs
            }
            _ => return told(error),
        },
        Ok(outputs) => outputs,
    };
    let wanted: Result<Vec<Json>, _> = expected.iter().map(|line| serde_json::from_str(line)).collect();
    let Ok(wanted) = wanted else { return Ended::Refused(format!("the expected output is no JSON: {expected:?}")) };
    let right = wanted.len() == outputs.len() && wanted.iter().zip(&outputs).all(|(a, b)| same(a, b));
    let shown: Vec<String> = outputs.iter().map(Json::to_string).collect();
    if right { Ended::Right } else { Ended::Silent(format!("{} and not {}", shown.join(" "), expected.join(" "))) }
}

#[test]
fn jqs_own_tests() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/suites/jq/tests");
    if !dir.is_dir() {
        println!("skipped: {} is not there", dir.display());
        return;
    }
    use_workers(binary());
    let (mut right, mut all) = (0, 0);
    let mut silent = Vec::new();
    for file in ["base64", "jq", "man", "manonig", "onig", "optional", "uri"] {
        let text = fs::read_to_string(dir.join(format!("{file}.test"))).expect("readable");
        for case in cases(&text, file) {
            all += 1;
            match run(&case) {
                Ended::Right => right += 1,
                Ended::Refused(why) => println!("refused {} `{}`: {why}", case.place, case.program),
                Ended::Silent(what) => {
                    println!("SILENT {} `{}`: {what}", case.place, case.program);
                    silent.push(case.program);
                }
            }
        }
    }
    println!("{right} of {all} right, {} silent", silent.len());
    // What is right stays right. The rest is known to differ: much of it in the words of errors only.
    assert!(right >= RIGHT, "{right} of {all} are right, and {RIGHT} were");
}
