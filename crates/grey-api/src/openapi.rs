//! Routes that describe themselves. What registers a handler also documents
//! it, so that `/v1/openapi.json` cannot drift from what is served.

use std::collections::BTreeMap;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::event::EventJson;
use crate::params::{ListQuery, NoQuery};
use crate::problem::PROBLEM_JSON;
use crate::query::EventQuery;
use crate::reply::NDJSON;

/// Where the description is served.
const DOCUMENT_PATH: &str = "/v1/openapi.json";

/// A parameter of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means and which values it takes.
    pub description: &'static str,
}

/// One operation: its handler and its documentation.
#[derive(Debug)]
pub struct Route<S = ()> {
    method: Method,
    path: &'static str,
    summary: &'static str,
    handler: MethodRouter<S>,
    query: Vec<Parameter>,
    path_parameters: Vec<Parameter>,
    body: Option<(&'static [&'static str], Json)>,
    answers: BTreeMap<u16, Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    description: &'static str,
    content: Map<String, Json>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    fn new<H, T>(method: Method, filter: MethodFilter, path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        Self {
            method,
            path,
            summary,
            handler: on(filter, handler),
            query: Vec::new(),
            path_parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
        }
    }

    /// An operation that reads. Parameters in the path stand as `{name}`.
    pub fn get<H: Handler<T, S>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, summary, handler)
    }

    /// An operation that adds or acts.
    pub fn post<H: Handler<T, S>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, summary, handler)
    }

    /// An operation that sets.
    pub fn put<H: Handler<T, S>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::PUT, MethodFilter::PUT, path, summary, handler)
    }

    /// An operation that removes.
    pub fn delete<H: Handler<T, S>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::DELETE, MethodFilter::DELETE, path, summary, handler)
    }

    /// Documents a query parameter.
    #[must_use]
    pub fn query(mut self, name: &'static str, description: &'static str) -> Self {
        self.query.push(Parameter { name, description });
        self
    }

    /// Documents a whole table of query parameters, such as [`EventQuery::PARAMS`].
    #[must_use]
    pub fn queries(self, table: &[(&'static str, &'static str)]) -> Self {
        table.iter().fold(self, |route, (name, description)| route.query(name, description))
    }

    /// Documents a parameter of the path.
    #[must_use]
    pub fn path_parameter(mut self, name: &'static str, description: &'static str) -> Self {
        self.path_parameters.push(Parameter { name, description });
        self
    }

    /// Documents the request's body: its media types and its JSON Schema.
    #[must_use]
    pub fn takes(mut self, media_types: &'static [&'static str], schema: Json) -> Self {
        self.body = Some((media_types, schema));
        self
    }

    /// Documents an answer of JSON.
    #[must_use]
    pub fn answers(self, status: u16, description: &'static str, schema: Json) -> Self {
        self.answers_as(status, description, "application/json", schema)
    }

    /// Documents an answer of another media type; several may share a status.
    #[must_use]
    pub fn answers_as(mut self, status: u16, description: &'static str, media_type: &str, schema: Json) -> Self {
        let answer = self.answers.entry(status).or_default();
        answer.description = description;
        answer.content.insert(media_type.into(), json!({ "schema": schema }));
        self
    }

    /// Documents a page of a list `{"NAME": [...], "cursor": "..."}`.
    #[must_use]
    pub fn answers_list(self, name: &'static str, entry: Json) -> Self {
        let schema = json!({
            "type": "object",
            "required": [name],
            "properties": {
                name: {"type": "array", "items": entry},
                "cursor": {"type": "string", "description": "where the next page starts; absent on the last"},
            },
        });
        self.answers(200, "A page of the list", schema)
    }

    /// Documents the event list: its filters, its JSON page and its NDJSON.
    #[must_use]
    pub fn answers_events(self) -> Self {
        self.queries(&EventQuery::PARAMS).answers_list("events", schema_ref("Event")).answers_as(
            200,
            "A page of the list, or every event one per line",
            NDJSON,
            schema_ref("Event"),
        )
    }

    /// Documents the parameters of a list by site; see [`ListQuery`].
    #[must_use]
    pub fn list_parameters(self) -> Self {
        self.queries(&ListQuery::PARAMS)
    }

    fn operation(&self) -> Json {
        let describe = |place: &str, parameter: &Parameter| {
            json!({
                "name": parameter.name,
                "in": place,
                "required": place == "path",
                "description": parameter.description,
                "schema": {"type": "string"},
            })
        };
        let mut parameters: Vec<Json> = self.path_parameters.iter().map(|p| describe("path", p)).collect();
        parameters.extend(self.query.iter().map(|p| describe("query", p)));
        let mut answers: Map<String, Json> = self
            .answers
            .iter()
            .map(|(status, answer)| {
                (status.to_string(), json!({"description": answer.description, "content": answer.content}))
            })
            .collect();
        answers.insert(
            "default".into(),
            json!({"description": "Any error", "content": {PROBLEM_JSON: {"schema": schema_ref("Problem")}}}),
        );
        let mut operation = json!({
            "operationId": operation_id(&self.method, self.path),
            "summary": self.summary,
            "responses": answers,
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some((media_types, schema)) = &self.body {
            let content: Map<String, Json> =
                media_types.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect();
            operation["requestBody"] = json!({"required": true, "content": content});
        }
        operation
    }
}

/// A reference to a named schema of the document.
pub(crate) fn schema_ref(name: &str) -> Json {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// `GET /v1/sites/{id}` as `get_v1_sites_id`.
fn operation_id(method: &Method, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method.as_str().to_ascii_lowercase()).chain(words.map(str::to_owned)).collect::<Vec<_>>().join("_")
}

/// Collects routes to one router and its description.
#[derive(Debug)]
pub struct Api<S = ()> {
    title: &'static str,
    version: &'static str,
    router: Router<S>,
    paths: BTreeMap<&'static str, Map<String, Json>>,
    schemas: Map<String, Json>,
}

impl<S: Clone + Send + Sync + 'static> Api<S> {
    /// An interface without routes. `version` is that of the program.
    pub fn new(title: &'static str, version: &'static str) -> Self {
        let schemas = [("Event".to_owned(), EventJson::schema()), ("Problem".to_owned(), problem_schema())];
        Self { title, version, router: Router::new(), paths: BTreeMap::new(), schemas: schemas.into_iter().collect() }
    }

    /// Registers and documents a route.
    ///
    /// # Panics
    /// When the method and path are registered already: a fault of the program.
    #[must_use]
    pub fn route(mut self, route: Route<S>) -> Self {
        let method = route.method.as_str().to_ascii_lowercase();
        self.paths.entry(route.path).or_default().insert(method, route.operation());
        self.router = self.router.route(route.path, route.handler);
        self
    }

    /// Registers and documents several routes.
    #[must_use]
    pub fn routes(self, routes: impl IntoIterator<Item = Route<S>>) -> Self {
        routes.into_iter().fold(self, Self::route)
    }

    /// Names a JSON Schema that routes refer to as `{"$ref": "#/components/schemas/NAME"}`.
    #[must_use]
    pub fn schema(mut self, name: &str, schema: Json) -> Self {
        self.schemas.insert(name.into(), schema);
        self
    }

    /// The OpenAPI 3.1 description.
    pub fn document(&self) -> Json {
        json!({
            "openapi": "3.1.0",
            "info": {"title": self.title, "version": self.version},
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        })
    }

    /// The router, which also serves the description at `/v1/openapi.json`.
    pub fn into_router(self) -> Router<S> {
        let describe = Route::<S>::get(DOCUMENT_PATH, "This description", |_: NoQuery| async {}).answers(
            200,
            "An OpenAPI 3.1 document",
            json!({"type": "object"}),
        );
        let mut api = self;
        api.paths.entry(DOCUMENT_PATH).or_default().insert("get".into(), describe.operation());
        // Rendered once; every answer shares the bytes.
        let document = Bytes::from(api.document().to_string());
        let handler = move |_: NoQuery| async move { ([("content-type", "application/json")], document) };
        api.router.route(DOCUMENT_PATH, get(handler))
    }
}

