//! Metrics: the scrape, and the one layer that measures requests.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::error::Problem;
use super::openapi::NotReady;
use crate::metrics::WorkerGauges;
use crate::worker::push::BreakerState;

/// Scrape the metrics.
///
/// In the text format of Prometheus.
#[utoipa::path(
    get, path = "/q/metrics", operation_id = "metrics", tag = "node",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        NotReady,
    ),
)]
pub(super) async fn show(State(api): State<ApiState>) -> Result<Response, Problem> {
    let queue = api.queue()?;
    let worker = api.worker().map(|worker| WorkerGauges {
        running: worker.running,
        concurrency: worker.concurrency,
        targets: (worker.targets.into_iter())
            .map(|target| (target.name, target.state != BreakerState::Closed))
            .collect(),
    });
    let snapshot = queue.snapshot().await?;
    let text = queue.metrics().encode_with_worker(&snapshot, worker.as_ref())?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// Measures each request from its head to its answer.
#[expect(clippy::disallowed_methods, reason = "measures a duration, decides nothing by it")]
pub(super) async fn measure(State(api): State<ApiState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if let Some(metrics) = api.metrics() {
        let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
        let seconds = started.elapsed().as_secs_f64();
        metrics.http_request(route, method.as_str(), response.status().as_str(), seconds);
    }
    response
}
