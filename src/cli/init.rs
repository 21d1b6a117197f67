//! `init`: a bridge over a URL, written into the file with an endpoint and a secret. What stands in the file stays as it
//! is; nothing is asked, and nothing is written before all of it is checked and tried.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value as Json, json};
use url::Url;

use super::{
    CONFIG, Done, FAILED, Failure, IO, USAGE, print,
    trial::{Trial, UrlArgs},
    try_url::{private, said},
};
use crate::{
    config::{self, Config, Secrets},
    guess::{
        Guess,
        credentials::{Credential, Secrets as Written, bridge_name},
        draft::{Draft, Walk},
        openapi,
        text::quoted,
    },
    http::{Answer, client, egress::Refused},
    poller::Polling,
    recipe, sign, source, terminal,
};

/// The endpoint of a first file.
const ME: &str = "me";
/// Where `bellpull listen` is, if nobody says where events go.
const LISTEN: &str = "http://127.0.0.1:9000/";
/// Chats by the names of their recipes; the endpoint there has the first name.
const CHATS: [(&str, &str); 5] = [
    ("slack", "slack-webhook"),
    ("discord", "discord-webhook"),
    ("teams", "teams"),
    ("ntfy", "ntfy"),
    ("telegram", "telegram"),
];
/// A dry run reads so many pages: enough to see that the next page is found.
const PAGES_TRIED: usize = 5;

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    #[command(flatten)]
    url: UrlArgs,
    /// Where events go: a URL, or slack, discord, teams, ntfy or telegram; else to `bellpull listen`
    #[arg(long, value_name = "URL|CHAT")]
    to: Option<String>,
    /// The bridge's name; else it is made of the URL
    #[arg(long)]
    name: Option<String>,
    /// Guess from an OpenAPI document in JSON, and ask the URL nothing
    #[arg(long, value_name = "FILE", requires = "path")]
    openapi: Option<PathBuf>,
    /// The document's path, such as /v1/orders
    #[arg(long, value_name = "PATH", requires = "openapi")]
    path: Option<String>,
}

/// What is written, and what stands beside it.
struct Plan {
    name: String,
    endpoint: String,
    /// What is appended to the file.
    text: String,
    /// The signing secret's file, if there is a new one.
    secret: Option<(PathBuf, String)>,
    variables: Vec<String>,
}

/// The file as it is.
struct Existing {
    text: String,
    config: Option<Config>,
    table: toml::Table,
}

pub(super) async fn init(path: &Path, args: InitArgs, json: bool) -> Done {
    let mut request = args.url.request()?;
    let described = described(&args)?;
    if let (Some((document, of)), true) = (&described, request.credentials.is_empty()) {
        // Their values are not asked for: the file names variables, and the URL is asked nothing.
        let unknown = |place| Credential { place, secret: "***".to_owned() };
        request.credentials = openapi::credentials(document, of).into_iter().map(unknown).collect();
    }
    let name = args.name.clone().unwrap_or_else(|| bridge_name(&request.url));
    let existing = existing(path)?;
    judge_name(&name, path, &existing)?;
    let network = existing.config.as_ref().map_or_else(client::Config::default, |config| config.network.clone());
    let trial = Trial::new(request, network).await?;
    let is_read = described.is_none();
    let guess = guess(&trial, described).await?;
    if !json {
        print(&private(&trial))?;
        print(&said(&guess))?;
    }
    let (walk, tried) = match is_read {
        true => dry_run(&trial, &guess, &name).await?,
        false => (Walk::All, "it was not tried: the URL was asked nothing".to_owned()),
    };
    let plan = plan(path, &args, &existing, &trial, &guess, (&name, walk)).await?;
    write(path, &existing, &plan).await?;
    if json {
        let shown = json!({
            "file": path.display().to_string(), "bridge": plan.name, "endpoint": plan.endpoint, "text": plan.text,
            "secret_file": plan.secret.as_ref().map(|(file, _)| file.display().to_string()),
            "variables": plan.variables, "dry_run": tried,
        });
        return print(&format!("{shown}\n"));
    }
    print(&format!("dry run: {tried}\n\n{}", next_steps(path, &plan, &args)))
}

