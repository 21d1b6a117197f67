//! `source.grpc`: one call of a gRPC method, unary or with a stream of answers that ends. What a message looks like is
//! learned from a descriptor set or from the server's reflection; `items` sees canonical protobuf JSON, of a stream an
//! array.

mod channel;
mod reflection;

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, prost::Message};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value as Json, json};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use url::Url;

use super::{
    Answer, Ask, Error, ErrorKind, Fetched,
    auth::With,
    transport::{HTTP, Transport, fixed_origin, read_url},
};
use crate::{
    decode::Page,
    http::{Request, identity::Version, origin},
    model::{Hash, Validators},
    settings::{
        Item, Table,
        value::{JsonBody, Value},
    },
};
use channel::Channel;

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    target: Value,
    /// Of `target`, where jq does not make it.
    pub origin: Option<String>,
    /// `pkg.Service` and `Method`.
    service: String,
    method: String,
    request: Option<JsonBody>,
    /// `None`: the server is asked.
    descriptors: Option<Descriptors>,
    pub transport: Transport,
}

/// A descriptor set's method.
#[derive(Debug, Clone)]
struct Descriptors {
    method: MethodDescriptor,
    hash: Hash,
}

impl PartialEq for Descriptors {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Source {
    /// Reads `[bridge.NAME.source.grpc]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let target = table.require("target", "target = \"https://grpc.example.com\"").and_then(|i| read_url(&i, HTTP));
        let method = table.require("method", "method = \"shop.Orders/List\"");
        let name = method.as_ref().and_then(|i| i.parse_text(name, "a method such as \"shop.Orders/List\""));
        let request = table.take("request").map(|i| i.json_body());
        let place = table.key_place("reflection");
        let set = table.take("descriptors");
        let reflection = table.take("reflection").map_or(Some(false), |i| i.boolean());
        let descriptors = match (&set, reflection) {
            (None, Some(true)) => Some(None),
            (Some(set), Some(false)) => name.as_ref().and_then(|name| read_descriptors(set, name)).map(Some),
            (None, Some(false)) => {
                table
                    .error(format!("{} does not say what its messages look like", table.title()))
                    .missing()
                    .help(
                        "reflection = true, or descriptors = \"/path/of/set.binpb\" (protoc --descriptor_set_out)"
                            .into(),
                    )
                    .report();
                None
            }
            (Some(_), Some(true)) => {
                let place = place.unwrap_or_else(|| table.place.clone());
                let message = format!("`reflection` stands beside `descriptors` in {}", table.title());
                table.error_at(place, message).help("keep one of them".into()).report();
                None
            }
            (_, None) => None,
        };
        let transport = Transport::read(&mut table, "metadata");
        table.finish();
        let (target, (service, method)) = (target?, name?);
        Some(Self {
            origin: fixed_origin(&target),
            target,
            service,
            method,
            request: request.map_or(Some(None), |r| r.map(Some))?,
            descriptors: descriptors?,
            transport: transport?,
        })
    }

    /// What the snapshot depends on.
    pub fn definition(&self) -> String {
        let Self { target, service, method, request, .. } = self;
        let set = self.descriptors.as_ref().map(|d| d.hash);
        format!("grpc {target:?} {service}/{method} {request:?} {:?} {set:?}", self.transport.headers)
    }

    pub fn describe(&self) -> String {
        match &self.target {
            Value::Literal(target) => format!("gRPC {target} {}/{}", self.service, self.method),
            _ => format!("gRPC {}/{} (a target that is secret or made by jq)", self.service, self.method),
        }
    }

    pub fn redact(&self, message: String) -> String {
        self.transport.redact(message, std::iter::once(&self.target))
    }

    /// One call.
    pub async fn fetch(self: &Arc<Self>, mut ask: Ask<'_>) -> Result<Fetched, Error> {
        let input = ask.input();
        let text = self.target.resolve(&input).map_err(ErrorKind::Expr)?.into_iter().next();
        let text = text.ok_or_else(|| ErrorKind::Request("`target` gives nothing".into()))?;
        let target: Url = text.parse().map_err(|_| ErrorKind::Request("`target` gives no URL".into()))?;
        let (origin, deadline) = (origin(&target), self.transport.deadline);
        match tokio::time::timeout(deadline, self.call(&mut ask, &input, target)).await {
            Ok(result) => result,
            Err(_) => Err(ErrorKind::Deadline { origin, after: deadline }.into()),
        }
    }

