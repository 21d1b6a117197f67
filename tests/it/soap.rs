//! `source.soap`: envelopes of both versions, faults, namespaces, and WS-Security. Real servers are asked by
//! `tests/interop/`.

use std::sync::{Arc, Mutex};

use bellpull::poller::Polling;
use roxmltree::Document;
use sha1::{Digest, Sha1};

use crate::support::{
    rig::World,
    server::{Answer, Request, Server},
};

const ORDERS: &str = r#"
[bridge.orders]
every = "1h"
alert.after = 100
items = ".Envelope.Body.GetOrdersResponse.order[]"
key = ".id"
to = ["me"]
[bridge.orders.source.soap]
url = "SERVER/service"
action = "urn:shop/GetOrders"
body = '<g:GetOrders xmlns:g="urn:shop"><g:branch>7</g:branch></g:GetOrders>'
lists = ["order"]
"#;

type Script = Arc<Mutex<Box<dyn Fn(&Request) -> Answer + Send + Sync>>>;

async fn bank(
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> (Script, Arc<Mutex<Vec<Request>>>, Server) {
    let script: Script = Arc::new(Mutex::new(Box::new(answer)));
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let (answers, all) = (script.clone(), seen.clone());
    let server = Server::start(Arc::new(move |request: Request| {
        all.lock().unwrap().push(request.clone());
        (answers.lock().unwrap())(&request).into()
    }))
    .await;
    (script, seen, server)
}

fn orders(orders: &str) -> Answer {
    Answer::new(
        200,
        format!(
            "<?xml version=\"1.0\"?><S:Envelope xmlns:S=\"http://schemas.xmlsoap.org/soap/envelope/\"><S:Body>\
             <ns2:GetOrdersResponse xmlns:ns2=\"urn:shop\">{orders}</ns2:GetOrdersResponse></S:Body></S:Envelope>"
        ),
    )
    .header("content-type", "text/xml; charset=utf-8")
}

fn fault(status: u16) -> Answer {
    Answer::new(
        status,
        "<S:Envelope xmlns:S=\"http://schemas.xmlsoap.org/soap/envelope/\"><S:Body><S:Fault><faultcode>S:Server</faultcode>\
         <faultstring>the books are closed for hunter2-secret</faultstring></S:Fault></S:Body></S:Envelope>",
    )
    .header("content-type", "text/xml")
}

#[tokio::test]
async fn records_of_an_envelope_and_a_list_of_one() {
    let one = "<ns2:order><ns2:id>1</ns2:id><ns2:sum currency=\"EUR\">1.10</ns2:sum></ns2:order>";
    let (script, seen, server) = bank(move |_| orders(one)).await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin())).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    assert_eq!(world.rig.snapshot().await["1"], r##"{"id":"1","sum":{"#text":"1.10","@currency":"EUR"}}"##);
    *script.lock().unwrap() =
        Box::new(|_| orders("<ns2:order><ns2:id>1</ns2:id></ns2:order><ns2:order><ns2:id>2</ns2:id></ns2:order>"));
    world.poll().await;
    assert_eq!(world.rig.lines().await, ["orders.created 2 #1", "orders.updated 1 #2"]);
    let asked = seen.lock().unwrap()[0].clone();
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.header("content-type"), Some("text/xml; charset=utf-8"));
    assert_eq!(asked.header("soapaction"), Some("\"urn:shop/GetOrders\""));
    let text = String::from_utf8(asked.body).expect("UTF-8");
    let document = Document::parse(&text).expect("XML");
    let branch = document.descendants().find(|n| n.has_tag_name(("urn:shop", "branch"))).expect("the body");
    let up: Vec<_> = branch.ancestors().filter(|n| n.is_element()).map(|n| n.tag_name().name().to_owned()).collect();
    assert_eq!(up, ["branch", "GetOrders", "Body", "Envelope"]);
    assert_eq!(document.root_element().tag_name().namespace(), Some("http://schemas.xmlsoap.org/soap/envelope/"));
}

