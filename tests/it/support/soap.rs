//! A SOAP vendor's contract and whether a request keeps it. Its shape is `x-soap`, see `tests/data/contracts/README.md`.
//!
//! The namespaces, the SOAPAction, the credentials and the required elements are judged, not the whole schema.

use roxmltree::{Document, Node};
use serde_json::Value as Json;

use super::{
    contract::{self, Credentials, Refusal, basic},
    server::Request,
};

pub struct Contract {
    document: Json,
}

impl Contract {
    pub fn read(name: &str) -> Self {
        let document = serde_json::from_str(&contract::text(name)).unwrap_or_else(|e| panic!("{name}.json: {e}"));
        Self { document }
    }

    pub fn origins(&self) -> Vec<String> {
        contract::origins(&self.document)
    }

    /// The operation's name, or why not.
    pub fn check(&self, request: &Request, credentials: Credentials<'_>) -> Result<String, Refusal> {
        let soap = &self.document["x-soap"];
        let action = request.header("soapaction").unwrap_or_default().trim_matches('"').to_owned();
        let operations = soap["operations"].as_object().expect("operations");
        let (name, operation) = operations
            .iter()
            .find(|(_, operation)| operation["action"] == action && operation["path"] == request.path)
            .ok_or_else(|| {
                Refusal::new(500, format!("no operation has the SOAPAction {action:?} at {}", request.path))
            })?;
        if request.method != "POST" {
            return Err(Refusal::new(405, "SOAP is sent by POST"));
        }
        let kind = request.header("content-type").unwrap_or_default();
        if !kind.starts_with(soap["contentType"].as_str().expect("a content type")) {
            return Err(Refusal::new(415, format!("no body is expected of the type {kind:?}")));
        }
        let text = std::str::from_utf8(&request.body).map_err(|_| Refusal::new(400, "the body is not UTF-8"))?;
        let document = Document::parse(text).map_err(|e| Refusal::new(400, format!("the body is not XML: {e}")))?;
        let envelope = document.root_element();
        let space = soap["envelope"].as_str().expect("a namespace");
        if !envelope.has_tag_name((space, "Envelope")) {
            return Err(Refusal::new(500, "VersionMismatch: the body is not an envelope of SOAP 1.1"));
        }
        for (part, key) in [("Header", "header"), ("Body", "body")] {
            let root = envelope.children().find(|node| node.has_tag_name((space, part)));
            for path in operation[key].as_array().into_iter().flatten().filter_map(Json::as_str) {
                let there = root.is_some_and(|root| !self.at(root, path).is_empty());
                if !there {
                    let status = if path.starts_with("wsse:") { 401 } else { 400 };
                    return Err(Refusal::new(status, format!("{part}: {path} is missing or empty")));
                }
            }
        }
        if !self.bears(envelope, operation["auth"].as_str(), request, credentials) {
            return Err(Refusal::new(401, "no valid credentials"));
        }
        Ok(name.clone())
    }

    /// Every non-empty text at a path of qualified names; an element with elements in it counts as one.
    fn at(&self, root: Node<'_, '_>, path: &str) -> Vec<String> {
        let (elements, attribute) = path.split_once('@').map_or((path, None), |(path, name)| (path, Some(name)));
        let mut nodes = vec![root];
        for step in elements.split('/') {
            let (space, name) = match step.strip_prefix("{}") {
                Some(name) => (None, name),
                None => {
                    let (prefix, name) = step.split_once(':').expect("a qualified name");
                    let space = self.document["x-soap"]["namespaces"][prefix].as_str();
                    (Some(space.unwrap_or_else(|| panic!("the prefix {prefix}"))), name)
                }
            };
            let fits = |node: &Node<'_, '_>| node.tag_name().name() == name && node.tag_name().namespace() == space;
            nodes = nodes.iter().flat_map(|node| node.children().filter(fits)).collect();
        }
        let text = |node: &Node<'_, '_>| match attribute {
            Some(name) => node.attribute(name).map(str::to_owned),
            None if node.has_children() && node.first_element_child().is_some() => Some("elements".to_owned()),
            None if node.attributes().len() > 0 && node.text().is_none() => Some("attributes".to_owned()),
            None => node.text().map(|text| text.trim().to_owned()),
        };
        nodes.iter().filter_map(text).filter(|text| !text.is_empty()).collect()
    }

    fn bears(
        &self,
        envelope: Node<'_, '_>,
        kind: Option<&str>,
        request: &Request,
        credentials: Credentials<'_>,
    ) -> bool {
        let header = envelope.first_element_child().expect("the header was looked into, or there is none");
        let one = |path: &str| self.at(header, path).into_iter().next().unwrap_or_default();
        match kind {
            Some("httpBasic") => {
                credentials.of("basic").is_some() && basic(request).as_deref() == credentials.of("basic")
            }
            Some("usernameToken") => {
                let token = "wsse:Security/wsse:UsernameToken/wsse:";
                let given = format!("{}:{}", one(&format!("{token}Username")), one(&format!("{token}Password")));
                credentials.of("usernameToken") == Some(given.as_str())
            }
            Some("binarySecurityToken") => credentials.issued.contains(&one("wsse:Security/wsse:BinarySecurityToken")),
            other => panic!("the credentials are {other:?}"),
        }
    }
}
