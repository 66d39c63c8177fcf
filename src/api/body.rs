//! How requests are read: bodies, ids in paths, query strings.
//!
//! Nothing that a client sends is ignored: an unknown field is an error that names it.

use std::fmt;
use std::marker::PhantomData;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa::IntoParams;

use super::BODY_BYTES_MAX;
use super::error::Problem;
use super::timed_body::BodyTimeout;
use crate::error::{Error, Result};
use crate::job::JobId;

/// How much of a body that is too large is read and thrown away. A client that is answered while
/// it still sends may find its connection broken, and never read the answer.
const DISCARDED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// A body of more bytes than this needs room among the large ones. Smaller ones never wait: all
/// connections together can't send more of them than the node has memory for.
const SMALL_BODY_BYTES: usize = 64 << 10;
/// Bytes of large bodies that may be in memory at once; who sends one more is read from when an
/// earlier one is done with.
const LARGE_BODIES_BYTES: usize = 128 << 20;
static LARGE_BODIES: Semaphore = Semaphore::const_new(LARGE_BODIES_BYTES);

/// A whole body, with its place among the large ones if it is one.
#[derive(Debug)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    _room: Option<SemaphorePermit<'static>>,
}

/// The bytes of a JSON body.
#[derive(Debug)]
pub(super) struct JsonBody(WholeBody);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (headers, body) = read_body(request).await?;
        JsonBody::checked(&headers, body)
    }
}

/// The headers of a request and its whole body, whatever is in it.
pub(super) async fn read_body(request: Request) -> Result<(HeaderMap, WholeBody), Problem> {
    let (parts, mut body) = request.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) {
        // Who waits to be asked for the body has not begun to send it.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body).await;
        }
        return Err(Problem::body_too_large());
    }
    // A body that does not say its length may turn out to be of any.
    let room = room_for(body.size_hint().upper().unwrap_or(BODY_BYTES_MAX as u64)).await;
    match Limited::new(&mut body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            let _room = room.and_then(|room| shrunk(room, bytes.len()));
            Ok((parts.headers, WholeBody { bytes, _room }))
        }
        Err(reason) if reason.is::<LengthLimitError>() => {
            discard(body).await;
            Err(Problem::body_too_large())
        }
        Err(reason) => Err(interrupted(&*reason)),
    }
}

async fn room_for(bytes: u64) -> Option<SemaphorePermit<'static>> {
    if bytes <= SMALL_BODY_BYTES as u64 {
        return None;
    }
    // It is never closed, so this never fails.
    LARGE_BODIES.acquire_many(bytes.min(BODY_BYTES_MAX as u64) as u32).await.ok()
}

/// What is left of the room for a body that came to so many bytes.
fn shrunk(mut room: SemaphorePermit<'static>, bytes: usize) -> Option<SemaphorePermit<'static>> {
    drop(room.split(room.num_permits().saturating_sub(bytes)));
    (bytes > SMALL_BODY_BYTES).then_some(room)
}

/// What to say when a body can't be read to its end.
fn interrupted(reason: &(dyn std::error::Error + 'static)) -> Problem {
    let mut reasons = std::iter::successors(Some(reason), |reason| reason.source());
    match reasons.find_map(|reason| reason.downcast_ref::<BodyTimeout>()) {
        Some(late) => Problem::body_timeout(late.timeout_ms),
        None => Error::invalid("body", "broke off before its end; send it again").into(),
    }
}

async fn discard(mut body: Body) {
    let mut left = DISCARDED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// The media type, without its parameters and in lower case.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("?");
    Some(given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn refuse_compressed(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        let detail = "a compressed body is not read; leave out Content-Encoding";
        return Err(Problem::unsupported_media_type(detail));
    }
    Ok(())
}

/// True when the body is said to be JSON by lines.
pub(super) fn is_lines(headers: &HeaderMap) -> Result<bool, Problem> {
    let lines = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
    let is_lines = media_type(headers).is_some_and(|given| lines.contains(&given.as_str()));
    if is_lines {
        refuse_compressed(headers)?;
    }
    Ok(is_lines)
}

/// JSON is taken as `application/json`, as any `…+json`, or without a word about it.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    refuse_compressed(headers)?;
    let Some(given) = media_type(headers) else { return Ok(()) };
    if given == "application/json" || given.ends_with("+json") {
        return Ok(());
    }
    Err(Problem::unsupported_media_type(match given.as_str() {
        "application/x-www-form-urlencoded" => "the body says it is a form; send JSON and add \
            -H 'content-type: application/json' (or use curl --json)"
            .to_owned(),
        other => format!("{other} is not read here; send application/json"),
    }))
}

impl JsonBody {
    /// A body that says, if anything, that it is JSON.
    pub(super) fn checked(headers: &HeaderMap, body: WholeBody) -> Result<JsonBody, Problem> {
        if !body.bytes.is_empty() {
            check_media_type(headers)?;
        }
        Ok(JsonBody(body))
    }

    /// Reads the body; an empty one is `{}`. The value may borrow from it.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), with the path of the field and the line and column.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        parse(if self.0.bytes.is_empty() { b"{}" } else { &self.0.bytes })
    }

    /// Reads the body of a call that would mean everything if it said nothing. It must say so.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and for an empty body.
    pub(super) fn parse_said<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        if self.0.bytes.is_empty() {
            return Err(Error::invalid("body", "is empty; send a filter, or {} for all"));
        }
        self.parse()
    }
}