/// The last order was deleted, the empty response became a text, and the bridge failed for ever in place of the deletion.
#[tokio::test]
async fn the_last_record_of_a_list_is_deleted() {
    let (script, _, server) = bank(|_| orders("<order><id>1</id></order>")).await;
    let text = ORDERS.replace("SERVER", &server.origin()).replace("alert.after", "empty = \"accept\"\nalert.after");
    let mut world = World::start(&text).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    *script.lock().unwrap() = Box::new(|_| orders(""));
    assert_eq!(world.poll().await, Polling::Changed { created: 0, updated: 0, deleted: 1 });
    *script.lock().unwrap() = Box::new(|_| orders("<total>0</total>"));
    assert_eq!(world.poll().await, Polling::Same);
    // An envelope without the response says nothing of its list.
    let no_response = "<S:Envelope xmlns:S=\"http://schemas.xmlsoap.org/soap/envelope/\"><S:Body/></S:Envelope>";
    *script.lock().unwrap() = Box::new(move |_| Answer::new(200, no_response).header("content-type", "text/xml"));
    assert!(world.rig.poll().await.result.is_err());
    *script.lock().unwrap() = Box::new(|_| orders("<order><id>2</id></order>"));
    assert_eq!(world.poll().await, Polling::Changed { created: 1, updated: 0, deleted: 0 });
}

#[tokio::test]
async fn a_fault_is_an_error_whatever_its_status_and_changes_nothing() {
    let (script, _, server) = bank(|_| orders("<order><id>1</id></order>")).await;
    let text = ORDERS.replace("SERVER", &server.origin()) + "auth.bearer.secret = { value = \"hunter2-secret\" }\n";
    let mut world = World::start(&text).await;
    world.poll().await;
    let before = world.rig.export().await;
    for status in [500, 200, 400] {
        *script.lock().unwrap() = Box::new(move |_| fault(status));
        assert!(world.rig.poll().await.result.is_err());
        let error = world.rig.polled().progress.last_error.clone().expect("an error");
        let origin = server.origin();
        assert_eq!(error, format!("{origin} answered {status} with an error: S:Server: the books are closed for ***"));
        assert_eq!(world.rig.export().await, before);
    }
    // Another 500 is told by its beginning.
    *script.lock().unwrap() = Box::new(|_| Answer::new(500, "Internal"));
    let error = world.fail().await;
    assert!(error.ends_with("answered 500: Internal"), "{error}");
}

/// The one thing that says what is wrong was left out.
#[tokio::test]
async fn the_detail_of_a_fault_is_told_without_secrets_and_not_for_ever() {
    let fault = |detail: &str| {
        let body = format!(
            "<S:Envelope xmlns:S='http://schemas.xmlsoap.org/soap/envelope/'><S:Body><S:Fault><faultcode>S:Client</faultcode>\
             <faultstring>Validation failed</faultstring><detail>{detail}</detail></S:Fault></S:Body></S:Envelope>"
        );
        Answer::new(500, body).header("content-type", "text/xml")
    };
    let (script, _, server) = bank(|_| orders("")).await;
    let text = ORDERS.replace("SERVER", &server.origin()) + "auth.bearer.secret = { value = \"hunter2-secret\" }\n";
    let mut world = World::start(&text).await;
    *script.lock().unwrap() = Box::new(move |_| {
        fault("<v:error xmlns:v='urn:v'><v:field>iban</v:field><v:token>hunter2-secret</v:token></v:error>")
    });
    let error = world.rig.poll().await.result.err().map(|_| world.rig.polled().progress.last_error.clone());
    let expected = format!(
        "{} answered 500 with an error: S:Client: Validation failed (field: iban, token: ***)",
        server.origin()
    );
    assert_eq!(error.flatten(), Some(expected));
    *script.lock().unwrap() = Box::new(move |_| fault(&"<x>long </x>".repeat(100_000)));
    let error = world.fail().await;
    assert!(error.len() < 400, "{} bytes", error.len());
}

