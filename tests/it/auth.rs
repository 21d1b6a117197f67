//! Credentials that are fetched, computed or counted: OAuth 2.0, JWT, sessions, digest, rotation, and client certificates.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bellpull::{auth::vault::Vault, poller::Polling};
use rcgen::{BasicConstraints, IsCa};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::support::{
    rig::{World, list},
    server::{Answer, Request, Server, eventually},
    tls::{Mutual, SelfSigned},
};

/// A server whose answers a test decides, and all that it was asked.
struct Api {
    server: Server,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Api {
    async fn start(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let all = seen.clone();
        let handler = move |request: Request| {
            let mut seen = all.lock().unwrap();
            let before = seen.iter().filter(|r| r.path == request.path).count();
            seen.push(request.clone());
            drop(seen);
            answer(&request, before).into()
        };
        Self { server: Server::start(Arc::new(handler)).await, seen }
    }

    fn asked(&self, path: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|r| r.path == path).cloned().collect()
    }

    /// A bridge over `/items`, with `auth` lines in which `API` is this server.
    async fn world(&self, auth: &str) -> World {
        World::start(&self.text(auth)).await
    }

    fn text(&self, auth: &str) -> String {
        list(auth).replace("UPSTREAM", &self.server.origin()).replace("API", &self.server.origin())
    }
}

fn form(request: &Request) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