/// Reads one JSON object.
///
/// # Errors
/// As [`JsonBody::parse`].
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    serde_json::from_slice(text).map(|Object(value)| value).map_err(|reason| {
        // Only the bad body pays for knowing where it is bad.
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        match serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) {
            Err(placed) => misread(&placed.path().to_string(), &placed.inner().to_string()),
            Ok(_) => misread(".", &reason.to_string()),
        }
    })
}

/// What serde says of a field, as an error that names the field.
fn misread(path: &str, message: &str) -> Error {
    let outer = path.trim_matches('.').trim_end_matches(".?");
    let outer = if outer == "?" { "" } else { outer };
    // Our own types name themselves first ("token: …"); the path says it better.
    let message = match message.split_once(": ") {
        Some((word, rest)) if word.bytes().all(|byte| byte.is_ascii_lowercase()) => rest,
        _ => message,
    };
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .into_iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next())
        // A member may have no name at all.
        .filter(|name| !name.is_empty());
    let field = match named {
        Some(name) if outer.is_empty() => name.to_owned(),
        Some(name) if outer != name && !outer.ends_with(&format!(".{name}")) => {
            format!("{outer}.{name}")
        }
        _ if outer.is_empty() => "body".to_owned(),
        _ => outer.to_owned(),
    };
    Error::invalid(field, message)
}

/// A JSON object. A derived type would also take a list, for its members in their order, which
/// nobody means.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> std::result::Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Object)
    }
}

/// A list of at most `MOST` items; a longer one is refused before it is read to its end.
pub(super) fn at_most<'de, D, T, const MOST: usize>(
    deserializer: D,
) -> std::result::Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Items<T, const MOST: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list of at most {MOST}")
        }

        fn visit_seq<A: SeqAccess<'de>>(
            self,
            mut list: A,
        ) -> std::result::Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MOST {
                    let message = format!("more than {MOST} are too many; send them in parts");
                    return Err(serde::de::Error::custom(message));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Items::<T, MOST>(PhantomData))
}

/// A list of at most `MOST` objects.
pub(super) fn objects_at_most<'de, D, T, const MOST: usize>(
    deserializer: D,
) -> std::result::Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = at_most::<D, Object<T>, MOST>(deserializer)?;
    Ok(objects.into_iter().map(|Object(item)| item).collect())
}

/// The job's id in the path.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct PathId(pub(super) JobId);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_part("id", parts, state).await?;
        Ok(PathId(text.parse()?))
    }
}

/// The queue's name in the path; a `/` in it is written `%2F`.
#[derive(IntoParams)]
#[into_params(names("queue"), parameter_in = Path)]
pub(super) struct PathQueue(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for PathQueue {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(PathQueue(path_part("queue", parts, state).await?))
    }
}

pub(super) async fn path_part<S: Send + Sync>(
    field: &str,
    parts: &mut Parts,
    state: &S,
) -> Result<String> {
    let Path(text) = Path::<String>::from_request_parts(parts, state)
        .await
        .map_err(|_| Error::invalid(field, "is not readable text; escape it as UTF-8"))?;
    Ok(text)
}

/// The values after the `?`.
pub(super) struct QueryOf<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|reason| {
            let reason = std::error::Error::source(&reason)
                .map_or_else(|| reason.to_string(), ToString::to_string);
            match reason.split_once(": ") {
                Some((path, message)) => misread(path, message),
                None => misread(".", &reason),
            }
        })?;
        Ok(QueryOf(query))
    }
}

