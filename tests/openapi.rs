//! `/openapi.json` is the interface: what it names is served, what it says is so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

mod node;

use std::collections::BTreeSet;

use node::Node;
use pulk::job::limits;
use pulk::lease::LEASE_MS_MAX;
use pulk::queue::{
    CLAIM_JOBS_MAX, CLAIM_NAMES_MAX, CLAIM_WAIT_MS_MAX, CONCURRENCY_MAX, CONCURRENCY_PER_KEY_MAX,
    PAGE_MAX, RATE_JOBS_MAX, RATE_PER_MS_MAX, REPLAY_JOBS_MAX, SETTLE_MAX,
};
use pulk::retry::RetryPolicy;
use reqwest::Method;
use serde_json::Value;

const ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

async fn document(node: &Node) -> Value {
    let answer = node.http.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/json");
    answer.json()
}

async fn node() -> Node {
    Node::start_with(["--store", "memory"]).await
}

/// Every call of the document: path, method, operation.
fn calls(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, it)| (path.as_str(), method.as_str(), it))
    });
    calls.collect()
}

/// Every object inside a value, itself first, with the way to it.
fn objects<'a>(way: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(members) => {
            found.push((way.to_owned(), value));
            for (name, member) in members {
                objects(&format!("{way}/{name}"), member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| objects(way, item, found)),
        _ => {}
    }
}

fn everything(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    objects("", document, &mut found);
    found
}

