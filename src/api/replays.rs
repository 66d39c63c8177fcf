//! Replays of many dead letters: at once, or in the background at a steady rate.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::body::{JsonBody, path_part};
use super::dead::{choice, ids_at_most};
use super::error::Problem;
use super::openapi::{BadBody, BadCall, Conflict, DiskFull, NotFound, NotReady};
use crate::clock::Timestamp;
use crate::dead_letter::DeadReason;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::queue::{DeadFilter, ReplayMany, ReplayState, ReplayView};

/// Put many dead letters back to work.
///
/// All that are meant and are dead now; `{}` means all there are. Without `rate_per_s` it is done
/// when it is answered. With it, a replay goes on in the background at that rate, over restarts.
/// The call goes on to its end even if the connection breaks.
#[utoipa::path(
    post, path = "/v1/dead/replay", operation_id = "replay_many", tag = "dead",
    request_body = ReplayManyRequest,
    responses(
        (status = 200, description = "They are ready again.", body = ReplayedReply<'_>),
        (status = 202, description = "A replay goes on in the background.",
            body = ReplayedReply<'_>),
        BadBody, Conflict, DiskFull, NotReady,
    ),
)]
pub(super) async fn replay_many(
    State(api): State<ApiState>,
    body: JsonBody,
) -> Result<Response, Problem> {
    let request = body.parse_said::<ReplayManyRequest>()?.into_request()?;
    let told = api.queue()?.replay_many(request).await?;
    let status = if told.replay.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK };
    let reply = ReplayedReply {
        matched: told.matched,
        replayed: told.replayed,
        skipped: told.skipped,
        replay: told.replay.as_ref().map(ReplayReply::from),
    };
    Ok((status, Json(reply)).into_response())
}

/// List background replays.
///
/// Those that run and the last that ended, 100 in all, the newest first.
#[utoipa::path(
    get, path = "/v1/replays", operation_id = "replays", tag = "dead",
    responses((status = 200, description = "The replays.", body = ReplaysReply<'_>), NotReady),
)]
pub(super) async fn list(State(api): State<ApiState>) -> Result<Response, Problem> {
    let replays = api.queue()?.replays().await?;
    let replays = replays.iter().map(ReplayReply::from).collect();
    Ok(Json(ReplaysReply { replays }).into_response())
}

/// Look at a background replay.
///
/// How far it is, and how many of its jobs have died again.
#[utoipa::path(
    get, path = "/v1/replays/{id}", operation_id = "replay_status", tag = "dead",
    params(PathReplay),
    responses(
        (status = 200, description = "The replay.", body = ReplayReply<'_>),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    PathReplay(id): PathReplay,
) -> Result<Response, Problem> {
    let replay = api.queue()?.replay_status(id).await?;
    Ok(Json(ReplayReply::from(&replay)).into_response())
}

/// Stop a background replay.
///
/// What it has put back to work stays so. One that has ended stays as it is.
#[utoipa::path(
    delete, path = "/v1/replays/{id}", operation_id = "cancel_replay", tag = "dead",
    params(PathReplay),
    responses(
        (status = 200, description = "The replay, ended.", body = ReplayReply<'_>),
        BadCall, NotFound, NotReady,
    ),
)]
pub(super) async fn cancel(
    State(api): State<ApiState>,
    PathReplay(id): PathReplay,
) -> Result<Response, Problem> {
    let replay = api.queue()?.cancel_replay(id).await?;
    Ok(Json(ReplayReply::from(&replay)).into_response())
}

/// The number of a replay.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct PathReplay(u64);

impl<S: Send + Sync> FromRequestParts<S> for PathReplay {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_part("id", parts, state).await?;
        let id = text
            .parse()
            .map_err(|_| Error::invalid("id", format!("{text:?} is not the number of a replay")))?;
        Ok(PathReplay(id))
    }
}

