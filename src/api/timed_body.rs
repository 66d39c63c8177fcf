//! A request's body that must be complete in time, whoever reads it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A body that ends with a [`BodyTimeout`] when it is not complete in time. The time counts from
/// the first wait for more of it: most bodies come with their head, and need no timer.
pub(crate) struct TimedBody<B> {
    inner: B,
    timeout_ms: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

/// The body was not complete in time.
#[derive(Debug, thiserror::Error)]
#[error("the body was not complete after {timeout_ms} ms")]
pub(super) struct BodyTimeout {
    pub(super) timeout_ms: u64,
}

impl<B> TimedBody<B> {
    pub(crate) fn new(inner: B, timeout_ms: u64) -> Self {
        TimedBody { inner, timeout_ms, timer: None }
    }
}

impl<B> HttpBody for TimedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut body.inner).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout_ms = body.timeout_ms;
        let timer = body.timer.get_or_insert_with(|| {
            Box::pin(sleep_until(Instant::now() + Duration::from_millis(timeout_ms)))
        });
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(BodyTimeout { timeout_ms }.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
