//! `source.grpc`: one call of a gRPC method, unary or with a stream of answers that ends. What a message looks like is
//! learned from a descriptor set or from the server's reflection; `items` sees canonical protobuf JSON, of a stream an
//! array.

mod channel;
mod frames;
mod json;
mod reflection;
mod status;

use std::sync::Arc;

use ::http::uri::PathAndQuery;
use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, prost::Message};
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName},
};
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use url::Url;

use super::{
    Answer, Ask, Error, ErrorKind, Fetched,
    transport::{Over, Transport, requests},
};
use crate::{
    auth::{self, Learned, Used, With},
    decode::Page,
    http::{
        self, Client, Request,
        identity::Version,
        origin,
        target::{self, HTTP, fixed_origin, made_url, read_url},
    },
    model::Hash,
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::{Form, Shape, keys},
        value::{JSON_BODY, JsonBody, Value},
    },
};
use channel::{Channel, Wire};
use reflection::Asking;
pub use reflection::Described;

/// What one message may be of `size-max`: 4 MiB by default, as everywhere in gRPC. Decoded it takes far more memory than on
/// the wire: some fifty times for a list of booleans.
const MESSAGE_PART: u64 = 8;
/// Where calls go: its path stands before theirs.
const TARGET: Form<Value> = Form::new(Shape::Value, read_target);

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
    /// Fields at their default are written.
    defaults: bool,
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

keys! {
    /// A call of a gRPC method.
    mod grpc: Rule::Schema(
        r#"{ "oneOf": [
            { "required": ["descriptors"], "properties": { "reflection": { "const": false } } },
            { "required": ["reflection"], "properties": { "reflection": { "const": true } },
              "not": { "required": ["descriptors"] } }
        ] }"#
    );
    /// A value; `https://`, or `http://` for HTTP/2 without TLS (h2c). A path in it stands before that of each call,
    /// reflection included: `"https://example.com/grpc/v1"`.
    need TARGET: Value = "target", super::TARGET, "target = \"https://grpc.example.com\"";
    /// `"pkg.Service/Method"`.
    need METHOD: (String, String) = "method",
        Form::new(Shape::Pattern("/"), |item| item.parse_text(name, "a method such as \"shop.Orders/List\"")),
        "method = \"shop.Orders/List\"";
    /// The message: a table, or `{ jq = "..." }`.
    maybe REQUEST: JsonBody = "request", JSON_BODY, "`{}`";
    /// A table of values.
    get METADATA: Vec<(HeaderName, Value)> = "metadata", target::HEADERS;
    /// `true`: the server is asked for its descriptors (v1, otherwise v1alpha). This or `descriptors`.
    or REFLECTION: bool = "reflection", BOOLEAN, || false;
    /// The path of a descriptor set, from `protoc --include_imports --descriptor_set_out`.
    maybe DESCRIPTORS: () = "descriptors", Form::raw(Shape::Text), "this or `reflection`";
    /// `true`: fields at their default (0, `""`, `false`, the first word of an enum, an empty list) are written, unless
    /// they are `optional`, in a `oneof` or a message.
    or DEFAULTS: bool = "defaults", BOOLEAN, || false;
    + requests::FAMILY;
}