    async fn call(&self, ask: &mut Ask<'_>, input: &Json, target: Url) -> Result<Fetched, Error> {
        let from = origin(&target);
        let mut channel = self.channel(ask, input, target).await?;
        let known = self.descriptors.as_ref().map(|d| d.method.clone()).or_else(|| ask.memo.method.clone());
        let method = match known {
            Some(method) => method,
            None => reflection::method(&mut channel, &self.service, &self.method, &from).await?,
        };
        let result = self.messages(ask, input, &mut channel, &method, &from).await;
        // What an edited service looks like, the next poll asks again.
        ask.memo.method = result.is_ok().then(|| method.clone());
        let messages = result?;
        let body = if method.is_server_streaming() {
            format!("[{}]", messages.join(","))
        } else {
            messages.into_iter().next().unwrap_or_default()
        };
        let body = Bytes::from(body);
        let url = format!("{from}/{}/{}", self.service, self.method);
        let page = Page { url, content_type: Some("application/json".into()), hash: Hash::of(&body), body };
        let meta = json!({ "status": 0, "at": ask.clock.now().to_string() });
        Ok(Fetched::Pages(Answer {
            pages: vec![page],
            validators: Validators::default(),
            hint: None,
            date: None,
            meta,
        }))
    }

    /// The way to the server, with the metadata and the credentials of this poll.
    async fn channel(&self, ask: &mut Ask<'_>, input: &Json, target: Url) -> Result<Channel, Error> {
        let transport = &self.transport;
        let client = ask.client.identified(&transport.identity.with(Version::Two)).map_err(ErrorKind::Request)?;
        let mut headers = HeaderMap::new();
        transport.put_headers(input, &mut headers)?;
        let mut request = Request { method: Method::POST, url: target, headers, body: None };
        let mut with = With { client: &client, clock: ask.clock, vault: ask.vault };
        for auth in &transport.auth {
            auth.apply(&mut request, &mut with).await?;
        }
        let turn = client.turn(&request.url, transport.rate).await;
        let size_max = usize::try_from(transport.size_max).unwrap_or(usize::MAX);
        Ok(Channel::new(client, turn, request.url, request.headers, size_max))
    }

    /// The answers as JSON texts.
    async fn messages(
        &self,
        ask: &mut Ask<'_>,
        input: &Json,
        channel: &mut Channel,
        method: &MethodDescriptor,
        from: &str,
    ) -> Result<Vec<String>, Error> {
        let mut request = match &self.request {
            None => None,
            Some(JsonBody::Fixed(value)) => Some(value.clone()),
            Some(JsonBody::Jq(expr)) => expr.first(input).map_err(ErrorKind::Expr)?,
        };
        if let (Some(at), Some(mark)) = (ask.since, ask.mark) {
            let mut url = channel.target().clone();
            at.set(mark, &mut url, &mut HeaderMap::new(), &mut request).map_err(ErrorKind::Request)?;
        }
        let request = request.unwrap_or_else(|| json!({}));
        let wrong = |e| ErrorKind::Request(format!("`request` is no {}: {e}", method.input().full_name()));
        let message = DynamicMessage::deserialize(method.input(), request).map_err(wrong)?;
        let path = format!("/{}/{}", self.service, self.method);
        let path = PathAndQuery::try_from(path).map_err(|e| ErrorKind::Request(format!("`method`: {e}")))?;
        let failed = |status: Status| failure(status, from);
        let mut grpc = channel.grpc().await.map_err(ErrorKind::Http)?;
        let stream = grpc.server_streaming(tonic::Request::new(message), path, Dynamic(method.output())).await;
        let mut stream = stream.map_err(failed)?.into_inner();
        let (mut texts, mut size) = (Vec::new(), 0u64);
        while let Some(message) = stream.message().await.map_err(failed)? {
            let text = serde_json::to_string(&message).map_err(|e| ErrorKind::Request(e.to_string()))?;
            let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            size = size.saturating_add(bytes);
            if size > self.transport.size_max {
                let (origin, limit) = (from.to_owned(), self.transport.size_max);
                return Err(ErrorKind::Http(crate::http::Error::TooLarge { origin, limit }).into());
            }
            if !ask.share.take(bytes) {
                return Err(ErrorKind::Http(crate::http::Error::Memory { origin: from.to_owned() }).into());
            }
            texts.push(text);
        }
        if !method.is_server_streaming() && texts.len() != 1 {
            return Err(ErrorKind::Grpc {
                origin: from.into(),
                code: Code::Internal,
                message: format!("{} answers came to one question", texts.len()),
            }
            .into());
        }
        Ok(texts)
    }
}