#[tokio::test]
async fn it_says_what_it_is() {
    let document = document(&node().await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["title"], "pulk");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["info"]["license"]["identifier"], env!("CARGO_PKG_LICENSE"));
    assert!(!document["servers"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn every_call_in_it_is_served_and_no_other() {
    let node = node().await;
    let document = document(&node).await;
    let calls = calls(&document);
    let all = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    for path in calls.iter().map(|(path, ..)| *path).collect::<BTreeSet<_>>() {
        let named: BTreeSet<String> = calls
            .iter()
            .filter(|(its_path, ..)| *its_path == path)
            .map(|(_, method, _)| method.to_uppercase())
            .collect();
        let url = path.replace("{id}", ID).replace("{queue}", "nobody").replace("{name}", "none");
        assert!(!url.contains('{'), "{path}: give a value for its parameter");
        for method in all {
            let answer = node.http.call(Method::from_bytes(method.as_bytes()).unwrap(), &url, "{}");
            let answer = answer.await.unwrap();
            assert_ne!(answer.status, 500, "{method} {path}");
            assert_eq!(answer.status != 405, named.contains(method), "{method} {path}: {answer:?}");
            // Only a thing that is named can be missing; a path that is not served always is.
            let may_miss = answer.status == 404 && path.contains('{');
            assert!(answer.status != 404 || may_miss, "{method} {path}: {answer:?}");
            assert!(!answer.text().contains("there is no /"), "{method} {path} is not served");
        }
    }
}

/// The other way round: what the README promises is in the document.
#[tokio::test]
async fn every_call_of_the_readme_is_in_it() {
    let document = document(&node().await).await;
    let readme = include_str!("../README.md");
    let table = readme.split("\n## HTTP\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut seen = 0;
    for cell in table.lines().filter(|line| line.starts_with("| `")).map(|line| &line[2..]) {
        let first = cell.split('`').nth(1).unwrap();
        let (method, rest) = first.split_once(' ').unwrap();
        let path = rest.split(['?', ' ']).next().unwrap();
        assert!(document["paths"][path][method.to_lowercase()].is_object(), "{method} {path}");
        seen += 1;
    }
    assert!(seen >= 15, "{seen}");
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = document(&node().await).await;
    let mut seen = 0;
    for (way, object) in everything(&document) {
        if let Some(reference) = object.get("$ref") {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{way}: {reference}");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[tokio::test]
async fn every_call_says_what_it_does_and_what_it_answers() {
    let document = document(&node().await).await;
    let mut ids = BTreeSet::new();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    for (path, method, call) in calls(&document) {
        let name = format!("{method} {path}");
        let id = call["operationId"].as_str().expect(&name);
        assert!(ids.insert(id.to_owned()), "{name}: another call has the id {id}");
        for text in ["summary", "description"] {
            assert!(call[text].as_str().is_some_and(|text| !text.is_empty()), "{name}: {text}");
        }
        assert!(tags.contains(call["tags"][0].as_str().expect(&name)), "{name}: its tag");
        let responses = call["responses"].as_object().expect(&name);
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}: a success");
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|it| !it.is_empty()), "{name}");
            let is_health = path.contains("health") || ["/livez", "/readyz"].contains(&path);
            if !status.starts_with('2') && !is_health {
                let schema = &response["content"]["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{name}: {status}");
            }
        }
        for parameter in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
            let named = call["parameters"].as_array().expect(&name);
            assert!(named.iter().any(|it| it["name"] == parameter), "{name}: {parameter}");
        }
        if path.starts_with("/v1/") {
            assert!(responses.contains_key("503"), "{name}: NotReady");
        }
        if !call["requestBody"].is_null() {
            assert!(responses.contains_key("413"), "{name}: BadBody");
        }
    }
}

/// Unknown fields are refused, an example shows how to ask, and what is left out of an answer is
/// never null.
#[tokio::test]
async fn requests_are_closed_and_answers_leave_out_what_is_not_there() {
    let document = document(&node().await).await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (path, method, call) in calls(&document) {
        let Some(content) = call["requestBody"]["content"].as_object() else { continue };
        let reference = content["application/json"]["schema"]["$ref"].as_str();
        let name = reference.expect(path).rsplit('/').next().unwrap();
        assert!(schemas[name]["examples"][0].is_object(), "{method} {path}: {name} has no example");
    }
    for (name, schema) in schemas {
        let Some(properties) = schema["properties"].as_object() else {
            assert!(
                !name.ends_with("Request") || schema["additionalProperties"] == false,
                "{name}"
            );
            continue;
        };
        if name.ends_with("Request") || name.ends_with("Item") {
            assert_eq!(schema["additionalProperties"], false, "{name}");
            for (field, property) in properties {
                let is_number = property["type"].to_string().contains("integer");
                let bounded = property["maximum"].is_number();
                assert!(!is_number || bounded, "{name}.{field}: a number needs a maximum");
            }
            continue;
        }
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        for (field, property) in properties {
            let is_null = property.to_string().contains(r#""null""#);
            let is_required = required.iter().any(|it| it == field.as_str());
            assert!(!is_null || is_required, "{name}.{field}: add #[schema(nullable = false)]");
        }
    }
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let said = property.to_string().contains(r#""description""#);
            assert!(said, "{name}.{field}: document the field");
        }
    }
}

#[tokio::test]
async fn its_limits_are_those_of_the_code() {
    let document = document(&node().await).await;
    let limit = |way: &str| {
        let value = document["components"]["schemas"].pointer(&format!("/{way}"));
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {way}"))
    };
    for (way, most) in [
        ("JobRequest/properties/kind/maxLength", limits::NAME_BYTES_MAX as u64),
        ("JobRequest/properties/queue/maxLength", limits::NAME_BYTES_MAX as u64),
        ("JobRequest/properties/max_attempts/maximum", limits::ATTEMPTS_MAX.into()),
        ("JobRequest/properties/max_interruptions/maximum", limits::INTERRUPTIONS_MAX.into()),
        ("JobRequest/properties/timeout_ms/maximum", limits::TIMEOUT_MS_MAX),
        ("JobRequest/properties/delay_ms/maximum", limits::DELAY_MS_MAX),
        ("ScheduleJobRequest/properties/kind/maxLength", limits::NAME_BYTES_MAX as u64),
        ("ScheduleJobRequest/properties/queue/maxLength", limits::NAME_BYTES_MAX as u64),
        ("ScheduleJobRequest/properties/max_attempts/maximum", limits::ATTEMPTS_MAX.into()),
        (
            "ScheduleJobRequest/properties/max_interruptions/maximum",
            limits::INTERRUPTIONS_MAX.into(),
        ),
        ("ScheduleJobRequest/properties/timeout_ms/maximum", limits::TIMEOUT_MS_MAX),
        ("ScheduleJobRequest/properties/expires_in_ms/maximum", limits::DELAY_MS_MAX),
        ("BatchRequest/properties/jobs/maxItems", limits::BATCH_JOBS_MAX as u64),
        ("RetryRequest/properties/base_ms/maximum", RetryPolicy::DELAY_MS_MAX),
        ("RetryRequest/properties/max_ms/maximum", RetryPolicy::DELAY_MS_MAX),
        ("ClaimRequest/properties/limit/maximum", CLAIM_JOBS_MAX as u64),
        ("ClaimRequest/properties/queues/maxItems", CLAIM_NAMES_MAX as u64),
        ("ClaimRequest/properties/kinds/maxItems", CLAIM_NAMES_MAX as u64),
        ("ClaimRequest/properties/wait_ms/maximum", CLAIM_WAIT_MS_MAX),
        ("ClaimRequest/properties/lease_ms/maximum", LEASE_MS_MAX),
        ("ClaimRequest/properties/acks/maxItems", SETTLE_MAX as u64),
        ("ClaimRequest/properties/fails/maxItems", SETTLE_MAX as u64),
        ("SettleRequest/properties/acks/maxItems", SETTLE_MAX as u64),
        ("SettleRequest/properties/fails/maxItems", SETTLE_MAX as u64),
        ("ExtendRequest/properties/lease_ms/maximum", LEASE_MS_MAX),
        ("ReleaseRequest/properties/delay_ms/maximum", limits::DELAY_MS_MAX),
        ("LimitsRequest/properties/concurrency/maximum", CONCURRENCY_MAX.into()),
        ("LimitsRequest/properties/concurrency_per_key/maximum", CONCURRENCY_PER_KEY_MAX.into()),
        ("RateRequest/properties/jobs/maximum", RATE_JOBS_MAX.into()),
        ("RateRequest/properties/burst/maximum", RATE_JOBS_MAX.into()),
        ("RateRequest/properties/per_ms/maximum", RATE_PER_MS_MAX),
        ("ReplayManyRequest/properties/limit/maximum", REPLAY_JOBS_MAX),
        ("FailRequest/properties/retry_in_ms/maximum", RetryPolicy::DELAY_MS_MAX),
        ("FailItem/properties/retry_in_ms/maximum", RetryPolicy::DELAY_MS_MAX),
    ] {
        assert_eq!(limit(way), most, "{way}");
    }
    let page = document["paths"]["/v1/dead"]["get"]["parameters"].as_array().unwrap();
    let page = page.iter().find(|parameter| parameter["name"] == "limit").unwrap();
    assert_eq!(page["schema"]["maximum"], PAGE_MAX);
}

#[tokio::test]
async fn the_codes_in_it_are_those_that_come() {
    let node = node().await;
    let document = document(&node).await;
    let codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].clone();
    let description = document["info"]["description"].as_str().unwrap();
    for code in codes.as_array().unwrap() {
        assert!(description.contains(&format!("| `{}` |", code.as_str().unwrap())), "{code}");
    }
    let dead = format!("/v1/dead/{ID}");
    for (path, body, code) in [
        ("/v1/jobs", "{}", "bad_request"),
        ("/nowhere", "{}", "not_found"),
        (dead.as_str(), "{}", "method_not_allowed"),
        (&format!("/v1/jobs/{ID}/ack"), &format!(r#"{{"token":"{ID}-1"}}"#), "lease_lost"),
    ] {
        let answer = node.http.post(path, body.to_owned()).await.json();
        assert_eq!(answer["code"], code);
        assert!(codes.as_array().unwrap().contains(&answer["code"]), "{answer}");
    }
}

/// A route that is not put in by `routes!` would be served without a word in the document.
#[test]
fn no_route_goes_round_the_document() {
    let code = include_str!("../src/api.rs");
    assert!(code.contains(".routes(routes!("));
    for way_round in [".route(", ".route_service(", ".nest_service(", "Router::new()"] {
        assert!(!code.contains(way_round), "src/api.rs: {way_round}; use .routes(routes!(…))");
    }
}