fn problem_schema() -> Json {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string", "format": "uri"}, "title": text, "detail": text, "instance": text,
            "status": {"type": "integer"},
            "errors": {"type": "array", "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {"detail": text, "parameter": text, "pointer": text, "file": text, "line": {"type": "integer"}, "column": {"type": "integer"}},
            }},
            "errors_omitted": {"type": "integer"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Readiness, health_routes};
    use crate::metrics::{Metrics, metrics_route};
    use axum::body::Body;
    use axum::extract::{Path, State};
    use axum::http::Request;
    use http_body_util::BodyExt;
    use std::collections::BTreeSet;
    use tower::ServiceExt;

    fn api() -> Api<u64> {
        Api::new("Grey test tier", "0.1.0")
            .routes(health_routes(&Readiness::new(&[])))
            .route(metrics_route(&Metrics::new()))
            .route(
                Route::get("/v1/sites/{id}", "One site", |State(n): State<u64>, Path(id): Path<String>| async move {
                    format!("{id}{n}")
                })
                .path_parameter("id", "the site's id")
                .answers(200, "The site", json!({"type": "object"})),
            )
            .route(Route::get("/v1/events", "Events", |_: EventQuery| async {}).answers_events())
            .route(
                Route::post("/v1/events", "Accepts events", || async {})
                    .takes(&["application/json", NDJSON], json!({}))
                    .answers(200, "Accepted", json!({"type": "object"})),
            )
            .route(
                Route::get("/v1/ledger", "Books", |_: ListQuery| async {})
                    .list_parameters()
                    .answers_list("ledger", json!({})),
            )
    }

    async fn get_text(router: Router, path: &str) -> String {
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// What OpenAPI 3.1 demands of the parts that are used here.
    fn check(document: &Json) {
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            assert!(path.starts_with('/'));
            for (method, operation) in methods.as_object().unwrap() {
                assert!(["get", "post", "put", "delete"].contains(&method.as_str()));
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
                let mut names = BTreeSet::new();
                let none = Vec::new();
                for parameter in operation["parameters"].as_array().unwrap_or(&none) {
                    assert!(names.insert((parameter["in"].as_str().unwrap(), parameter["name"].as_str().unwrap())));
                    assert_eq!(parameter["required"], parameter["in"] == "path");
                    assert!(parameter["schema"].is_object());
                }
                let in_path: BTreeSet<_> = path.split('{').skip(1).filter_map(|part| part.split('}').next()).collect();
                let documented: BTreeSet<_> = names.iter().filter(|n| n.0 == "path").map(|n| n.1).collect();
                assert_eq!(in_path, documented, "{path}");
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    assert!(status == "default" || status.parse::<u16>().is_ok());
                    assert!(!answer["description"].as_str().unwrap().is_empty(), "{path} {status}");
                    assert!(!answer["content"].as_object().unwrap().is_empty());
                }
            }
        }
        check_references(document, document);
    }

    fn check_references(document: &Json, part: &Json) {
        match part {
            Json::Object(map) => {
                if let Some(reference) = map.get("$ref") {
                    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{pointer}");
                }
                map.values().for_each(|value| check_references(document, value));
            }
            Json::Array(list) => list.iter().for_each(|value| check_references(document, value)),
            _ => {}
        }
    }

    #[tokio::test]
    async fn the_description_is_served_and_whole() {
        let router = api().into_router().with_state(7);
        let document: Json = serde_json::from_str(&get_text(router.clone(), "/v1/openapi.json").await).unwrap();
        check(&document);
        for path in
            ["/healthz", "/readyz", "/metrics", "/v1/events", "/v1/ledger", "/v1/openapi.json", "/v1/sites/{id}"]
        {
            assert!(document["paths"][path]["get"].is_object(), "{path}");
        }
        let post = &document["paths"]["/v1/events"]["post"]["requestBody"]["content"];
        assert!(post[NDJSON].is_object() && post["application/json"].is_object());
        assert_eq!(get_text(router, "/v1/sites/x").await, "x7");
    }

    #[test]
    #[should_panic(expected = "Overlapping")]
    fn a_route_cannot_be_registered_twice() {
        let _ = api().route(Route::get("/v1/ledger", "Again", |_: NoQuery| async {}));
    }
}
