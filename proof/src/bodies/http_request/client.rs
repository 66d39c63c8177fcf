//! The client's end of a connection: sends bytes, and reads what comes without looking at it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

pub(super) struct Client<'a> {
    stream: DuplexStream,
    left: &'a [u8],
    /// It sends nothing more.
    pub(super) has_ended: bool,
}

impl<'a> Client<'a> {
    pub(super) fn new(stream: DuplexStream, left: &'a [u8]) -> Self {
        Client { stream, left, has_ended: false }
    }

    /// Writes and reads what there is; true when something went either way.
    pub(super) fn go_on(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut stream = Pin::new(&mut self.stream);
        while !self.left.is_empty() {
            match stream.as_mut().poll_write(context, self.left) {
                Poll::Ready(Ok(written)) => (self.left, moved) = (&self.left[written..], true),
                // The node has closed its end.
                Poll::Ready(Err(_)) => self.left = &[],
                Poll::Pending => break,
            }
        }
        let mut room = [0; 4096];
        loop {
            let mut read = ReadBuf::new(&mut room);
            match stream.as_mut().poll_read(context, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => moved = true,
                _ => return moved,
            }
        }
    }

    /// Sends nothing more.
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        (self.left, self.has_ended) = (&[], true);
        let _ = Pin::new(&mut self.stream).poll_shutdown(context);
    }
}