/// What a status means: the transport's own error where it is one, else the server's.
fn failure(status: Status, origin: &str) -> Error {
    let mut cause = std::error::Error::source(&status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<crate::http::Error>() {
            return ErrorKind::Http(error.clone()).into();
        }
        cause = error.source();
    }
    // gRFC A6: how long the server wants no other attempt.
    let pushback = status.metadata().get("grpc-retry-pushback-ms").and_then(|ms| ms.to_str().ok()?.parse().ok());
    let hint = pushback.map(|ms| std::time::Duration::from_millis(ms).min(crate::schedule::HINT_MAX));
    let message = super::http::excerpt(status.message());
    Error { kind: ErrorKind::Grpc { origin: origin.to_owned(), code: status.code(), message }, hint }
}

/// `pkg.Service/Method`.
fn name(text: &str) -> Result<(String, String), String> {
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    match text.split_once('/') {
        Some((service, method)) if word(service) && word(method) && !method.contains('.') => {
            Ok((service.to_owned(), method.to_owned()))
        }
        _ => Err(format!("{text:?} is no method: write \"pkg.Service/Method\"")),
    }
}

fn read_descriptors(item: &Item<'_>, (service, method): &(String, String)) -> Option<Descriptors> {
    let path = item.string()?;
    let read = || {
        let bytes = std::fs::read(path).map_err(|e| format!("failed to read {path}: {e}"))?;
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|e| {
            format!("{path} is no descriptor set: {e}; protoc makes one with --include_imports --descriptor_set_out")
        })?;
        Ok::<_, String>(Descriptors { method: find(&pool, service, method)?, hash: Hash::of(&bytes) })
    };
    read().map_err(|e| item.error(format!("`{}`: {e}", item.path)).report()).ok()
}

/// The method among what is known of a server.
fn find(pool: &DescriptorPool, service: &str, method: &str) -> Result<MethodDescriptor, String> {
    let found = pool.get_service_by_name(service).ok_or_else(|| {
        let near = pool.services().map(|s| s.full_name().to_owned()).collect::<Vec<_>>().join(", ");
        format!("there is no service {service}; known are: {near}")
    })?;
    let known = || found.methods().map(|m| m.name().to_owned()).collect::<Vec<_>>().join(", ");
    let method = found
        .methods()
        .find(|m| m.name() == method)
        .ok_or_else(|| format!("{service} has no method {method}; it has: {}", known()))?;
    if method.is_client_streaming() {
        return Err(format!(
            "{} takes a stream of requests: only unary and server-streaming methods can be polled",
            method.full_name()
        ));
    }
    Ok(method)
}

/// Messages whose type is known at run time.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|e| Status::internal(e.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let decoded = DynamicMessage::decode(self.0.clone(), from);
        decoded.map(Some).map_err(|e| Status::internal(format!("an answer is no {}: {e}", self.0.full_name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_a_service_and_a_name() {
        assert_eq!(name("shop.v1.Orders/List"), Ok(("shop.v1.Orders".into(), "List".into())));
        for wrong in [
            "",
            "List",
            "/List",
            "shop.Orders/",
            "/shop.Orders/List",
            "shop.Orders/List/x",
            "shop.Orders.List",
            "a b/c",
        ] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