#[cfg(test)]
impl From<&str> for WholeBody {
    fn from(text: &str) -> Self {
        WholeBody { bytes: Bytes::copy_from_slice(text.as_bytes()), _room: None }
    }
}

#[cfg(test)]
impl From<&str> for JsonBody {
    fn from(text: &str) -> Self {
        JsonBody(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        base_ms: u64,
        id: Option<JobId>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Outer {
        kind: String,
        #[serde(default, deserialize_with = "objects_at_most::<_, _, 2>")]
        list: Vec<Inner>,
    }

    #[track_caller]
    fn refused(text: &str) -> (String, String) {
        let error = JsonBody::from(text).parse::<Outer>().unwrap_err();
        (error.field().unwrap().to_owned(), error.to_string())
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (text, field) in [
            ("", "kind"),
            ("{}", "kind"),
            ("[]", "body"),
            ("{", "body"),
            (r#"{"kind":"a"} x"#, "body"),
            (r#"{"kind":7}"#, "kind"),
            (r#"{"kind":"a","kind":"b"}"#, "kind"),
            (r#"{"kind":"a","unique":{"key":"k"}}"#, "unique"),
            (r#"{"kind":"a","list":{}}"#, "list"),
            (r#"{"kind":"a","":1}"#, "body"),
            (r#"{"kind":"a","list":[{"":1}]}"#, "list[0]"),
            (r#"["a",[]]"#, "body"),
            (r#"{"kind":"a","list":[[1,null]]}"#, "list[0]"),
            (r#"{"kind":"a","list":[{},{"base_ms":-1}]}"#, "list[1].base_ms"),
            (r#"{"kind":"a","list":[{"base_ms":1.5}]}"#, "list[0].base_ms"),
            (r#"{"kind":"a","list":[{},{"other":1}]}"#, "list[1].other"),
            (r#"{"kind":"a","list":[{},{"id":"x"}]}"#, "list[1].id"),
        ] {
            assert_eq!(refused(text).0, field, "{text}: {}", refused(text).1);
        }
        let (_, long) = refused(r#"{"kind":"a","list":[{},{},{}]}"#);
        assert!(long.starts_with("list: more than 2 are too many"), "{long}");
        let (_, id) = refused(r#"{"kind":"a","list":[{"id":"x"}]}"#);
        assert!(id.starts_with(r#"list[0].id: "x" is not a job id"#), "{id}");
        assert!(id.ends_with("at line 1 column 30"), "{id}");
    }

    #[test]
    fn json_is_taken_under_its_names_only() {
        let check = |media_type: &'static str| {
            let headers = [(header::CONTENT_TYPE, media_type.parse().unwrap())];
            check_media_type(&HeaderMap::from_iter(headers))
        };
        assert!(check_media_type(&HeaderMap::new()).is_ok());
        assert!(check("application/json").is_ok());
        assert!(check("Application/JSON; charset=utf-8").is_ok());
        assert!(check("application/vnd.acme+json").is_ok());
        assert!(check("text/plain").is_err());
        assert!(check("application/x-ndjson").is_err());
        assert!(check("").is_err());
    }

    /// A body of so many bytes that may keep its length to itself.
    async fn read(bytes: usize, says_its_length: bool) -> WholeBody {
        let body = Body::from(vec![b'x'; bytes]);
        let body = match says_its_length {
            true => body,
            false => Body::from_stream(body.into_data_stream()),
        };
        read_body(Request::new(body)).await.unwrap().1
    }

    #[tokio::test]
    async fn large_bodies_wait_for_room_and_small_ones_never_do() {
        let all = LARGE_BODIES.available_permits();
        let small = [read(SMALL_BODY_BYTES, true).await, read(1, false).await];
        assert_eq!(LARGE_BODIES.available_permits(), all, "small ones take none of it");
        let large = [read(1 << 20, true).await, read(1 << 20, false).await];
        assert_eq!(LARGE_BODIES.available_permits(), all - (2 << 20));
        let rest = LARGE_BODIES.acquire_many((all - (2 << 20)) as u32).await.unwrap();
        let mut waiting = std::pin::pin!(read(1 << 20, true));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
        });
        assert!(polled.await, "there was no room left");
        assert_eq!(read(10, true).await.bytes.len(), 10, "a small one goes by");
        drop((large, small));
        assert_eq!(waiting.await.bytes.len(), 1 << 20);
        drop(rest);
        assert_eq!(LARGE_BODIES.available_permits(), all);
    }
}
