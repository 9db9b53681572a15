//! A request on its way in, and an answer on its way out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::{Call, Held, Place};

/// A request whose bytes are counted: they are in memory until its call is over.
#[derive(Debug)]
pub(super) struct Weighed {
    pub(super) body: Body,
    /// The call's, which gives it back.
    pub(super) weight: Arc<Mutex<Place>>,
}

impl HttpBody for Weighed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let mut weight = self.weight.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(full) = weight.grow(data.len()) {
                return Poll::Ready(Some(Err(Status::resource_exhausted(full.to_string()))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer that holds its call's place until it is sent, or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) body: Body,
    pub(super) call: Call,
    /// Until then.
    pub(super) _held: (Held, Arc<Mutex<Place>>),
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && let Some(code) = super::code(trailers)
        {
            self.call.over(code, &super::message(trailers));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