/// The OpenAPI document, and the path in it.
fn described(args: &InitArgs) -> Result<Option<(Json, String)>, Failure> {
    let (Some(file), Some(path)) = (&args.openapi, &args.path) else { return Ok(None) };
    let why = "it is not JSON; a YAML document has to be converted first";
    let document = serde_json::from_str(&super::read(file)?);
    let document = document.map_err(|e| Failure::new(USAGE, format!("{}: {why}: {e}", file.display())))?;
    Ok(Some((document, path.clone())))
}

async fn guess(trial: &Trial, described: Option<(Json, String)>) -> Result<Guess, Failure> {
    if let Some((document, path)) = described {
        let sample = openapi::sample(&document, &path).map_err(|e| Failure::new(USAGE, e))?;
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))].into_iter().collect();
        let url = trial.request.url.clone();
        return trial.guess(&Answer { status: 200, headers, body: sample.to_string().into(), url }, None);
    }
    let first = trial.read().await?;
    // What is refused is refused at once.
    trial.guess(&first, None)?;
    let second = trial.read_again().await?;
    trial.guess(&first, Some(&second))
}

/// What is in the file, whose every error is told before anything is added to it.
fn existing(path: &Path) -> Result<Existing, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Ok(Existing { text: String::new(), config: None, table: toml::Table::new() });
        }
        Err(e) => return Err(Failure::new(IO, format!("failed to read {}: {e}", path.display()))),
    };
    let broken = |e: &dyn std::fmt::Display| {
        let why = "it has errors already, and nothing is added to it: `bellpull check` shows them";
        Failure::new(CONFIG, format!("{}: {why}\n{e}", path.display()))
    };
    let table: toml::Table = toml::from_str(&text).map_err(|e| broken(&e.message()))?;
    if table.is_empty() {
        return Ok(Existing { text, config: None, table });
    }
    let config = config::load_text(path, text.clone(), Secrets::FormOnly).map_err(|e| broken(&e))?;
    Ok(Existing { text, config: Some(config), table })
}

fn judge_name(name: &str, path: &Path, existing: &Existing) -> Done {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        let message = format!("--name {name:?}: a bridge's name has letters, digits, `_` and `-`");
        return Err(Failure::new(USAGE, message));
    }
    if existing.config.as_ref().is_some_and(|config| config.bridges.contains_key(name)) {
        let message =
            format!("{}: [bridge.{name}] is there already: --name NAME gives the new one another name", path.display());
        return Err(Failure::new(FAILED, message));
    }
    Ok(())
}

/// A poll by the bridge as it is written, and what it found. Pages that do not hold are left out.
async fn dry_run(trial: &Trial, guess: &Guess, name: &str) -> Result<(Walk, String), Failure> {
    if guess.pages.is_some() {
        match poll(trial, guess, name, Walk::Within(PAGES_TRIED)).await? {
            Ok(found) => return Ok((Walk::All, found)),
            Err(why) => {
                let (walk, found) = (Walk::First, poll(trial, guess, name, Walk::First).await?.map_err(refused)?);
                return Ok((walk, format!("{found}. The guessed `pages` is left out, since it does not hold: {why}")));
            }
        }
    }
    Ok((Walk::All, poll(trial, guess, name, Walk::All).await?.map_err(refused)?))
}

fn refused(why: String) -> Failure {
    Failure::new(FAILED, format!("nothing was written: the guessed bridge does not work: {why}"))
}

/// What one poll found, or why it failed.
async fn poll(trial: &Trial, guess: &Guess, name: &str, walk: Walk) -> Result<Result<String, String>, Failure> {
    let mut tried = trial.bridge(guess, name, walk).await?;
    let outcome = tried.poller.poll_once(&mut tried.polled).await;
    Ok(match outcome.result {
        Ok(Polling::Baseline { records }) => Ok(format!("{records} records")),
        Ok(_) => Ok("the answer is read".to_owned()),
        // That there are more than the dry run wants shows that pages are found.
        Err(crate::poller::Failure::Source(source::Error { kind: source::ErrorKind::Pages { max, .. }, .. })) => {
            Ok(format!("the first {max} pages; more follow"))
        }
        Err(failure) => Err(tried.poller.vault.redact(&failure.to_string())),
    })
}

