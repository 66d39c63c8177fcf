//! A connection's socket. It tells the [`Connection`] what happens on it, and reads on for a
//! while after the last answer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::Connection;

/// How much is read and thrown away after the last answer, in bytes.
const DISCARDED_BYTES_MAX: usize = 4 << 20;

/// A socket; one that is only told that it has no place has no connection.
pub(super) struct Socket {
    stream: TcpStream,
    connection: Option<Arc<Connection>>,
    discarded_bytes: usize,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Option<Arc<Connection>>) -> Self {
        // An answer is one small segment: waiting to fill it up only makes it late.
        if let Err(reason) = stream.set_nodelay(true) {
            tracing::debug!(%reason, "TCP_NODELAY was refused");
        }
        Socket { stream, connection, discarded_bytes: 0 }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Pending, Some(connection)) = (&written, &self.connection) {
            connection.blocked();
        }
        written
    }

    /// Reads what still comes, until the client closes too.
    fn discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        while self.discarded_bytes < DISCARDED_BYTES_MAX {
            let mut read = ReadBuf::new(&mut space);
            // A broken connection is a closed one.
            let done = ready!(Pin::new(&mut self.stream).poll_read(context, &mut read)).is_err();
            if done || read.filled().is_empty() {
                break;
            }
            self.discarded_bytes += read.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(connection) = &self.connection
            && buffer.filled().len() > before
        {
            connection.received();
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if let (Poll::Ready(Ok(())), Some(connection)) = (&flushed, &self.connection) {
            connection.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        if self.connection.as_ref().is_some_and(|connection| !connection.lingers()) {
            return Poll::Ready(Ok(()));
        }
        self.discard(context)
    }
}