/// CXF and Metro answer so whenever MTOM is on, also Faults; the answer was "not XML".
#[tokio::test]
async fn of_an_answer_with_attachments_the_root_is_read() {
    let parts = |root: &str| {
        let body = format!(
            "--uuid:1\r\nContent-Type: image/png\r\nContent-ID: <a@x>\r\n\r\n\u{1}\u{2}\r\n--uuid:1\r\n\
             Content-Type: application/xop+xml; charset=UTF-8; type=\"text/xml\"\r\nContent-Transfer-Encoding: binary\r\n\
             Content-ID: <root@x>\r\n\r\n{root}\r\n--uuid:1--"
        );
        Answer::new(200, body).header(
            "content-type",
            "multipart/related; type=\"application/xop+xml\"; boundary=\"uuid:1\"; start=\"<root@x>\"; start-info=\"text/xml\"",
        )
    };
    let envelope = |body: &str| {
        format!("<S:Envelope xmlns:S='http://schemas.xmlsoap.org/soap/envelope/'><S:Body>{body}</S:Body></S:Envelope>")
    };
    let order = "<GetOrdersResponse><order><id>1</id><scan><x:Include xmlns:x='http://www.w3.org/2004/08/xop/include' \
                 href='cid:a@x'/></scan></order></GetOrdersResponse>";
    let answer = envelope(order);
    let (script, _, server) = bank(move |_| parts(&answer)).await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin())).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
    assert_eq!(world.rig.snapshot().await["1"], r#"{"id":"1","scan":{"Include":{"@href":"cid:a@x"}}}"#);
    let fault = envelope("<S:Fault><faultstring>closed</faultstring></S:Fault>");
    *script.lock().unwrap() = Box::new(move |_| parts(&fault));
    let error = world.fail().await;
    assert!(error.ends_with("answered 200 with an error: closed"), "{error}");
    let cut = Answer::new(200, "--b\r\n\r\n<Envelope>").header("content-type", "multipart/related; boundary=b");
    *script.lock().unwrap() = Box::new(move |_| cut.clone());
    let error = world.fail().await;
    assert!(error.contains("the answer is not multipart/related: a part of it is cut off"), "{error}");
}

