//! What is answered is what the OpenAPI document says, to the last field.

use super::*;
use boon::{Compiler, SchemaIndex, Schemas};
use std::{collections::BTreeSet, sync::LazyLock};

const LOCATION: &str = "http://ringmaster/openapi.json";

/// The document, and a compiled schema for each JSON answer in it.
pub(super) struct Contract {
    pub(super) document: Value,
    schemas: Schemas,
    /// By the path, method and status of the answer, or by the name of the schema.
    compiled: BTreeMap<String, SchemaIndex>,
}

pub(super) static CONTRACT: LazyLock<Contract> = LazyLock::new(Contract::read);

impl Contract {
    fn read() -> Self {
        let document: Value = serde_json::from_slice(&document::render(routes())).unwrap();
        let mut strict = document.clone();
        refuse_other_fields(&mut strict["components"]["schemas"]);
        let mut compiler = Compiler::new();
        compiler.add_resource(LOCATION, strict).unwrap();
        let (mut schemas, mut compiled) = (Schemas::new(), BTreeMap::new());
        let mut compile = |key: String, pointer: &str| {
            let location =
                format!("{LOCATION}#{}", pointer.replace('{', "%7B").replace('}', "%7D"));
            let schema = compiler.compile(&location, &mut schemas).unwrap();
            compiled.insert(key, schema);
        };
        for name in ["Error", "ClassicError", "Event", "Gap", "Reload"] {
            compile(name.to_owned(), &format!("/components/schemas/{name}"));
        }
        for (path, method, operation) in operations(&document) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                if response["content"]["application/json"].is_object() {
                    let (path, json) = (path.replace('/', "~1"), "application~1json");
                    let pointer =
                        format!("/paths/{path}/{method}/responses/{status}/content/{json}/schema");
                    compile(format!("{method} {} {status}", path.replace("~1", "/")), &pointer);
                }
            }
        }
        Self { document, schemas, compiled }
    }

    /// Fails unless the document says that `method` on `path` may be answered so.
    pub(super) fn check(&self, method: &str, path: &str, answer: &Answer) {
        let case = format!("{method} {path}: {} {}", answer.status, answer.body);
        let json = answer.header("content-type") == Some("application/json");
        let lower = method.to_lowercase();
        let documented = if lower == "head" { "get" } else { &lower };
        let operation = self.template(path).and_then(|template| {
            let operation = self.document["paths"][template].get(documented)?;
            Some((template, operation))
        });
        let Some((template, operation)) = operation else {
            assert!((400..500).contains(&answer.status) && json, "{case}");
            let shape = match Dialect::of(path) {
                Dialect::Classic => "ClassicError",
                Dialect::V1 => "Error",
            };
            return if lower != "head" {
                self.validate(shape, &answer.body)
            };
        };
        // Those that all may call are only refused where they are not served.
        let is_refused =
            matches!(answer.status, 401 | 403 | 429) && operation["security"] == json!([]);
        if lower == "head" || is_refused {
            return;
        }
        let response = &operation["responses"][answer.status.to_string()];
        assert!(response.is_object(), "no such answer is documented: {case}");
        let content = response["content"].as_object().unwrap();
        let content_type = answer.header("content-type").unwrap();
        assert!(content.contains_key(content_type), "{content_type} is not documented: {case}");
        if json {
            self.validate(&format!("{documented} {template} {}", answer.status), &answer.body);
        }
    }

    pub(super) fn validate(&self, key: &str, body: &str) {
        let body: Value = serde_json::from_str(body).unwrap();
        let checked = self.schemas.validate(&body, self.compiled[key]);
        checked.unwrap_or_else(|error| panic!("{body} is not {key}: {error:#}"));
    }

    /// The documented path that `path` is one of.
    fn template(&self, path: &str) -> Option<&str> {
        let fits = |template: &str| {
            let (want, have) = (template.split('/'), path.split('/'));
            let same = |(want, have): (&str, &str)| {
                want == have || want.starts_with('{') && !have.is_empty()
            };
            want.clone().count() == have.clone().count() && want.zip(have).all(same)
        };
        let mut paths = self.document["paths"].as_object().unwrap().keys();
        paths.find(|template| fits(template)).map(String::as_str)
    }
}

/// Path, method and description of every operation.
pub(super) fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// A field that was forgotten in the document must fail a test, although clients are to expect new ones.
fn refuse_other_fields(schema: &mut Value) {
    if let Some(fields) = schema.as_object_mut() {
        if fields.contains_key("properties") {
            fields.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        fields.values_mut().for_each(refuse_other_fields);
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let api = Api::start();
    let answer = api.send(request("GET", "/api/v1/openapi.json", "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(document, CONTRACT.document);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let typed: utoipa::openapi::OpenApi = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), document, "something in it is not OpenAPI");
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    // The router does not list its paths but for debugging.
    let router = format!("{:?}", routes().split_for_parts().0);
    let quoted = router.split('"').filter(|part| part.starts_with('/'));
    let of_fallback = ["/", "/{*__private__axum_fallback}"];
    let served: BTreeSet<_> = quoted.filter(|path| !of_fallback.contains(path)).collect();
    let document = &CONTRACT.document;
    let documented: BTreeSet<_> = operations(document).map(|(path, ..)| path).collect();
    assert_eq!(served, documented);

    let api = Api::start();
    for path in documented {
        for method in ["GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE"] {
            let target = path.replace("{pool}", "default").replace("{name}", "Server1");
            // A version that never was, so that nothing changes.
            let asked = with(request(method, &target, ""), "if-match", "\"99\"");
            let is_served = api.send(asked).await.status != 405;
            let is_documented = document["paths"][path].get(method.to_lowercase()).is_some();
            assert_eq!(is_served, is_documented, "{method} {path}");
        }
    }
}

#[test]
fn every_operation_is_described_in_full() {
    let document = &CONTRACT.document;
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(document) {
        let case = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{case}: another operation is called {id}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{case}");
        let tags = document["tags"].as_array().unwrap();
        assert!(tags.iter().any(|tag| tag["name"] == operation["tags"][0]), "{case}");
        let empty = Vec::new();
        let params = operation["parameters"].as_array().unwrap_or(&empty);
        for param in params {
            assert!(param["description"].is_string(), "{case}: {param}");
        }
        let in_path = |param: &&Value| param["in"] == "path";
        let named: BTreeSet<_> =
            params.iter().filter(in_path).map(|param| param["name"].as_str().unwrap()).collect();
        let segments = path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(named, segments.collect(), "{case}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
}
