//! A vendor's contract, OpenAPI 3 as JSON, and whether a request keeps it. Of `tests/data/contracts/`, see there.
//!
//! A request must be of an operation, bear credentials of one of its security alternatives, have every required
//! parameter and no unknown one, and every value must fit its schema. Answers are never judged.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value as Json, json};

use super::server::Request;

/// Why a request is refused, and with which status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

/// What a vendor accepts.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// A security scheme's name and what it must bear: a key, a token, or `user:password`.
    pub known: &'a [(&'a str, &'a str)],
    /// Tokens that were given out by the vendor itself.
    pub issued: &'a BTreeSet<String>,
}

impl Credentials<'_> {
    pub fn of(&self, scheme: &str) -> Option<&str> {
        self.known.iter().find(|(name, _)| *name == scheme).map(|(_, value)| *value)
    }
}

pub struct Contract {
    document: Json,
}

/// An operation that a path and a method belong to.
struct Found<'a> {
    operation: &'a Json,
    /// Of the path and of the operation, without references.
    parameters: Vec<&'a Json>,
    /// Names and values of the path's parts.
    parts: Vec<(String, String)>,
}

/// The text of a contract.
pub fn text(name: &str) -> String {
    let path = format!("{}/tests/data/contracts/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The origins of a document's `servers`, with the defaults of their variables.
pub fn origins(document: &Json) -> Vec<String> {
    let mut out = Vec::new();
    let mut servers: Vec<&Json> = document["servers"].as_array().into_iter().flatten().collect();
    for item in document["paths"].as_object().into_iter().flat_map(|paths| paths.values()) {
        let own = [item].into_iter().chain(item.as_object().into_iter().flat_map(|item| item.values()));
        servers.extend(own.filter_map(|place| place.get("servers")).filter_map(Json::as_array).flatten());
    }
    for server in servers {
        let origin = server_url(server).origin().ascii_serialization();
        if !out.contains(&origin) {
            out.push(origin);
        }
    }
    out
}

fn server_url(server: &Json) -> url::Url {
    let mut url = server["url"].as_str().expect("a server has a URL").to_owned();
    for (name, variable) in server["variables"].as_object().into_iter().flatten() {
        url = url.replace(&format!("{{{name}}}"), variable["default"].as_str().expect("a default"));
    }
    url.parse().unwrap_or_else(|e| panic!("{url}: {e}"))
}

impl Contract {
    pub fn read(name: &str) -> Self {
        let document = serde_json::from_str(&text(name)).unwrap_or_else(|e| panic!("{name}.json: {e}"));
        Self { document }
    }

    pub fn origins(&self) -> Vec<String> {
        origins(&self.document)
    }

    /// The operation's id, or why not.
    pub fn check(&self, request: &Request, credentials: Credentials<'_>) -> Result<String, Refusal> {
        let found = self.find(request)?;
        let schemes = self.authorize(&found, request, credentials)?;
        self.check_parameters(&found, request, &schemes)?;
        self.check_body(&found, request)?;
        Ok(found.operation["operationId"].as_str().expect("an operation has an id").to_owned())
    }

    fn find<'a>(&'a self, request: &Request) -> Result<Found<'a>, Refusal> {
        let mut other_method = false;
        for (template, item) in self.document["paths"].as_object().expect("paths") {
            let operation = &item[request.method.to_ascii_lowercase()];
            let servers = [&operation["servers"], &item["servers"], &self.document["servers"]];
            let servers = servers.into_iter().find_map(Json::as_array).expect("servers");
            let parts = servers.iter().find_map(|server| {
                let base = server_url(server);
                match_path(&format!("{}{template}", base.path().trim_end_matches('/')), &request.path)
            });
            match parts {
                Some(parts) if operation.is_object() => {
                    let of = |place: &'a Json| place["parameters"].as_array().into_iter().flatten();
                    let parameters = of(item).chain(of(operation)).map(|p| self.resolved(p)).collect();
                    return Ok(Found { operation, parameters, parts });
                }
                Some(_) => other_method = true,
                None => {}
            }
        }
        let status = if other_method { 405 } else { 404 };
        Err(Refusal::new(status, format!("no operation is {} {}", request.method, request.path)))
    }

    /// What a `$ref` points to, or the value itself.
    fn resolved<'a>(&'a self, value: &'a Json) -> &'a Json {
        match value["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
            Some(pointer) => self.resolved(self.document.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"))),
            None => value,
        }
    }

    /// The schemes that let the request in; none where the operation is open.
    fn authorize<'a>(
        &'a self,
        found: &Found<'a>,
        request: &Request,
        credentials: Credentials<'_>,
    ) -> Result<Vec<&'a Json>, Refusal> {
        let security = found.operation.get("security").or(self.document.get("security"));
        let Some(alternatives) = security.and_then(Json::as_array).filter(|all| !all.is_empty()) else {
            return Ok(Vec::new());
        };
        for alternative in alternatives {
            let names: Vec<&String> = alternative.as_object().expect("schemes by name").keys().collect();
            let scheme = |name: &String| &self.document["components"]["securitySchemes"][name.as_str()];
            if names.iter().all(|name| bears(scheme(name), name, request, credentials)) {
                return Ok(names.into_iter().map(scheme).collect());
            }
        }
        Err(Refusal::new(401, "no valid credentials"))
    }

    fn check_parameters(&self, found: &Found<'_>, request: &Request, schemes: &[&Json]) -> Result<(), Refusal> {
        let mut taken: BTreeSet<&str> = schemes
            .iter()
            .filter(|scheme| scheme["in"] == "query")
            .filter_map(|scheme| scheme["name"].as_str())
            .collect();
        for parameter in &found.parameters {
            let name = parameter["name"].as_str().expect("a parameter has a name");
            let given: Option<Json> = match parameter["in"].as_str() {
                Some("path") => {
                    let part = found.parts.iter().find(|(known, _)| known == name);
                    part.map(|(_, value)| self.typed(parameter, value))
                }
                Some("header") => request.header(name).map(|value| self.typed(parameter, value)),
                Some("query") if parameter["style"] == "deepObject" => {
                    let (keys, value) = self.deep(name, parameter, request);
                    taken.extend(keys);
                    value
                }
                Some("query") => {
                    taken.insert(name);
                    request.query.get(name).map(|value| self.typed(parameter, value))
                }
                other => panic!("{name} is in {other:?}"),
            };
            match given {
                None if parameter["required"] == true => {
                    return Err(Refusal::new(400, format!("the parameter {name} is missing")));
                }
                None => {}
                Some(value) if !self.knows_keys(&parameter["schema"], &value) => {
                    return Err(Refusal::new(400, format!("the parameter {name} has an unknown key: {value}")));
                }
                Some(value) => self
                    .fits(&parameter["schema"], &value)
                    .map_err(|why| Refusal::new(400, format!("the parameter {name}: {why}")))?,
            }
        }
        let pairs = request.target.split_once('?').map_or("", |(_, query)| query);
        let names: Vec<String> =
            url::form_urlencoded::parse(pairs.as_bytes()).map(|(name, _)| name.into_owned()).collect();
        let twice = names.iter().find(|name| !name.ends_with("[]") && names.iter().filter(|n| n == name).count() > 1);
        if let Some(name) = twice {
            return Err(Refusal::new(400, format!("the parameter {name} stands twice")));
        }
        match request.query.keys().find(|name| !taken.contains(name.as_str())) {
            Some(unknown) => Err(Refusal::new(400, format!("the parameter {unknown} is unknown"))),
            None => Ok(()),
        }
    }

    /// `name[key]=value`: the keys of the query that belong to it, and what they make.
    fn deep<'r>(&self, name: &str, parameter: &Json, request: &'r Request) -> (Vec<&'r str>, Option<Json>) {
        let (mut keys, mut object, mut plain) = (Vec::new(), Map::new(), None);
        let list = self.resolved(&parameter["schema"])["type"] == "array";
        for (key, value) in &request.query {
            if key == name {
                plain = Some(self.typed(parameter, value));
            } else if let Some(inner) = key.strip_prefix(name).and_then(|k| k.strip_prefix('[')?.strip_suffix(']')) {
                let number = value.parse::<i64>().map_or_else(|_| json!(value), Json::from);
                object.insert(inner.to_owned(), if list { json!(value) } else { number });
            } else {
                continue;
            }
            keys.push(key.as_str());
        }
        let whole = match (plain, object.is_empty(), list) {
            (Some(plain), ..) => Some(plain),
            (None, true, _) => None,
            (None, false, true) => Some(object.into_iter().map(|(_, value)| value).collect()),
            (None, false, false) => Some(Json::Object(object)),
        };
        (keys, whole)
    }

    /// Whether an object has no keys but those that its schema, or one of its alternatives, names.
    fn knows_keys(&self, schema: &Json, value: &Json) -> bool {
        let Json::Object(given) = value else { return true };
        let schema = self.resolved(schema);
        let alternatives = schema["anyOf"].as_array().into_iter().flatten().map(|one| self.resolved(one));
        let named: Vec<&Map<String, Json>> =
            alternatives.chain([schema]).filter_map(|one| one["properties"].as_object()).collect();
        named.is_empty() || given.keys().all(|key| named.iter().any(|properties| properties.contains_key(key)))
    }

    /// A parameter's text as the value that its schema means. What cannot be that stays a text, and does not fit.
    fn typed(&self, parameter: &Json, text: &str) -> Json {
        let schema = self.resolved(&parameter["schema"]);
        if schema["type"] == "array" {
            let separator = if parameter["style"] == "pipeDelimited" { '|' } else { ',' };
            return text.split(separator).map(|part| self.typed(&json!({ "schema": schema["items"] }), part)).collect();
        }
        let kinds: Vec<&Json> = match schema["anyOf"].as_array() {
            Some(any) => any.iter().map(|one| &self.resolved(one)["type"]).collect(),
            None => vec![&schema["type"]],
        };
        let number = || text.parse::<f64>().ok().and_then(|_| serde_json::from_str::<Json>(text).ok());
        for kind in kinds {
            let value = match kind.as_str() {
                Some("integer") => text.parse::<i64>().ok().map(Json::from),
                Some("number") => number().filter(Json::is_number),
                Some("boolean") => text.parse::<bool>().ok().map(Json::from),
                _ => None,
            };
            if let Some(value) = value {
                return value;
            }
        }
        json!(text)
    }

    fn check_body(&self, found: &Found<'_>, request: &Request) -> Result<(), Refusal> {
        let declared = self.resolved(&found.operation["requestBody"]);
        if request.body.is_empty() {
            let required = declared["required"] == true;
            return if required { Err(Refusal::new(400, "the body is missing")) } else { Ok(()) };
        }
        let given = request.header("content-type").unwrap_or_default();
        let kind = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let Some(content) = declared["content"].get(&kind) else {
            return Err(Refusal::new(415, format!("no body is expected of the type {given:?}")));
        };
        let value: Json = match kind.as_str() {
            "application/x-www-form-urlencoded" => {
                form(&request.body).into_iter().map(|(k, v)| (k, json!(v))).collect()
            }
            _ => serde_json::from_slice(&request.body).map_err(|e| Refusal::new(400, format!("the body: {e}")))?,
        };
        self.fits(&content["schema"], &value).map_err(|why| Refusal::new(400, format!("the body: {why}")))
    }

    /// Whether a value fits a schema; its references are into the whole document.
    fn fits(&self, schema: &Json, value: &Json) -> Result<(), String> {
        let whole = json!({ "components": self.document["components"], "allOf": [schema] });
        let validator = jsonschema::options().should_validate_formats(true).build(&whole);
        let validator = validator.unwrap_or_else(|e| panic!("a schema of the contract: {e}"));
        validator.validate(value).map_err(|e| e.to_string())
    }
}