impl Source {
    /// Reads `[bridge.NAME.source.grpc]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let (target, name, request) = (table.need(&grpc::TARGET), table.need(&grpc::METHOD), table.get(&grpc::REQUEST));
        let place = table.key_place(&grpc::REFLECTION);
        let (set, reflection) = (table.item(&grpc::DESCRIPTORS), table.or(&grpc::REFLECTION));
        let descriptors = match (&set, reflection) {
            (None, true) => Some(None),
            (Some(set), false) => name.as_ref().and_then(|name| read_descriptors(set, name)).map(Some),
            (None, false) => {
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
            (Some(_), true) => {
                let place = place.unwrap_or_else(|| table.place.clone());
                let message = format!("`reflection` stands beside `descriptors` in {}", table.title());
                table.error_at(place, message).help("keep one of them".into()).report();
                None
            }
        };
        let defaults = table.or(&grpc::DEFAULTS);
        let transport = Transport::read(&mut table, &grpc::METADATA, Over::Grpc);
        for auth in transport.auth.iter().filter(|auth| auth.signs_a_body()) {
            let message =
                format!("`auth.{}` in {} signs or edits a body that gRPC does not show", auth.kind(), table.title());
            table.error(message).report();
        }
        table.finish();
        let (target, (service, method)) = (target?, name?);
        Some(Self {
            origin: fixed_origin(&target),
            target,
            service,
            method,
            request,
            descriptors: descriptors?,
            defaults,
            transport,
        })
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("grpc.target", &self.target);
        text.put("method", format!("{}/{}", self.service, self.method));
        text.put_some("request", self.request.as_ref());
        text.put_all("metadata", &self.transport.headers);
        text.put_some("descriptors", self.descriptors.as_ref().map(|set| set.hash.to_string()));
        text.put_some("defaults", self.defaults.then_some(true));
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        let Self { target, service, method, request, .. } = self;
        let set = self.descriptors.as_ref().map(|d| d.hash);
        // It wrote no field at its default.
        let defaults = if self.defaults { " defaults" } else { "" };
        format!("grpc {target:?} {service}/{method} {request:?} {:?} {set:?}{defaults}", self.transport.headers)
    }

    pub fn describe(&self) -> String {
        match &self.target {
            Value::Literal(target) => format!("gRPC {target} {}/{}", self.service, self.method),
            _ => format!("gRPC {}/{} (a target that is secret or made by jq)", self.service, self.method),
        }
    }

    /// Why the request that the file gives lacks such a place, if it does.
    pub fn misfit(&self, at: &crate::http::place::At) -> Option<String> {
        match &self.request {
            Some(JsonBody::Fixed(request)) => at.misfit(request),
            Some(JsonBody::Jq(_)) | None => None,
        }
    }

    /// Whether jq of the request uses a thing of this name.
    pub fn uses(&self, name: &str) -> bool {
        let mut headers = self.transport.headers.iter().map(|(_, value)| value);
        self.request.as_ref().is_some_and(|request| request.uses(name)) || headers.any(|value| value.uses(name))
    }

    pub fn has_credentials(&self) -> bool {
        self.transport.has_credentials(std::iter::once(&self.target))
    }

    /// One call.
    pub async fn fetch(self: &Arc<Self>, mut ask: Ask<'_>) -> Result<Fetched, Error> {
        let input = ask.input();
        let text = self.target.resolve(&input).await.map_err(ErrorKind::Expr)?.into_iter().next();
        let text = text.ok_or_else(|| ErrorKind::Request("`target` gives nothing".into()))?;
        let target = made_url(&text).map_err(|e| ErrorKind::Request(format!("`target`: {e}")))?;
        if let Some(why) = beyond_a_path(&target) {
            return Err(ErrorKind::Request(format!("`target`: {why}")).into());
        }
        let (origin, deadline) = (origin(&target), self.transport.deadline);
        let began = Instant::now();
        let ends = began + deadline;
        match tokio::time::timeout_at(ends, self.call(&mut ask, &input, target, ends)).await {
            Ok(result) => result,
            Err(_) => {
                ask.client.doubt(&origin, began);
                Err(ErrorKind::Deadline { origin, after: deadline }.into())
            }
        }
    }

    /// Once more where a token was refused that a login brought.
    async fn call(&self, ask: &mut Ask<'_>, input: &Json, target: Url, ends: Instant) -> Result<Fetched, Error> {
        let (request, used) = self.head(ask, input, target.clone()).await?;
        let first = self.once(ask, input, request.clone(), ends).await;
        let Err(Error { kind: ErrorKind::Grpc { code: Code::Unauthenticated, .. }, .. }) = &first else { return first };
        let answer =
            http::Answer { status: 401, headers: HeaderMap::new(), body: Bytes::new(), url: request.url.clone() };
        let mut with = With { client: ask.client, clock: ask.clock, vault: ask.vault };
        if auth::learn(&self.transport.auth, &used, &request, &answer, 0, &mut with).await != Learned::Again {
            return first;
        }
        let (request, _) = self.head(ask, input, target).await?;
        self.once(ask, input, request, ends).await
    }

