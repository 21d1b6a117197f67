//! Receives bellpull's events: cargo run, with SECRET and PORT in the environment.
use std::{collections::HashMap, env, error::Error, io::Read};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;
use tiny_http::{Request, Response, Server};

fn verified(webhook: &Webhook, request: &mut Request) -> Result<Value, Box<dyn Error>> {
    let header = |header: &tiny_http::Header| -> Result<_, Box<dyn Error>> {
        let name = HeaderName::from_bytes(header.field.as_str().as_str().as_bytes())?;
        Ok((name, HeaderValue::from_str(header.value.as_str())?))
    };
    let headers = request.headers().iter().map(header).collect::<Result<HeaderMap, _>>()?;
    let mut body = Vec::new();
    request.as_reader().take(2 << 20).read_to_end(&mut body)?;
    webhook.verify(&body, &headers)?;
    Ok(serde_json::from_slice(&body)?)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let webhook = Webhook::new(&env::var("SECRET")?)?;
    let server = Server::http(format!("127.0.0.1:{}", env::var("PORT")?))?;
    let mut applied = HashMap::<[String; 3], u64>::new(); // stream, bridge, key: the last sequence; keep it with your data
    for mut request in server.incoming_requests() {
        let Ok(event) = verified(&webhook, &mut request) else {
            let _ = request.respond(Response::empty(401));
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let record = ["stream", "bridge", "key"].map(|name| text(&event["data"][name]));
        let sequence = event["data"]["sequence"].as_u64().unwrap_or(0); // what tells of bellpull itself has none
        if sequence > applied.get(&record).copied().unwrap_or(0) {
            println!("{} {} {sequence}", text(&event["type"]), record[2]); // apply it here
            applied.insert(record, sequence);
        }
        let _ = request.respond(Response::empty(204));
    }
    Ok(())
}