/// Everything that is to be written.
async fn plan(
    path: &Path,
    args: &InitArgs,
    existing: &Existing,
    trial: &Trial,
    guess: &Guess,
    (name, walk): (&str, Walk),
) -> Result<Plan, Failure> {
    let request = &trial.request;
    let mut variables = request.variables(name);
    let (endpoint, endpoint_text, secret, to) = endpoint(path, args, existing, name)?;
    variables.extend(named_variables(&endpoint_text));
    let receiver = match to {
        Some(url) => super::trial::private(&url, &allowed(existing)).await,
        None => Vec::new(),
    };
    let mut private: Vec<&Refused> = trial.private.iter().chain(&receiver).collect();
    private.sort_by_key(|refused| refused.range);
    private.dedup_by_key(|refused| refused.range);
    let network = network(path, existing, &private)?;
    let draft = Draft { name, request, guess, to: &endpoint };
    let shown = terminal::line(request.url.as_str());
    let start = if existing.text.is_empty() || existing.text.ends_with("\n\n") { "" } else { "\n" };
    let line = if existing.text.is_empty() || existing.text.ends_with('\n') { "" } else { "\n" };
    let text = format!(
        "{line}{start}{network}# Written by `bellpull init`, from what {shown} answered.\n{}{endpoint_text}",
        draft.bridge(Written::Env, walk)
    );
    Ok(Plan { name: name.to_owned(), endpoint, text, secret, variables })
}

fn allowed(existing: &Existing) -> Vec<ipnet::IpNet> {
    existing.config.as_ref().map(|config| config.network.allow.clone()).unwrap_or_default()
}

/// An endpoint's name, its text, the file of its secret, and where it sends.
type Receiving = (String, String, Option<(PathBuf, String)>, Option<Url>);

fn endpoint(path: &Path, args: &InitArgs, existing: &Existing, name: &str) -> Result<Receiving, Failure> {
    let has = |name: &str| existing.config.as_ref().is_some_and(|config| config.endpoints.contains_key(name));
    let to = args.to.as_deref();
    if let Some((chat, recipe)) = CHATS.into_iter().find(|(chat, _)| Some(*chat) == to) {
        return Ok(match has(chat) {
            true => (chat.to_owned(), String::new(), None, None),
            false => (chat.to_owned(), chat_endpoint(chat, recipe)?, None, None),
        });
    }
    if to.is_none() && has(ME) {
        return Ok((ME.to_owned(), String::new(), None, None));
    }
    let chats = CHATS.map(|(chat, _)| chat).join(", ");
    let url: Url = to
        .unwrap_or(LISTEN)
        .parse()
        .map_err(|e| Failure::new(USAGE, format!("--to is neither a URL ({e}) nor one of {chats}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::new(
            USAGE,
            format!("--to takes an http or https URL without user and password, or one of {chats}"),
        ));
    }
    let own = if has(ME) { format!("{name}-receiver") } else { ME.to_owned() };
    if has(&own) {
        let message = format!("[endpoint.{own}] is there already: leave --to out, and name it in `to` of the bridge");
        return Err(Failure::new(FAILED, message));
    }
    let dir = std::path::absolute(path).map_err(|e| Failure::new(IO, format!("{}: {e}", path.display())))?;
    let file = dir.with_file_name(format!("{name}.secret"));
    let shown = file.to_str().ok_or_else(|| Failure::new(IO, format!("{} is not UTF-8", file.display())))?;
    let what = if to.is_none() { " # `bellpull listen`; edit it when your own receiver is there" } else { "" };
    let text = format!(
        "\n[endpoint.{own}]\nurl = {}{what}\nsign.standard.secrets = [{{ file = {} }}] # the receiver has the same\n",
        quoted(url.as_str()),
        quoted(shown)
    );
    Ok((own, text, Some((file, sign::make_secret())), Some(url)))
}

/// The endpoint of a recipe, without the one that stands for a person's own.
fn chat_endpoint(chat: &str, name: &str) -> Result<String, Failure> {
    let recipe = recipe::find(name).map(|recipe| recipe.text).unwrap_or_default();
    let text = recipe.split_once(&format!("[endpoint.{chat}]")).map(|(_, text)| text);
    let text = text.ok_or_else(|| Failure::new(FAILED, format!("the recipe {name} has no [endpoint.{chat}]")))?;
    let own = text.split(&format!("[endpoint.{ME}]")).next().unwrap_or_default().trim_end();
    Ok(format!("\n[endpoint.{chat}]{own}\n"))
}

/// The variables that a text takes secrets from.
fn named_variables(text: &str) -> Vec<String> {
    let found =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| line.split("env = \"").skip(1));
    found.filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
}