    async fn once(&self, ask: &mut Ask<'_>, input: &Json, request: Request, ends: Instant) -> Result<Fetched, Error> {
        let from = origin(&request.url);
        let channel = self.channel(ask, request, ends).await?;
        // Taken out: after a failure the next poll asks again what an edited service looks like.
        let described = ask.memo.described.take().filter(Described::is_believed);
        let mut described = match (&self.descriptors, described) {
            (Some(set), _) => Described::fixed(set.method.clone()),
            (None, Some(described)) => described,
            (None, None) => {
                let mut asking = Asking { channel: &channel, origin: &from, share: ask.share };
                Described::ask(&mut asking, &self.service, &self.method).await?
            }
        };
        let body = Bytes::from(self.answers(ask, input, &channel, &mut described, &from).await?);
        ask.memo.described = Some(described);
        let url = format!("{from}/{}/{}", self.service, self.method);
        let page = Page { url, content_type: Some("application/json".into()), hash: Hash::of(&body), body };
        Ok(Fetched::Pages(Answer::document(page, ask.clock.now())))
    }

    /// Metadata and credentials, and what was used for them.
    async fn head(&self, ask: &Ask<'_>, input: &Json, target: Url) -> Result<(Request, Vec<Used>), Error> {
        let mut headers = HeaderMap::new();
        self.transport.put_headers(input, &mut headers).await?;
        let mut request = Request { method: Method::POST, url: target, headers, body: None };
        // A login is plain HTTP, of any version.
        let client = ask.client.identified(&self.transport.identity).map_err(ErrorKind::Request)?;
        let mut with = With { client: &client, clock: ask.clock, vault: ask.vault };
        let used = auth::apply(&self.transport.auth, &mut request, &mut with).await?;
        Ok((request, used))
    }

    /// With the source's identity; gRPC is HTTP/2 alone.
    fn client(&self, ask: &Ask<'_>) -> Result<Client, Error> {
        let identity = self.transport.identity.with(Version::Two);
        Ok(ask.client.identified(&identity).map_err(ErrorKind::Request)?)
    }

    /// The way to the server.
    async fn channel(&self, ask: &Ask<'_>, request: Request, ends: Instant) -> Result<Channel, Error> {
        let client = self.client(ask)?;
        let turn = Arc::new(client.turn(&request.url, self.transport.rate).await);
        let message_max = usize::try_from(self.transport.size_max / MESSAGE_PART).unwrap_or(usize::MAX);
        let Request { url: target, headers, .. } = request;
        Ok(Channel::new(Wire { client, target, headers, message_max, ends, clock: ask.clock.clone(), _turn: turn }))
    }

    /// What is asked.
    async fn message(
        &self,
        ask: &Ask<'_>,
        input: &Json,
        channel: &Channel,
        method: &MethodDescriptor,
    ) -> Result<DynamicMessage, Error> {
        let mut request = match &self.request {
            None => None,
            Some(JsonBody::Fixed(value)) => Some(value.clone()),
            Some(JsonBody::Jq(expr)) => expr.ask(input).await.map_err(ErrorKind::Expr)?,
        };
        for (at, value) in ask.marks() {
            let mut url = channel.target().clone();
            at.set(&value, &mut url, &mut HeaderMap::new(), &mut request).map_err(ErrorKind::Request)?;
        }
        let request = request.unwrap_or_else(|| json!({}));
        let wrong = |e| ErrorKind::Request(format!("`request` is not a {}: {e}", method.input().full_name()));
        Ok(DynamicMessage::deserialize(method.input(), request).map_err(wrong)?)
    }