/// An answer of RPC/encoded names its records by reference, and a value that is not there is `xsi:nil`.
#[tokio::test]
async fn references_and_nil_are_values() {
    let response = "<order href='#id0'/><order href='#id1'/></ns2:GetOrdersResponse>\
        <multiRef id='id0' soapenc:root='0'><id>1</id><note xsi:nil='true'/><to href='#id2'/></multiRef>\
        <multiRef id='id1' soapenc:root='0'><id>2</id><note>x</note><to href='#id2'/></multiRef>\
        <multiRef id='id2'><city>Bonn</city></multiRef><ns2:GetOrdersResponse>";
    let (_, _, server) = bank(move |_| {
        let answer = orders(response);
        let text = String::from_utf8_lossy(&answer.body).replace("<ns2:GetOrdersResponse></ns2:GetOrdersResponse>", "");
        Answer::new(200, text).header("content-type", "text/xml")
    })
    .await;
    let mut world = World::start(&ORDERS.replace("SERVER", &server.origin())).await;
    assert_eq!(world.poll().await, Polling::Baseline { records: 2 });
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let records = world.rig.snapshot().await;
    assert_eq!(json(&records["1"]), json(r#"{"id":"1","note":null,"to":{"city":"Bonn"}}"#));
    assert_eq!(json(&records["2"]), json(r#"{"id":"2","note":"x","to":{"city":"Bonn"}}"#));
}

/// WCF's bindings want both: a time beside the token, and what is asked in the header.
#[tokio::test]
async fn a_timestamp_and_addresses_stand_in_the_header() {
    const WSU: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
    const WSA: &str = "http://www.w3.org/2005/08/addressing";
    let (_, seen, server) = bank(|_| orders("<order><id>1</id></order>")).await;
    let lines = "addressing = true\nauth.wsse = { username = \"ann\", password = { value = \"hunter2-secret\" }, timestamp = \"5m\" }\n";
    let mut world = World::start(&(ORDERS.replace("SERVER", &server.origin()) + lines)).await;
    world.poll().await;
    world.poll().await;
    let mut ids = std::collections::BTreeSet::new();
    for asked in seen.lock().unwrap().iter() {
        let text = String::from_utf8(asked.body.clone()).expect("UTF-8");
        let document = Document::parse(&text).expect("XML");
        let of = |ns, name| {
            let found =
                document.descendants().find(|n| n.has_tag_name((ns, name))).unwrap_or_else(|| panic!("{name}: {text}"));
            let parents: Vec<_> = found.ancestors().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
            assert!(parents.contains(&"Header"), "{text}");
            found
        };
        assert_eq!(of(WSA, "Action").text(), Some("urn:shop/GetOrders"));
        assert_eq!(of(WSA, "To").text(), Some(format!("{}/service", server.origin()).as_str()));
        assert_eq!(of(WSA, "Address").text(), Some("http://www.w3.org/2005/08/addressing/anonymous"));
        let id = of(WSA, "MessageID").text().expect("an id").to_owned();
        assert!(id.starts_with("urn:uuid:") && id.len() == 45, "{id}");
        ids.insert(id);
        let timestamp = of(WSU, "Timestamp");
        let times: Vec<chrono::DateTime<chrono::FixedOffset>> = timestamp
            .children()
            .filter(|n| n.is_element())
            .map(|n| n.text().expect("a time").parse().expect("RFC 3339"))
            .collect();
        assert_eq!(times[1] - times[0], chrono::TimeDelta::minutes(5), "{text}");
    }
    assert_eq!(ids.len(), 2, "each message has an id of its own");
}

#[tokio::test]
async fn version_1_2_has_its_action_in_the_content_type() {
    let (_, seen, server) = bank(|_| orders("<order><id>1</id></order>")).await;
    let mut world = World::start(&(ORDERS.replace("SERVER", &server.origin()) + "version = \"1.2\"\n")).await;
    world.poll().await;
    let asked = seen.lock().unwrap()[0].clone();
    assert_eq!(
        asked.header("content-type"),
        Some("application/soap+xml; charset=utf-8; action=\"urn:shop/GetOrders\"")
    );
    assert_eq!(asked.header("soapaction"), None);
    let text = String::from_utf8(asked.body).expect("UTF-8");
    let document = Document::parse(&text).expect("XML");
    assert_eq!(document.root_element().tag_name().namespace(), Some("http://www.w3.org/2003/05/soap-envelope"));
}

/// The service checks user and password as OASIS's profile says, by text and by digest.
#[tokio::test]
async fn a_username_token_stands_in_the_header() {
    const WSSE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
    const WSU: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd";
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let check = |request: &Request| -> Option<()> {
        let text = std::str::from_utf8(&request.body).ok()?;
        let document = Document::parse(text).ok()?;
        let part = |ns, name| document.descendants().find(|n| n.has_tag_name((ns, name)));
        let token = part(WSSE, "UsernameToken")?;
        let up: Vec<_> = token.ancestors().filter(|n| n.is_element()).map(|n| n.tag_name().name().to_owned()).collect();
        (up == ["UsernameToken", "Security", "Header", "Envelope"]).then_some(())?;
        (part(WSSE, "Username")?.text()? == "ann & bob").then_some(())?;
        let password = part(WSSE, "Password")?;
        let given = password.text()?;
        let nonce = STANDARD.decode(part(WSSE, "Nonce")?.text()?).ok()?;
        let created = part(WSU, "Created")?.text()?;
        let digest = Sha1::digest([&nonce, created.as_bytes(), b"hunter2<secret"].concat());
        let right = match password.attribute("Type")?.rsplit_once('#')?.1 {
            "PasswordText" => given == "hunter2<secret",
            "PasswordDigest" => given == STANDARD.encode(digest),
            _ => false,
        };
        right.then_some(())
    };
    let answer = move |request: &Request| {
        if check(request).is_some() { orders("<order><id>1</id></order>") } else { fault(500) }
    };
    for digest in [false, true] {
        let (_, seen, server) = bank(answer).await;
        let auth = format!(
            "auth.wsse = {{ username = \"ann & bob\", password = {{ value = \"hunter2<secret\" }}, digest = {digest} }}\n"
        );
        let mut world = World::start(&(ORDERS.replace("SERVER", &server.origin()) + &auth)).await;
        assert_eq!(world.poll().await, Polling::Baseline { records: 1 });
        world.poll().await;
        let bodies: Vec<Vec<u8>> = seen.lock().unwrap().iter().map(|r| r.body.clone()).collect();
        assert_ne!(bodies[0], bodies[1], "a nonce is used once");
        let (_, _, server) = bank(answer).await;
        let wrong = auth.replace("hunter2<", "hunter3<");
        let mut world = World::start(&(ORDERS.replace("SERVER", &server.origin()) + &wrong)).await;
        let error = world.fail().await;
        assert!(error.contains("with an error: S:Server"), "{error}");
    }
}