/// Which dead letters to put back to work: by `ids`, or by a filter; all when nothing is named.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "queue": "mails", "error": "connection refused", "rate_per_s": 5, "max_error_share": 0.2
})))]
struct ReplayManyRequest {
    /// These. Those that are not dead letters are passed over. Not together with a filter.
    #[serde(default, deserialize_with = "ids_at_most")]
    #[schema(value_type = Option<Vec<JobId>>, min_items = 1, max_items = 1000)]
    ids: Option<Vec<JobId>>,
    /// Of this queue only.
    #[schema(min_length = 1, max_length = 128)]
    queue: Option<String>,
    /// Of this kind only.
    #[schema(min_length = 1, max_length = 128)]
    kind: Option<String>,
    /// Those that died of this.
    reason: Option<DeadReason>,
    /// Those whose last error has this in its text.
    #[schema(min_length = 1, max_length = 1024)]
    error: Option<String>,
    /// Put back so many at most, the oldest of each queue first.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    limit: Option<u64>,
    /// Put back so many a second, in the background.
    #[schema(minimum = 0.001, maximum = 10_000)]
    rate_per_s: Option<f64>,
    /// Stop by itself when more than this share of those put back has died again; needs
    /// `rate_per_s`.
    #[schema(minimum = 0, maximum = 1)]
    max_error_share: Option<f64>,
    /// Only count them.
    #[serde(default)]
    dry_run: bool,
}

impl ReplayManyRequest {
    fn into_request(self) -> Result<ReplayMany> {
        let ReplayManyRequest { queue, kind, reason, error, .. } = self;
        Ok(ReplayMany {
            choice: choice(self.ids, DeadFilter { queue, kind, reason, error })?,
            limit: self.limit,
            rate_per_s: self.rate_per_s,
            max_error_share: self.max_error_share,
            dry_run: self.dry_run,
        })
    }
}

/// What a replay of many did.
#[derive(Serialize, ToSchema)]
#[schema(as = ManyReplayed)]
struct ReplayedReply<'a> {
    /// Dead letters that are meant, up to the limit.
    matched: u64,
    /// Those put back to work.
    replayed: u64,
    /// Those left dead because something stood in their way, a unique key in use for one.
    skipped: u64,
    /// What goes on in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replay: Option<ReplayReply<'a>>,
}

/// The background replays that are kept.
#[derive(Serialize, ToSchema)]
#[schema(as = Replays)]
struct ReplaysReply<'a> {
    /// The replays, the newest first.
    replays: Vec<ReplayReply<'a>>,
}

/// A background replay.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
struct ReplayReply<'a> {
    /// Its number.
    id: u64,
    /// Whether it runs, and if not, how it ended.
    state: ReplayState,
    /// Of this queue only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    queue: Option<&'a str>,
    /// Of this kind only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    kind: Option<&'a str>,
    /// Those that died of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<DeadReason>,
    /// Those whose last error has this in its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<&'a str>,
    /// So many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    limit: Option<u64>,
    /// So many a second.
    rate_per_s: f64,
    /// It stops when more than this share of those put back has died again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_error_share: Option<f64>,
    /// Dead letters that were meant when it began, up to the limit.
    matched: u64,
    /// Those put back to work so far.
    replayed: u64,
    /// Those left dead because something stood in their way.
    skipped: u64,
    /// Jobs it put back that have died again; counted on after its end.
    died_again: u64,
    /// When it began.
    started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ended_at: Option<Timestamp>,
}

impl<'a> From<&'a ReplayView> for ReplayReply<'a> {
    fn from(replay: &'a ReplayView) -> Self {
        let (filter, counts) = (&replay.filter, replay.counts);
        ReplayReply {
            id: replay.id,
            state: replay.state,
            queue: filter.queue.as_deref(),
            kind: filter.kind.as_deref(),
            reason: filter.reason,
            error: filter.error.as_deref(),
            limit: replay.limit,
            rate_per_s: replay.rate_per_s,
            max_error_share: replay.max_error_share,
            matched: counts.matched,
            replayed: counts.replayed,
            skipped: counts.skipped,
            died_again: counts.died_again,
            started_at: replay.started_at,
            ended_at: replay.ended_at,
        }
    }
}