/// What lets addresses in that are not public, if it is needed and can be appended.
fn network(path: &Path, existing: &Existing, private: &[&Refused]) -> Result<String, Failure> {
    if private.is_empty() {
        return Ok(String::new());
    }
    let ranges: Vec<String> = private.iter().map(|refused| format!("\"{}\"", refused.range)).collect();
    let ranges = ranges.join(", ");
    let what = private.first().map_or("", |refused| refused.what);
    if existing.table.contains_key("network") {
        let all: Vec<String> = allowed(existing).iter().map(|net| format!("\"{net}\"")).chain([ranges]).collect();
        let message = format!(
            "{}: nothing was written: an address is refused ({what}): write allow = [{}] into [network] first",
            path.display(),
            all.join(", ")
        );
        return Err(Failure::new(CONFIG, message));
    }
    Ok(format!("[network]\nallow = [{ranges}] # {what}: refused without it\n\n"))
}

/// Checks what the file will be, and writes it. What is there stays, byte for byte.
async fn write(path: &Path, existing: &Existing, plan: &Plan) -> Done {
    let (file, whole) = (path.to_owned(), existing.text.clone() + &plan.text);
    let checked = tokio::task::spawn_blocking(move || config::load_text(&file, whole, Secrets::FormOnly));
    let checked = checked.await.map_err(|e| Failure::new(IO, e.to_string()))?;
    checked.map_err(|e| Failure::new(CONFIG, format!("nothing was written: the file would have errors:\n{e}")))?;
    if let Some((file, secret)) = &plan.secret {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let written =
            made.and_then(|mut made| made.write_all(format!("{secret}\n").as_bytes()).and_then(|()| made.sync_all()));
        written.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Failure::new(
                FAILED,
                format!("{} is there already: remove it, or choose another --name", file.display()),
            ),
            _ => Failure::new(IO, format!("failed to write {}: {e}", file.display())),
        })?;
    }
    append(path, existing.text.len(), &plan.text).map_err(|e| {
        // A secret that nothing names is of no use.
        plan.secret.iter().for_each(|(file, _)| drop(fs::remove_file(file)));
        Failure::new(IO, format!("failed to write {}: {e}", path.display()))
    })
}

/// Appends to a file that has so many bytes; what cannot be written whole is taken back.
fn append(path: &Path, bytes: usize, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let before = file.metadata()?.len();
    if usize::try_from(before) != Ok(bytes) {
        return Err(std::io::Error::other("somebody wrote to it meanwhile: say it again"));
    }
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        file.set_len(before)?;
    }
    written
}