/// A form's names and values.
pub fn form(body: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The user and password of a request, `user:password`.
pub fn basic(request: &Request) -> Option<String> {
    let given = request.header("authorization")?.strip_prefix("Basic ")?;
    String::from_utf8(STANDARD.decode(given).ok()?).ok()
}

fn bears(scheme: &Json, name: &str, request: &Request, credentials: Credentials<'_>) -> bool {
    let known = credentials.of(name);
    match (scheme["type"].as_str(), scheme["scheme"].as_str()) {
        (Some("apiKey"), _) => {
            let key = scheme["name"].as_str().expect("an apiKey has a name");
            let given = match scheme["in"].as_str() {
                Some("query") => request.query.get(key).map(String::as_str),
                _ => request.header(key),
            };
            known.is_some() && given == known
        }
        (Some("http"), Some("basic")) => known.is_some() && basic(request).as_deref() == known,
        (Some("http"), Some("bearer")) | (Some("oauth2"), _) => {
            let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            token.is_some_and(|token| known.map_or_else(|| credentials.issued.contains(token), |known| known == token))
        }
        other => panic!("the security scheme {name} is {other:?}"),
    }
}

/// The names and values of a path's parts, if it fits the template.
fn match_path(template: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (wanted, given): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    if wanted.len() != given.len() {
        return None;
    }
    let mut parts = Vec::new();
    for (wanted, given) in wanted.into_iter().zip(given) {
        match wanted.strip_prefix('{').and_then(|w| w.strip_suffix('}')) {
            Some(name) if !given.is_empty() => parts.push((name.to_owned(), given.to_owned())),
            None if wanted == given => {}
            _ => return None,
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_their_templates() {
        let parts =
            |template, path| match_path(template, path).map(|p| p.into_iter().map(|(_, v)| v).collect::<Vec<_>>());
        assert_eq!(parts("/a/{x}/b.json", "/a/1/b.json"), Some(vec!["1".to_owned()]));
        assert_eq!(parts("/a/{x}", "/a/"), None);
        assert_eq!(parts("/a/{x}", "/a/1/2"), None);
        assert_eq!(parts("/a", "/b"), None);
    }
}
