//! An answer made of what an OpenAPI document says of a path, so that it can be guessed about as if it had come.

use serde_json::{Map, Value as Json, json};

use super::credentials::Place;

/// References and levels that are followed; a schema may name itself.
const DEPTH_MAX: usize = 12;
/// Elements of a list: enough to tell a key from what is the same in each record.
const ELEMENTS: usize = 3;

/// The answer to a GET of a path, such as `/v1/orders`; the example where there is one, otherwise made of the schema.
pub fn sample(document: &Json, path: &str) -> Result<Json, String> {
    let paths =
        document.get("paths").and_then(Json::as_object).ok_or("the document has no `paths`: it is not OpenAPI")?;
    let item = paths.get(path).ok_or_else(|| {
        let gets = paths.iter().filter(|(_, item)| item.get("get").is_some());
        let known: Vec<&str> = gets.map(|(path, _)| path.as_str()).take(20).collect();
        format!("the document has no path {path:?}; it has {}", known.join(", "))
    })?;
    let operation = item.get("get").ok_or_else(|| format!("{path:?} has no GET"))?;
    let responses = operation.get("responses").and_then(Json::as_object);
    let good = responses.into_iter().flatten().find(|(status, _)| status.starts_with('2') || *status == "default");
    let response = good.map(|(_, response)| resolved(document, response)).ok_or("it describes no answer of 2xx")?;
    // OpenAPI 3 has a schema for each content type, Swagger 2 one for all.
    let content = response.get("content").and_then(Json::as_object);
    let json = content.and_then(|types| {
        let is_json = |name: &str| name.contains("json");
        types.iter().find(|(name, _)| is_json(name)).map(|(_, body)| body)
    });
    let body = json.unwrap_or(response);
    let examples = body.get("examples").and_then(Json::as_object).into_iter().flatten();
    let examples = examples.map(|(_, example)| {
        let example = resolved(document, example);
        example.get("value").unwrap_or(example)
    });
    // Of several the one that says most: others show an empty page.
    let example = body.get("example").or_else(|| examples.max_by_key(|example| example.to_string().len()));
    if let Some(example) = example.filter(|example| example.is_object() || example.is_array()) {
        return Ok(example.clone());
    }
    let schema = body.get("schema").ok_or("its answer has no schema of JSON")?;
    Ok(made(document, schema, "", 0, 0))
}

/// The credentials that a GET of a path needs, as far as they are kinds that a header or a parameter carries.
pub fn credentials(document: &Json, path: &str) -> Vec<Place> {
    let own = document.get("paths").and_then(|paths| paths.get(path)?.get("get")?.get("security"));
    let security = own.or_else(|| document.get("security")).and_then(Json::as_array);
    // OpenAPI 3 and Swagger 2.
    let schemes = document.pointer("/components/securitySchemes").or_else(|| document.get("securityDefinitions"));
    let places = |needed: &Json| -> Option<Vec<Place>> {
        needed.as_object()?.keys().map(|name| place(resolved(document, schemes?.get(name)?))).collect()
    };
    security.into_iter().flatten().find_map(places).unwrap_or_default()
}

/// Where the credential of a security scheme stands.
fn place(scheme: &Json) -> Option<Place> {
    let of = |key: &str| scheme.get(key).and_then(Json::as_str).unwrap_or_default();
    let name = of("name").to_ascii_lowercase();
    match (of("type"), of("scheme").to_ascii_lowercase().as_str(), of("in")) {
        ("http", "basic", _) | ("basic", ..) => Some(Place::Basic("USER".to_owned())),
        ("http", "bearer", _) | ("oauth2" | "openIdConnect", ..) => Some(Place::Bearer),
        ("apiKey", _, "header") if name == "authorization" => Some(Place::Bearer),
        ("apiKey", _, "header") => Some(Place::Header(name)),
        ("apiKey", _, "query") => Some(Place::Query(of("name").to_owned())),
        _ => None,
    }
}

/// What a `$ref` within the document points to, or the value itself.
fn resolved<'d>(document: &'d Json, value: &'d Json) -> &'d Json {
    let mut at = value;
    for _ in 0..DEPTH_MAX {
        let target = at.get("$ref").and_then(Json::as_str).and_then(|target| target.strip_prefix('#'));
        match target.and_then(|pointer| document.pointer(pointer)) {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// The type that counts; a list of types may have null.
fn kind(schema: &Json) -> &str {
    match schema.get("type") {
        Some(Json::String(kind)) => kind,
        Some(Json::Array(kinds)) => {
            kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        _ if schema.get("properties").is_some() || schema.get("required").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "",
    }
}

/// A value of a schema, another one for each `number`.
fn made(document: &Json, schema: &Json, name: &str, number: usize, depth: usize) -> Json {
    let schema = resolved(document, schema);
    if depth > DEPTH_MAX {
        return Json::Null;
    }
    if let Some(parts) = schema.get("allOf").and_then(Json::as_array) {
        let mut all = fields(document, schema, number, depth);
        for part in parts {
            if let Json::Object(map) = made(document, part, name, number, depth + 1) {
                all.extend(map);
            }
        }
        return Json::Object(all);
    }
    if let Some(first) = ["oneOf", "anyOf"].iter().find_map(|key| schema.get(*key)?.as_array()?.first())
        && kind(schema).is_empty()
    {
        return made(document, first, name, number, depth + 1);
    }
    if let Some(values) = schema.get("enum").and_then(Json::as_array).filter(|values| !values.is_empty()) {
        return values.get(number % values.len()).cloned().unwrap_or_default();
    }
    match kind(schema) {
        "object" => Json::Object(fields(document, schema, number, depth)),
        "array" => {
            let element = schema.get("items").unwrap_or(&Json::Null);
            (0..ELEMENTS).map(|at| made(document, element, name, number * ELEMENTS + at, depth + 1)).collect()
        }
        "integer" | "number" => json!(1000 + number),
        "boolean" => json!(number.is_multiple_of(2)),
        _ => json!(format!("{name}-{number}")),
    }
}

/// The fields that a schema describes, and those that it only requires.
fn fields(document: &Json, schema: &Json, number: usize, depth: usize) -> Map<String, Json> {
    let described = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    let mut map: Map<String, Json> =
        described.map(|(name, schema)| (name.clone(), made(document, schema, name, number, depth + 1))).collect();
    for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        map.entry(name).or_insert_with(|| json!(format!("{name}-{number}")));
    }
    map
}