fn next_steps(path: &Path, plan: &Plan, args: &InitArgs) -> String {
    let Plan { name, endpoint, secret, variables, .. } = plan;
    let of_file = match path.to_str() {
        Some("bridges.toml") | None => String::new(),
        Some(path) => format!(" --config {path}"),
    };
    let mut out = format!("{}: [bridge.{name}] was added, which sends to [endpoint.{endpoint}]\n", path.display());
    if let Some((file, _)) = secret {
        out += &format!("{}: the secret that signs\n", file.display());
    }
    out += "next:\n";
    let set: Vec<String> = variables.iter().map(|name| format!("  export {name}=...\n")).collect();
    out += &set.concat();
    if let (None, Some((file, _))) = (&args.to, secret) {
        out += &format!("  bellpull listen --secret-file {}     # in another terminal\n", file.display());
    }
    out += &format!("  bellpull{of_file} run\n");
    out += &format!(
        "The first answer is a silent baseline; `bellpull{of_file} resend {name} --endpoint {endpoint}` sends its records.\n"
    );
    terminal::lines(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::HeaderMap, response::IntoResponse, routing::get};
    use clap::Parser;
    use tokio::net::TcpListener;

    use super::*;
    use crate::cli::Cli;

    /// Lists in pages of two, behind a token; and one whose cursor goes into a parameter that nobody can guess.
    async fn api() -> String {
        async fn jobs(headers: HeaderMap, uri: axum::http::Uri) -> axum::response::Response {
            if headers.get("authorization").is_none_or(|token| token.as_bytes() != b"Bearer s3cr3t-token") {
                return (axum::http::StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], "no").into_response();
            }
            let list = |from: u64| json!([{ "id": from, "n": 1 }, { "id": from + 1, "n": 1 }]).to_string();
            let kind = ("content-type", "application/json");
            match uri.query() {
                Some("page=2") => ([kind], list(3)).into_response(),
                _ => ([kind, ("link", "</v1/jobs?page=2>; rel=\"next\"")], list(1)).into_response(),
            }
        }
        async fn odd() -> impl IntoResponse {
            ([("content-type", "application/json")], r#"{"data":[{"id":1},{"id":2}],"next_cursor":"c"}"#)
        }
        let router = Router::new().route("/v1/jobs", get(jobs)).route("/v1/odd", get(odd));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        origin
    }

    async fn typed(file: &Path, words: &[&str]) -> Result<(), Failure> {
        let file = file.to_str().expect("UTF-8");
        let all = ["bellpull", "--config", file].into_iter().chain(words.iter().copied());
        Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{e}")).run().await
    }

    /// The whole way, except for the process and the daemon, which `tests/it/first_hour.rs` has.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_url_becomes_a_file() {
        let (origin, dir) = (api().await, tempfile::tempdir().expect("a directory"));
        let file = dir.path().join("bridges.toml");
        let jobs = format!("{origin}/v1/jobs");
        let token = ["-H", "Authorization: Bearer s3cr3t-token"];
        let refused = typed(&file, &["init", &jobs]).await.expect_err("it wants a token");
        assert!(refused.message.contains("-H \"Authorization: Bearer TOKEN\""), "{}", refused.message);
        assert!(!file.exists());
        typed(&file, &["try", &jobs, "--once", token[0], token[1]]).await.expect("it reads");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0, "`try` writes nothing");

        typed(&file, &["init", &jobs, token[0], token[1]]).await.expect("it writes");
        let first = fs::read_to_string(&file).expect("written");
        for line in [
            "[network]\nallow = [\"127.0.0.0/8\"] # ",
            "items = \".[]\" # a list: 2 records\n",
            "key = \".id\" # another in each of both records\n",
            "to = [\"me\"]\n",
            "auth.bearer.secret = { env = \"JOBS_TOKEN\" }\n",
            "pages.link = {} # the answer has a `Link` header",
        ] {
            assert!(first.contains(line), "{line}: {first}");
        }
        assert!(!first.contains("s3cr3t"), "{first}");
        let config = config::load(&file, Secrets::FormOnly).unwrap_or_else(|e| panic!("{e}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let again = typed(&file, &["init", &jobs, token[0], token[1]]).await.expect_err("it is there");
        assert!(again.message.contains("[bridge.jobs] is there already"), "{}", again.message);

        // Asked with a parameter that it does not know, it gives the first page again.
        typed(&file, &["init", &format!("{origin}/v1/odd"), "--to", "https://192.0.2.1/hook"])
            .await
            .expect_err("private");
        typed(&file, &["init", &format!("{origin}/v1/odd"), "--to", "http://127.0.0.1:9/hook"])
            .await
            .expect("it writes");
        let second = fs::read_to_string(&file).expect("written");
        assert!(second.starts_with(&first), "{second}");
        for line in ["# pages.cursor = { param = \"cursor\"", "window = true # ", "to = [\"odd-receiver\"]"] {
            assert!(second.contains(line), "{line}: {second}");
        }
        let config = config::load(&file, Secrets::FormOnly).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((config.bridges.len(), config.endpoints.len()), (2, 2));
    }

    #[test]
    fn each_chat_is_an_endpoint_of_its_recipe() {
        for (chat, recipe) in CHATS {
            let text = chat_endpoint(chat, recipe).unwrap_or_else(|e| panic!("{chat}: {}", e.message));
            let bridge = "[bridge.a]\nevery = \"5m\"\nto = [\"NAME\"]\nsource.http.url = \"https://a.example/\"\n"
                .replace("NAME", chat);
            let file = Path::new("bridges.toml");
            let config =
                config::load_text(file, bridge + &text, Secrets::FormOnly).unwrap_or_else(|e| panic!("{chat}: {e}"));
            assert!(config.endpoints.contains_key(chat) && config.endpoints.len() == 1, "{chat}");
            assert!(!named_variables(&text).is_empty(), "{chat}: {text}");
        }
    }

    #[test]
    fn what_was_written_meanwhile_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("bridges.toml");
        append(&file, 0, "a").expect("a new file");
        append(&file, 1, "b").expect("at its end");
        assert!(append(&file, 1, "c").is_err());
        assert_eq!(fs::read_to_string(&file).expect("readable"), "ab");
    }
}