    /// The answer as JSON, of a stream as an array.
    async fn answers(
        &self,
        ask: &mut Ask<'_>,
        input: &Json,
        channel: &Channel,
        described: &mut Described,
        from: &str,
    ) -> Result<String, Error> {
        let method = described.method.clone();
        let message = self.message(ask, input, channel, &method).await?;
        let path = format!("/{}/{}", self.service, self.method);
        let path = PathAndQuery::try_from(path).map_err(|e| ErrorKind::Request(format!("`method`: {e}")))?;
        let failed = |status: Status| channel.failure(&status);
        let mut grpc = channel.grpc().await?;
        let stream = grpc.server_streaming(tonic::Request::new(message), path, Dynamic(method.output())).await;
        let mut stream = stream.map_err(failed)?.into_inner();
        let mut asking = Asking { channel, origin: from, share: ask.share };
        let streams = method.is_server_streaming();
        let (mut body, mut count) = (String::from(if streams { "[" } else { "" }), 0u64);
        while let Some(message) = stream.message().await.map_err(failed)? {
            if streams && count > 0 {
                body.push(',');
            }
            let place = if streams { format!(".[{count}]") } else { String::new() };
            let text = self.written(&message, place, described, &mut asking).await?;
            body.push_str(&text);
            count += 1;
            let size = u64::try_from(body.len()).unwrap_or(u64::MAX);
            if size > self.transport.size_max {
                let (origin, limit) = (from.to_owned(), self.transport.size_max);
                return Err(ErrorKind::Http(crate::http::Error::TooLarge { origin, limit }).into());
            }
            if !asking.share.take(u64::try_from(text.len()).unwrap_or(u64::MAX)) {
                return Err(ErrorKind::Http(crate::http::Error::Memory { origin: from.to_owned() }).into());
            }
        }
        if streams {
            body.push(']');
        } else if count != 1 {
            let (origin, message) = (from.to_owned(), format!("{count} answers came to one question"));
            return Err(ErrorKind::Grpc { origin, code: Code::Internal, message }.into());
        }
        Ok(body)
    }

    /// A message as JSON. The server is asked for a type in it that it did not describe.
    async fn written(
        &self,
        message: &DynamicMessage,
        place: String,
        described: &mut Described,
        asking: &mut Asking<'_>,
    ) -> Result<String, Error> {
        loop {
            let written = json::write(message, &described.types, self.defaults, place.clone());
            let written = written.map_err(|e| ErrorKind::Request(format!("the answer of {}: {e}", asking.origin)))?;
            if written.missing.is_empty() || !described.learn(asking, written.missing).await? {
                return Ok(written.text);
            }
        }
    }
}

/// The `target` of the file.
fn read_target(item: &Item<'_>) -> Option<Value> {
    let value = read_url(item, HTTP)?;
    let url = value.fixed().first().and_then(|text| text.parse::<Url>().ok());
    if let Some(why) = url.as_ref().and_then(beyond_a_path) {
        let help = "the path of a call follows it: \"https://example.com/grpc/v1\"".into();
        item.error(format!("`{}`: {why}", item.path)).help(help).report();
        return None;
    }
    Some(value)
}

/// What a target has that nothing can follow.
fn beyond_a_path(target: &Url) -> Option<&'static str> {
    match (target.query(), target.fragment()) {
        (Some(_), _) => Some("it has a query, which no call of gRPC has"),
        (None, Some(_)) => Some("it has a fragment, which no call of gRPC has"),
        (None, None) => None,
    }
}

/// `pkg.Service/Method`.
fn name(text: &str) -> Result<(String, String), String> {
    let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    match text.split_once('/') {
        Some((service, method)) if word(service) && word(method) && !method.contains('.') => {
            Ok((service.to_owned(), method.to_owned()))
        }
        _ => Err(format!("{text:?} is not a method: write \"pkg.Service/Method\"")),
    }
}

fn read_descriptors(item: &Item<'_>, (service, method): &(String, String)) -> Option<Descriptors> {
    let path = item.string()?;
    let read = || {
        let bytes = std::fs::read(path).map_err(|e| format!("failed to read {path}: {e}"))?;
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|e| {
            format!("{path} is not a descriptor set: {e}; protoc makes one with --include_imports --descriptor_set_out")
        })?;
        Ok::<_, String>(Descriptors { method: find(&pool, service, method)?, hash: Hash::of(&bytes) })
    };
    read().map_err(|e| item.error(format!("`{}`: {e}", item.path)).report()).ok()
}

/// The method among what is known of a server.
fn find(pool: &DescriptorPool, service: &str, method: &str) -> Result<MethodDescriptor, String> {
    let found = pool.get_service_by_name(service).ok_or_else(|| {
        let near = pool.services().map(|s| s.full_name().to_owned()).collect::<Vec<_>>().join(", ");
        format!("no service is called {service}; known are: {near}")
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
        decoded.map(Some).map_err(|e| Status::internal(format!("an answer is not a {}: {e}", self.0.full_name())))
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
