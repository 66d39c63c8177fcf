//! `/openapi.json`: the interface as OpenAPI 3.1, made from the handlers and their types.
//!
//! Each handler says in `#[utoipa::path]` what it takes and answers; `super::routes` puts handler
//! and description into the router together, so neither is there without the other. This file has
//! what all calls share: the frame, the sets of refusals, and the call that shows the document.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr};
use utoipa::{IntoResponses, OpenApi};
use utoipa_axum::router::UtoipaMethodRouter;

use super::ApiState;
use super::error::{Code, ProblemReply};

/// Made at the first call for it, and never again.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| document().to_json().unwrap_or_default().into());

/// Show this document.
///
/// The whole interface as OpenAPI 3.1, made from the code that serves it.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "node",
    responses((status = 200, description = "The document.", body = utoipa::openapi::Object)),
)]
pub(super) async fn show() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "pulk", license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")),
    servers((url = "/", description = "The node that this document comes from.")),
    tags(
        (name = "jobs", description = "What producers do: hand in jobs and look after them."),
        (name = "work", description = "What workers do: claim jobs, and say what became of them."),
        (name = "queues", description = "Queues and what is in them."),
        (name = "dead", description = "Dead letters: jobs that were given up."),
        (name = "schedules", description = "Jobs that are made again and again."),
        (name = "node", description = "The node itself: health, metrics, this document."),
    ),
    components(schemas(ProblemReply<'static>)),
)]
struct Frame;

/// The document without its calls.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    let mut document = Frame::openapi();
    document.info.description = Some(description());
    document
}

/// The whole document.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = super::routes().into_openapi();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete] {
            let body = operation.as_mut().and_then(|operation| operation.request_body.as_mut());
            if let Some(RefOr::T(body)) = body {
                body.content.values_mut().for_each(refuse_null);
            }
        }
    }
    document
}

/// A body that may be left out is written as an `Option`, which says too that it may be `null`.
/// It may not.
fn refuse_null(content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content
        && let Some(RefOr::T(Schema::OneOf(either))) = &mut content.schema
        && let [body, RefOr::T(_)] = either.items.as_slice()
    {
        content.schema = Some(body.clone());
    }
}

/// What is true of every call, and all codes.
fn description() -> String {
    let mut text = String::from(
        "A persistent job queue.\n\n\
         An answer that says \"done\" (200, 201, 204) is sent after what it says is on the disk. \
         No answer means \"not known\": the call happened wholly, or not at all.\n\n\
         Names that end in `_ms` are whole milliseconds. An unknown field is refused by its name. \
         An empty body is read as `{}`.\n\n\
         What is refused is answered with `application/problem+json` (RFC 9457). Any call can be \
         refused with one of the codes below, and not only those that it lists: a path that is \
         not here, a method that it does not take, a node that starts or stops.\n\n\
         | code | status | meaning |\n|---|---|---|\n",
    );
    for Code { name, status, meaning } in Code::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{name}` | {} | {meaning} |", status.as_u16());
    }
    text
}

/// The codes, as the values of a problem's `code`.
pub(super) fn code_schema() -> Schema {
    let names = Code::ALL.iter().map(|code| code.name);
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .description(Some("What happened, for programs; stable from version to version."))
        .enum_values(Some(names))
        .into()
}

/// Sets of codes to name among the `responses` of a call. Those that one call names must have no
/// status in common.
macro_rules! refusals {
    ($($(#[$doc:meta])* $set:ident: $($code:ident),+;)*) => {$(
        $(#[$doc])*
        pub(super) struct $set;

        impl IntoResponses for $set {
            fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
                refused(&[$(Code::$code),+])
            }
        }
    )*};
}

refusals! {
    /// Every call that asks the queue.
    NotReady: STARTING, DRAINING, TOO_MANY_CONNECTIONS, STORAGE_FAILED;
    /// A call with values in its path or query, but no body.
    BadCall: BAD_REQUEST;
    /// A call with a body.
    BadBody: BAD_REQUEST, TIMEOUT, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE;
    /// A call that names a thing that may not be there.
    NotFound: NOT_FOUND;
    /// A call about a thing that may be in the wrong state.
    Conflict: CONFLICT;
    /// A call with a token.
    LeaseLost: LEASE_LOST;
    /// A call that ends a lease.
    LeaseOver: LEASE_LOST, CANCELLED;
    /// A call that brings little, but not nothing.
    DiskFull: DISK_FULL;
    /// A call that may be one too many to wait.
    QueueFull: QUEUE_FULL;
    /// A call that may make a queue.
    NewQueue: QUEUE_FULL, TOO_MANY_QUEUES;
    /// A call that takes room.
    NoRoom: QUEUE_FULL, TOO_MANY_QUEUES, DISK_FULL;
}

/// One response for each status of these codes.
fn refused(codes: &[Code]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status = BTreeMap::<String, Vec<Code>>::new();
    for code in codes {
        by_status.entry(code.status.as_u16().to_string()).or_default().push(*code);
    }
    by_status.into_iter().map(|(status, codes)| (status, refusal(&codes).into())).collect()
}

fn refusal(codes: &[Code]) -> utoipa::openapi::Response {
    let told: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}", code.name, code.meaning)).collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description(told.join(" "))
        .content("application/problem+json", content);
    if !codes.iter().any(|code| code.asks_to_wait()) {
        return response.build();
    }
    let seconds = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer));
    let header = HeaderBuilder::new()
        .schema(Some(seconds.minimum(Some(1)).build()))
        .description(Some("Try again after so many seconds."));
    response.header("Retry-After", header.build()).build()
}

/// The same calls once more under another path.
pub(super) fn alias(
    path: &str,
    (schemas, paths, methods): UtoipaMethodRouter<ApiState>,
) -> UtoipaMethodRouter<ApiState> {
    let mut aliased = utoipa::openapi::Paths::new();
    for (original, mut item) in paths.paths {
        if let Some(operation) = &mut item.get {
            let name = operation.operation_id.take().unwrap_or_default();
            operation.operation_id = Some(format!("{name}_alias"));
            operation.description = Some(format!("The same as `{original}`."));
        }
        aliased.paths.insert(path.to_owned(), item);
    }
    (schemas, aliased, methods)
}