fn bearer(request: &Request) -> &str {
    request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

fn items() -> Answer {
    Answer::json(r#"[{"id":1}]"#)
}

const CLIENT: &str = r#"source.http.auth.oauth2 = { token-url = "API/token", client-id = "bell:pull", client-secret = { value = "se/cret+hunter2" }, scopes = ["read", "list"], audience = "shop" }"#;

/// Grants tokens t1, t2, ...; only the newest opens `/items`.
async fn oauth(life: u64) -> Api {
    let granted = Arc::new(Mutex::new(0));
    Api::start(move |request, _| {
        let mut granted = granted.lock().unwrap();
        match request.path.as_str() {
            "/token" => {
                *granted += 1;
                Answer::json(
                    json!({ "access_token": format!("token-{granted}"), "expires_in": life, "token_type": "bearer" })
                        .to_string(),
                )
            }
            _ if bearer(request) == format!("token-{granted}") => items(),
            _ => Answer::new(401, format!("no such token: {}", bearer(request))),
        }
    })
    .await
}

#[tokio::test]
async fn client_credentials_bring_a_token_that_is_kept() {
    let api = oauth(3600).await;
    let mut world = api.world(CLIENT).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    world.poll().await;
    assert_eq!((api.asked("/token").len(), api.asked("/items").len()), (1, 2));
    let asked = &api.asked("/token")[0];
    // RFC 6749, section 2.3.1: name and secret are form-encoded before they are joined.
    let basic = asked.header("authorization").and_then(|v| v.strip_prefix("Basic ")).expect("basic").to_owned();
    assert_eq!(STANDARD.decode(basic).expect("base64"), b"bell%3Apull:se%2Fcret%2Bhunter2");
    let expected = [("audience", "shop"), ("grant_type", "client_credentials"), ("scope", "read list")];
    assert_eq!(form(asked), expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
}

#[tokio::test]
async fn the_client_may_stand_in_the_body() {
    let api = oauth(3600).await;
    let mut world = api.world(&CLIENT.replace("audience = \"shop\"", "client-auth = \"body\"")).await;
    world.poll().await;
    let asked = &api.asked("/token")[0];
    assert_eq!(asked.header("authorization"), None);
    let form = form(asked);
    assert_eq!((form["client_id"].as_str(), form["client_secret"].as_str()), ("bell:pull", "se/cret+hunter2"));
}

#[tokio::test]
async fn a_token_that_ends_is_fetched_again() {
    let api = oauth(0).await;
    let mut world = api.world(CLIENT).await;
    for _ in 0..3 {
        world.poll().await;
    }
    assert_eq!((api.asked("/token").len(), api.asked("/items").len()), (3, 3));
}

#[tokio::test]
async fn a_401_brings_one_new_token_and_no_more() {
    let refuse = Arc::new(Mutex::new(false));
    let always = refuse.clone();
    let api = Api::start(move |request, before| match request.path.as_str() {
        "/token" => Answer::json(format!(r#"{{"access_token":"secret-token-{before}"}}"#)),
        _ if bearer(request) == "secret-token-0" || *always.lock().unwrap() => {
            Answer::new(401, format!("bad {}", bearer(request)))
        }
        _ => items(),
    })
    .await;
    let mut world = api.world(CLIENT).await;
    world.poll().await;
    assert_eq!((api.asked("/token").len(), api.asked("/items").len()), (2, 2));
    *refuse.lock().unwrap() = true;
    assert!(world.rig.poll().await.result.is_err());
    assert_eq!((api.asked("/token").len(), api.asked("/items").len()), (3, 4), "one more try, and then the poll fails");
    let error = world.rig.polled().progress.last_error.clone().expect("an error");
    assert!(error.ends_with("answered 401: bad ***"), "what was fetched is no less secret: {error}");
}

#[tokio::test]
async fn all_bridges_that_log_in_alike_share_one_login() {
    let api = Api::start(|request, _| match request.path.as_str() {
        "/token" => Answer::json(r#"{"access_token":"t","expires_in":"600"}"#).after(Duration::from_millis(200)),
        _ => items(),
    })
    .await;
    let one = api.text(CLIENT);
    let all: String = ["a", "b", "c", "d"].map(|name| one.replace("bridge.orders", &format!("bridge.{name}"))).concat();
    let other = one.replace("bridge.orders", "bridge.e").replace("\"list\"", "\"all\"");
    let mut world = World::start(&(all + &other)).await;
    let handle = world.rig.run().await;
    let polls = ["a", "b", "c", "d", "e"].map(|name| handle.poll(name.into()));
    for polled in futures_util::future::join_all(polls).await {
        polled.expect("accepted");
    }
    let mut scopes: Vec<String> = api.asked("/token").iter().map(|r| form(r)["scope"].clone()).collect();
    scopes.sort();
    assert_eq!(scopes, ["read all", "read list"], "one login at a time, and another for another scope");
}

#[tokio::test]
async fn a_login_that_is_refused_fails_the_poll_and_is_not_hammered() {
    let api = Api::start(|request, _| match request.path.as_str() {
        "/token" => Answer::new(401, r#"{"error":"invalid_client","error_description":"se/cret+hunter2 is wrong"}"#)
            .header("retry-after", "120"),
        _ => items(),
    })
    .await;
    let one = api.text(CLIENT);
    let mut world = World::start(&(one.clone() + &one.replace("bridge.orders", "bridge.other"))).await;
    let outcome = world.rig.poll_of("orders").await;
    assert_eq!(outcome.hint, Some(Duration::from_secs(120)));
    let error = world.rig.bridges["orders"].progress.last_error.clone().expect("an error");
    let origin = api.server.origin();
    assert_eq!(error, format!("the login was refused: {origin} answered 401: invalid_client: *** is wrong"));
    assert!(world.rig.poll_of("other").await.result.is_err());
    assert_eq!((api.asked("/token").len(), api.asked("/items").len()), (1, 0), "the second bridge knows already");
}

#[tokio::test]
async fn a_refresh_token_that_is_replaced_outlives_a_restart() {
    // The server takes each refresh token once.
    let api = Api::start(|request, before| match request.path.as_str() {
        "/token" if form(request)["refresh_token"] == format!("refresh-{before}") => Answer::json(
            json!({ "access_token": "t", "expires_in": 0, "refresh_token": format!("refresh-{}", before + 1) })
                .to_string(),
        ),
        "/token" => Answer::new(400, r#"{"error":"invalid_grant"}"#),
        _ => items(),
    })
    .await;
    let auth = r#"source.http.auth.oauth2 = { token-url = "API/token", client-id = "b", grant = "refresh-token", refresh-token = { value = "refresh-0" } }"#;
    let dir = tempfile::tempdir().expect("a directory");
    for restart in 1..=2 {
        let mut world = api.world(auth).await;
        world.rig.poller.vault = Vault::new(dir.path().join("tokens"));
        world.poll().await;
        world.poll().await;
        assert_eq!(api.asked("/token").len(), 2 * restart);
    }
    assert_eq!(form(&api.asked("/token")[0])["client_id"], "b", "a public client has a name only");
    let kept: Vec<_> = std::fs::read_dir(dir.path().join("tokens")).expect("a directory").flatten().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(kept[0].path()).expect("text"), "refresh-4");
}

/// Verifies a token with the public half that openssl made, and gives its claims.
fn verified(token: &str, key: &str, kind: &'static dyn VerificationAlgorithm) -> Json {
    let public = SubjectPublicKeyInfoDer::from_pem_file(format!("tests/data/keys/{key}.pub.pem")).expect("a key");
    // The last bit string of a SubjectPublicKeyInfo is the key itself (RFC 5280, section 4.1): of P-256 its 65 bytes, of
    // Ed25519 its 32, of RSA the sequence of two numbers.
    let der = public.as_ref();
    let length = match key {
        "p256" => 65,
        "ed25519" => 32,
        _ => 270,
    };
    let public = UnparsedPublicKey::new(kind, &der[der.len() - length..]);
    let (text, signature) = token.rsplit_once('.').expect("three parts");
    public.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).expect("base64")).expect("the signature holds");
    let claims = text.split_once('.').expect("two parts").1;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON")
}

#[tokio::test]
async fn a_jwt_is_signed_with_every_kind_of_key() {
    let keys: [(&str, &str, &'static dyn VerificationAlgorithm); 3] = [
        ("RS256", "rsa", &RSA_PKCS1_2048_8192_SHA256),
        ("ES256", "p256", &ECDSA_P256_SHA256_FIXED),
        ("EdDSA", "ed25519", &ED25519),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (algorithm, key, kind) in keys {
        // A key that others may read is refused.
        let file = dir.path().join(key);
        std::fs::copy(format!("tests/data/keys/{key}.pem"), &file).expect("copied");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("set");
        let api = Api::start(|_, _| items()).await;
        let auth = format!(
            "source.http.auth.jwt = {{ algorithm = \"{algorithm}\", key = {{ file = \"{}\" }}, ttl = \"5m\", claims = {{ iss = \"12345\" }} }}",
            file.display()
        );
        let mut world = api.world(&auth).await;
        world.poll().await;
        world.poll().await;
        let sent = api.asked("/items");
        let claims = verified(bearer(&sent[0]), key, kind);
        assert_eq!(claims["iss"], "12345");
        assert_eq!(claims["exp"].as_i64().expect("a time") - claims["iat"].as_i64().expect("a time"), 300);
        assert_eq!(bearer(&sent[0]), bearer(&sent[1]), "kept to its end");
    }
}

#[tokio::test]
async fn a_jwt_is_given_for_a_token() {
    let api = Api::start(|request, _| match request.path.as_str() {
        "/token" => Answer::json(r#"{"access_token":"granted","expires_in":60}"#),
        _ if bearer(request) == "granted" => items(),
        _ => Answer::new(401, ""),
    })
    .await;
    let auth = "source.http.auth.jwt = { algorithm = \"HS256\", key = { value = \"a shared key\" }, token-url = \"API/token\", claims = { iss = \"me\", aud = \"you\" } }";
    let mut world = api.world(auth).await;
    world.poll().await;
    let form = form(&api.asked("/token")[0]);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (text, signature) = form["assertion"].rsplit_once('.').expect("three parts");
    // HMAC-SHA256 by its definition (RFC 2104).
    let mut key = [0u8; 64];
    key[..12].copy_from_slice(b"a shared key");
    let inner = Sha256::digest([key.map(|b| b ^ 0x36).as_slice(), text.as_bytes()].concat());
    let outer = Sha256::digest([key.map(|b| b ^ 0x5c).as_slice(), &inner].concat());
    assert_eq!(URL_SAFE_NO_PAD.encode(outer), signature);
    let header = URL_SAFE_NO_PAD.decode(text.split_once('.').expect("two parts").0).expect("base64");
    assert_eq!(header, br#"{"alg":"HS256","typ":"JWT"}"#);
}

#[tokio::test]
async fn a_session_is_opened_once_and_anew_when_it_is_refused() {
    let api = Api::start(|request, before| match request.path.as_str() {
        "/login" => Answer::json(format!(r#"{{"session":{{"id":"session-{before}"}}}}"#)),
        _ if request.header("x-session") == Some("id=session-0") && before < 2 => items(),
        _ if request.header("x-session") == Some("id=session-1") => items(),
        _ => Answer::new(401, ""),
    })
    .await;
    let auth = r#"
[bridge.orders.source.http.auth.session]
request = { url = "API/login", json = { user = "me", password = { value = "hunter2-secret" } }, headers = { x-app = "7" } }
token = ".session.id"
inject.header = { name = "X-Session", prefix = "id=" }
[bridge.orders.source.http]"#;
    let text = api.text("").replace("source.http.url", &format!("{auth}\nurl")).replace("API", &api.server.origin());
    let mut world = World::start(&text).await;
    for _ in 0..4 {
        world.poll().await;
    }
    let logins = api.asked("/login");
    assert_eq!(logins.len(), 2);
    assert_eq!(logins[0].json(), json!({ "user": "me", "password": "hunter2-secret" }));
    assert_eq!((logins[0].method.as_str(), logins[0].header("x-app")), ("POST", Some("7")));
}

/// How a server says that a session is over: its status, content type and body.
struct Words {
    what: &'static str,
    source: &'static str,
    /// `refused` in the file, where the words are not the protocol's own.
    refused: &'static str,
    good: &'static str,
    bad: (u16, &'static str, &'static str),
    error: &'static str,
}

const WORDS: [Words; 5] = [
    Words {
        what: "GraphQL in a 200",
        source: "graphql = { query = \"{ a }\", ",
        refused: "",
        good: r#"{"data":{"a":[{"id":1}]}}"#,
        bad: (200, "application/json", r#"{"errors":[{"message":"who?","extensions":{"code":"UNAUTHENTICATED"}}]}"#),
        error: "API answered 200 with an error: who?",
    },
    Words {
        what: "a Fault",
        source: "soap = { body = \"<a/>\", lists = [\"a\"], ",
        refused: "",
        good: "<Envelope><Body><a><id>1</id></a></Body></Envelope>",
        bad: (
            500,
            "text/xml",
            "<E:Envelope><E:Body><E:Fault><faultcode>sf:INVALID_SESSION_ID</faultcode><faultstring>over</faultstring></E:Fault></E:Body></E:Envelope>",
        ),
        error: "API answered 500 with an error: sf:INVALID_SESSION_ID: over",
    },
    Words {
        what: "JSON in a 200",
        source: "http = { ",
        refused: ".error? == \"invalid_auth\"",
        good: r#"[{"id":1}]"#,
        bad: (200, "application/json", r#"{"ok":false,"error":"invalid_auth"}"#),
        error: "API answered 200 and refuses the token of a new login too (`auth.session.refused`): {\"ok\":false,\"error\":\"invalid_auth\"}",
    },
    Words {
        what: "a login page",
        source: "http = { ",
        refused: "type == \"string\" and test(\"Log in\")",
        good: r#"[{"id":1}]"#,
        bad: (200, "text/html", "<!DOCTYPE html><title>Log in</title>"),
        error: "API answered 200 and refuses the token of a new login too (`auth.session.refused`): <!DOCTYPE html><title>Log in</title>",
    },
    Words {
        what: "a status and a header",
        source: "http = { ",
        refused: "$status == 403 and $headers[\"x-why\"] == null",
        good: r#"[{"id":1}]"#,
        bad: (403, "text/plain", "no"),
        error: "API answered 403 and refuses the token of a new login too (`auth.session.refused`): no",
    },
];

impl Words {
    /// A server whose sessions end after so many answers each, and what a bridge over it is.
    async fn start(&self, answers: usize) -> (Api, World) {
        let (good, (status, kind, bad)) = (self.good, self.bad);
        let api = Api::start(move |request, before| match request.path.as_str() {
            "/login" => Answer::json(format!(r#"{{"t":"k9-q7-{before}"}}"#)),
            // Each session is refused the answer behind its last one, and that request comes with the next session.
            _ if request.header("x-session").and_then(|t| t.strip_prefix("k9-q7-"))
                == Some(&session_of(before, answers).to_string()) =>
            {
                Answer::new(200, good)
                    .header("content-type", if good.starts_with('<') { "text/xml" } else { "application/json" })
            }
            _ => Answer::new(status, bad).header("content-type", kind),
        })
        .await;
        let refused = if self.refused.is_empty() { String::new() } else { format!(", refused = '{}'", self.refused) };
        let login =
            format!("{{ request.url = \"API/login\", token = \".t\", inject.header = \"x-session\"{refused} }}");
        let text = format!(
            "[bridge.orders]\nevery = \"1h\"\nitems = '[.. | objects | select(.id?)][]'\nkey = \".id\"\nto = [\"me\"]\n\
             source.{}url = \"API/items\", auth.session = {login} }}\n",
            self.source
        );
        let world = World::start(&text.replace("API", &api.server.origin())).await;
        (api, world)
    }
}

/// The session that the request after so many is good with, where each lasts for so many answers and then is refused
/// once.
fn session_of(before: usize, answers: usize) -> usize {
    // The request that is refused counts to the session before it.
    if answers == 0 { usize::MAX } else { (before + 1) / (answers + 1) }
}

/// A server forgets a token and says so in its protocol's own words. Only a 401 was heard: until the token's hour was
/// over, each poll failed.
#[tokio::test]
async fn a_token_is_refused_in_words() {
    for words in &WORDS {
        let (api, mut world) = words.start(2).await;
        for poll in 0..6 {
            let polled = world.rig.poll().await.result;
            assert!(polled.is_ok(), "{}, poll {poll}: {polled:?}", words.what);
        }
        // Two answers of each session, and between two sessions one that refuses.
        assert_eq!((api.asked("/login").len(), api.asked("/items").len()), (3, 8), "{}", words.what);
    }
}

/// A new login changes nothing: the poll says so after one, and logs in no third time.
#[tokio::test]
async fn a_new_token_that_is_refused_too_is_the_polls_error() {
    for words in &WORDS {
        let (api, mut world) = words.start(0).await;
        let error = world.fail().await;
        assert_eq!(error, words.error.replace("API", &api.server.origin()), "{}", words.what);
        assert_eq!((api.asked("/login").len(), api.asked("/items").len()), (2, 2), "{}", words.what);
    }
}

/// In the middle of a walk: the pages before it are not asked for again.
#[tokio::test]
async fn a_token_that_ends_in_a_walk_is_replaced_there() {
    let api = Api::start(|request, before| {
        let page = request.query.get("page").map_or(1, |page| page.parse::<usize>().expect("a number"));
        match request.path.as_str() {
            "/token" => Answer::json(format!(r#"{{"access_token":"t{before}"}}"#)),
            _ if page > 2 && bearer(request) == "t0" => Answer::json(r#"{"error":"expired_token"}"#),
            _ if page > 3 => Answer::json("[]"),
            _ => Answer::json(json!([{ "id": page }]).to_string()),
        }
    })
    .await;
    let lines = r#"source.http.pages.page = { param = "page", start = 1 }
source.http.auth.oauth2 = { token-url = "API/token", client-id = "b", client-secret = { value = "hunter2-secret" }, refused = '.error? == "expired_token"' }"#;
    let mut world = api.world(lines).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 3 });
    let pages: Vec<_> = api.asked("/items").iter().filter_map(|asked| asked.query.get("page").cloned()).collect();
    assert_eq!(pages, ["1", "2", "3", "3", "4"]);
    assert_eq!(api.asked("/token").len(), 2);
}

/// A receiver that answers 200 and forgot the session: the event was taken for delivered.
#[tokio::test]
async fn a_receiver_refuses_a_token_in_words() {
    for good in [2, usize::MAX] {
        let api = Api::start(move |request, before| match request.path.as_str() {
            "/login" => Answer::json(format!(r#"{{"t":"session-{before}"}}"#)),
            "/hook" if request.header("x-session") == Some(&format!("session-{}", good - 1)) => {
                Answer::json(r#"{"ok":true}"#)
            }
            "/hook" => Answer::json(r#"{"ok":false,"error":"invalid_auth"}"#),
            _ => items(),
        })
        .await;
        let endpoint = "[endpoint.me]\nurl = \"API/hook\"\nretry.schedule = [\"1h\"]\nauth.session = { request.url = \"API/login\", token = \".t\", \
             inject.header = \"x-session\", refused = '.error? == \"invalid_auth\"' }\n";
        let text = api.text("first-poll = \"emit\"") + &endpoint.replace("API", &api.server.origin());
        let mut world = World::start(&text).await;
        world.poll().await;
        // Once more with a new token, and not a third time.
        eventually("both requests came", async || api.asked("/hook").len() >= 2).await;
        let hooks = api.asked("/hook");
        let tokens: Vec<_> = hooks.iter().take(2).filter_map(|hook| hook.header("x-session")).collect();
        assert_eq!(tokens, ["session-0", "session-1"]);
        let first = hooks[0].header("webhook-id").expect("an id");
        assert_eq!(hooks.iter().filter(|hook| hook.header("webhook-id") == Some(first)).count(), 2);
    }
}

#[tokio::test]
async fn a_session_may_be_a_cookie_or_stand_in_the_query_or_the_body() {
    let answer = |request: &Request, _| match request.path.as_str() {
        "/login" => Answer::json(r#"{"t":"a<b&c"}"#)
            .header("set-cookie", "SID=old; Path=/")
            .header("set-cookie", "SID=abc; HttpOnly"),
        _ => items(),
    };
    let login = "request.url = \"API/login\"";
    let cases = [
        (format!("{{ {login}, inject.cookie = \"SID\" }}"), ""),
        (format!("{{ {login}, token = \".t\", inject.query = \"sid\" }}"), ""),
        (
            format!("{{ {login}, token = \".t\", inject.body = \"TOKEN\" }}"),
            "source.http.method = \"POST\"\nsource.http.body = \"<a>TOKEN</a>\"\n",
        ),
    ];
    let expected = [(Some("SID=abc"), None, ""), (None, Some("a<b&c"), ""), (None, None, "<a>a&lt;b&amp;c</a>")];
    for ((session, lines), (cookie, query, body)) in cases.into_iter().zip(expected) {
        let api = Api::start(answer).await;
        let mut world = api.world(&format!("{lines}source.http.auth.session = {session}")).await;
        world.poll().await;
        let asked = &api.asked("/items")[0];
        let found =
            (asked.header("cookie"), asked.query.get("sid").map(String::as_str), String::from_utf8_lossy(&asked.body));
        assert_eq!(found, (cookie, query, body.into()));
    }
}

/// A bare token was "neither JSON nor XML", and one in a header could not be named. Google's metadata server sends
/// the one, and Transmission the other, with 409 and as the word that the old one is over.
#[tokio::test]
async fn a_session_may_come_as_text_or_in_a_header() {
    let api = Api::start(|request, _| match request.path.as_str() {
        "/login" => Answer::new(200, "eyJ.bare.token\n").header("content-type", "text/html"),
        _ if bearer(request) == "eyJ.bare.token" => items(),
        _ => Answer::new(401, ""),
    })
    .await;
    let lines = r#"source.http.auth.session = { request = { url = "API/login", method = "GET" }, token = ".", inject.header = { name = "Authorization", prefix = "Bearer " } }"#;
    let mut world = api.world(lines).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let api = Api::start(|request, before| match request.path.as_str() {
        "/rpc" => Answer::new(409, "").header("x-session-id", format!("id-{before}")),
        _ if before < 2 && request.header("x-session-id") == Some("id-0") => items(),
        _ if request.header("x-session-id") == Some("id-1") => items(),
        _ => Answer::new(409, ""),
    })
    .await;
    let lines = r#"source.http.auth.session = { request.url = "API/rpc", token-header = "X-Session-Id", inject.header = "X-Session-Id" }"#;
    let mut world = api.world(lines).await;
    for _ in 0..4 {
        world.poll().await;
    }
    assert_eq!(api.asked("/rpc").len(), 2);
}

/// Google grants an ID token and no access token where one is asked for.
#[tokio::test]
async fn an_id_token_is_taken_where_there_is_no_other() {
    let api = Api::start(|request, _| match request.path.as_str() {
        "/token" => Answer::json(r#"{"id_token":"id-token"}"#),
        _ if bearer(request) == "id-token" => items(),
        _ => Answer::new(401, ""),
    })
    .await;
    let mut world = api.world(CLIENT).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
}

#[tokio::test]
async fn a_password_and_further_parameters_bring_a_token() {
    let api = oauth(3600).await;
    let lines = r#"source.http.auth.oauth2 = { token-url = "API/token", client-id = "b", client-auth = "body", grant = "password", username = "me", password = { value = "hunter2-secret" }, params = { resource = "https://example.com", api_key = { value = "more-secret" } } }"#;
    let mut world = api.world(lines).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    let expected = [
        ("api_key", "more-secret"),
        ("client_id", "b"),
        ("grant_type", "password"),
        ("password", "hunter2-secret"),
        ("resource", "https://example.com"),
        ("username", "me"),
    ];
    assert_eq!(form(&api.asked("/token")[0]), expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    for wrong in [r#"params = { client_id = "x" }"#, r#"username = "me""#, r#"grant = "password", username = "me""#] {
        let lines = format!(
            r#"source.http.auth.oauth2 = {{ token-url = "API/token", client-id = "b", client-secret = {{ env = "S" }}, {wrong} }}"#
        );
        crate::support::rig::refused(&(api.text(&lines) + "\n[endpoint.me]\nurl = \"https://example.com\"\n"));
    }
}

/// Where a key is the name of a user, there is no password.
#[tokio::test]
async fn a_name_alone_is_sent_with_an_empty_password() {
    let api = Api::start(|_, _| items()).await;
    let mut world = api.world("source.http.auth.basic.username = { value = \"sk_live_key\" }").await;
    world.poll().await;
    let sent = api.asked("/items")[0].header("authorization").map(str::to_owned);
    assert_eq!(sent, Some(format!("Basic {}", STANDARD.encode("sk_live_key:"))));
}

/// A server of RFC 7616 with SHA-256: each nonce is good for three requests, whose counts must rise.
#[tokio::test]
async fn digest_answers_the_challenge_and_counts() {
    let hex = |text: String| Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let state = Arc::new(Mutex::new((0u32, 0u32)));
    let api = Api::start(move |request, _| {
        let mut state = state.lock().unwrap();
        let challenge = |nonce: u32, stale: bool| {
            Answer::new(401, "").header("www-authenticate", "Basic realm=\"shop\"").header(
                "www-authenticate",
                format!("Digest realm=\"shop\", qop=\"auth\", algorithm=SHA-256, nonce=\"n{nonce}\", stale={stale}"),
            )
        };
        let Some(given) = request.header("authorization") else {
            *state = (state.0 + 1, 0);
            return challenge(state.0, false);
        };
        let given = given.strip_prefix("Digest ").expect("never Basic");
        let part = |name: &str| {
            let found = given.split(',').find_map(|p| p.trim().strip_prefix(&format!("{name}=")).map(str::to_owned));
            found.unwrap_or_default().trim_matches('"').to_owned()
        };
        let count = u32::from_str_radix(&part("nc"), 16).expect("a count");
        if part("nonce") != format!("n{}", state.0) || count > 3 {
            *state = (state.0 + 1, 0);
            return challenge(state.0, true);
        }
        assert!(count > state.1, "a count that came before is a replay");
        state.1 = count;
        assert_eq!(part("uri"), request.target);
        let (ha1, ha2) = (hex("me:shop:hunter2-secret".into()), hex(format!("GET:{}", part("uri"))));
        let text = format!("{ha1}:{}:{}:{}:auth:{ha2}", part("nonce"), part("nc"), part("cnonce"));
        if hex(text) == part("response") { items() } else { challenge(state.0, false) }
    })
    .await;
    let auth = "source.http.query = { q = \"a b\" }\nsource.http.auth.digest = { username = \"me\", password = { value = \"hunter2-secret\" } }";
    let mut world = api.world(auth).await;
    for _ in 0..5 {
        world.poll().await;
    }
    assert_eq!(api.asked("/items").len(), 7, "one to learn the challenge, and one when its nonce was stale");
    let mut world = api.world(&auth.replace("hunter2-secret", "hunter3-secret")).await;
    let error = world.fail().await;
    assert!(error.contains("answered 401"), "{error}");
}

/// Each of two tokens may ask twice; the budgets are told in headers.
#[tokio::test]
async fn several_credentials_take_turns_by_what_is_left_of_them() {
    let left = Arc::new(Mutex::new(BTreeMap::from([("token-a".to_owned(), 1), ("token-b".to_owned(), 2)])));
    let api = Api::start(move |request, _| {
        let mut left = left.lock().unwrap();
        let budget = left.get_mut(bearer(request)).expect("a token of ours");
        if *budget == 0 {
            return Answer::new(429, "").header("x-ratelimit-remaining", "0").header("x-ratelimit-reset", "90");
        }
        *budget -= 1;
        items().header("x-ratelimit-remaining", budget.to_string()).header("x-ratelimit-reset", "90")
    })
    .await;
    let auth = r#"source.http.auth.rotate.of = [{ bearer.secret = { value = "token-a" } }, { bearer.secret = { value = "token-b" } }]"#;
    let mut world = api.world(auth).await;
    let mut hints = Vec::new();
    for _ in 0..3 {
        let outcome = world.rig.poll().await;
        outcome.result.expect("accepted");
        hints.push(outcome.hint.map(|hint| hint.as_secs()));
    }
    let used: Vec<String> = api.asked("/items").iter().map(|r| bearer(r).to_owned()).collect();
    assert_eq!(used, ["token-a", "token-b", "token-b"]);
    assert_eq!(hints, [None, None, Some(90)], "only when both are used up does the next poll wait");
    assert_eq!(world.rig.poll().await.hint, Some(Duration::from_secs(90)));
}

/// A token that was used up elsewhere: the other one is tried at once.
#[tokio::test]
async fn a_429_passes_to_the_next_credential() {
    let api = Api::start(|request, _| match bearer(request) {
        "token-a" => Answer::new(429, "").header("retry-after", "60"),
        _ => items(),
    })
    .await;
    let auth = r#"source.http.auth.rotate.of = [{ bearer.secret = { value = "token-a" } }, { bearer.secret = { value = "token-b" } }]"#;
    let mut world = api.world(auth).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    world.poll().await;
    let used: Vec<String> = api.asked("/items").iter().map(|r| bearer(r).to_owned()).collect();
    assert_eq!(used, ["token-a", "token-b", "token-b"]);
}

/// A server that wants a certificate of its own authority, and one that the machine does not trust.
#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks_for_it() {
    let server = Mutual::start("[{\"id\":1}]").await;
    let (addr, ca, own) = (server.addr, server.ca(), server.own());
    let text =
        |tls: &str| list(&format!("source.http.tls = {{ {tls} }}")).replace("UPSTREAM", &format!("https://{addr}"));
    let mut world = World::start(&text(&format!("{ca}, {own}"))).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    // Without either there is no connection.
    let mut world = World::start(&text(&ca)).await;
    let error = world.fail().await;
    assert!(error.contains(&addr.to_string()), "{error}");
    let mut world = World::start(&text(&own)).await;
    let error = world.fail().await;
    assert!(error.starts_with("failed to connect to https://127.0.0.1"), "{error}");
}

/// lightningnetwork/lnd#5450: the certificate that a server made for itself was no root that its own server could have.
#[tokio::test]
async fn a_server_with_the_certificate_that_tls_ca_names_is_asked() {
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::ExplicitNoCa, IsCa::NoCa] {
        let server = SelfSigned::start("[{\"id\":1}]", "127.0.0.1", is_ca).await;
        let twin = SelfSigned::start("[]", "127.0.0.1", is_ca).await;
        let misnamed = SelfSigned::start("[]", "box.example", is_ca).await;
        let text = |server: &SelfSigned, tls: &str| {
            list(&format!("source.http.tls = {{ {tls} }}")).replace("UPSTREAM", &format!("https://{}", server.addr))
        };
        let mut world = World::start(&text(&server, &server.ca())).await;
        assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
        // Neither another one's certificate nor one for another name.
        for refused in [text(&server, &twin.ca()), text(&misnamed, &misnamed.ca())] {
            let mut world = World::start(&refused).await;
            let error = world.fail().await;
            assert!(error.starts_with("failed to connect to https://127.0.0.1"), "{error}");
        }
    }
}

/// The server replaced the refresh token, and the poll gave up before it knew: the only key that was left was lost.
#[tokio::test]
async fn a_poll_that_gives_up_does_not_lose_the_new_refresh_token() {
    let api = Api::start(|request, before| match request.path.as_str() {
        "/token" if form(request)["refresh_token"] == format!("refresh-{before}") => Answer::json(
            json!({ "access_token": "t", "expires_in": 3600, "refresh_token": format!("refresh-{}", before + 1) })
                .to_string(),
        )
        .after(Duration::from_millis(if before == 0 { 600 } else { 0 })),
        "/token" => Answer::new(400, r#"{"error":"invalid_grant"}"#),
        _ => items(),
    })
    .await;
    let auth = r#"source.http.deadline = "200ms"
source.http.auth.oauth2 = { token-url = "API/token", client-id = "b", grant = "refresh-token", refresh-token = { value = "refresh-0" } }"#;
    let mut world = api.world(auth).await;
    let error = world.fail().await;
    assert!(error.ends_with("(`deadline`)"), "{error}");
    crate::support::server::eventually("it goes on with the new one", async || world.rig.poll().await.result.is_ok())
        .await;
    assert_eq!(form(&api.asked("/token")[1])["refresh_token"], "refresh-1");
}

/// A token endpoint that answers a bare string, and a login that quotes the password: both ended up in the log.
#[tokio::test]
async fn what_a_login_says_tells_no_secret() {
    let api = Api::start(|request, _| match request.path.as_str() {
        "/token" => Answer::json(r#""eyJhbGciOi-a-token""#),
        "/login" => Answer::new(400, "wrong password \"hunter22-secret\""),
        _ => items(),
    })
    .await;
    let session = r#"source.http.auth.session = { request = { url = "API/login", json = { p = { value = "hunter22-secret" } } }, token = ".t", inject.query = "t" }"#;
    for (auth, told) in
        [(CLIENT, "it is not a token response (RFC 6749, section 5.1)"), (session, "wrong password \"***\"")]
    {
        let mut world = api.world(auth).await;
        assert!(world.rig.poll().await.result.is_err());
        let error = world.rig.polled().progress.last_error.clone().expect("an error");
        assert!(error.ends_with(told), "{error}");
    }
}
