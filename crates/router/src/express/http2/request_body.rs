//! The body of a request over HTTP/2, for the full path.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::request;
use super::session::{Inbound, Session};
use crate::express::recipient::Left;
use crate::request_body::RequestBodyError;

#[derive(Debug)]
pub(crate) struct StreamBody {
    session: Rc<RefCell<Session>>,
    id: u32,
    /// Its last byte was given on.
    ended: bool,
}

impl StreamBody {
    pub(super) const fn new(session: Rc<RefCell<Session>>, id: u32) -> Self {
        Self { session, id, ended: false }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = ready!(self.session.borrow_mut().poll_body(self.id, cx));
        Poll::Ready(match polled {
            Some(Ok(Inbound::Data(data))) => {
                let ended = self.session.borrow_mut().is_body_taken(self.id);
                self.ended = ended;
                Some(Ok(Frame::data(data)))
            }
            Some(Ok(Inbound::Trailers(list))) => {
                self.ended = true;
                request::header_map(&list, 0).ok().map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Some(Err(Left)) => Some(Err(RequestBodyError::Left)),
            None => {
                self.ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.session.borrow_mut().is_body_taken(self.id)
    }

    fn size_hint(&self) -> SizeHint {
        match self.session.borrow_mut().body_bytes_left(self.id) {
            _ if self.ended => SizeHint::with_exact(0),
            Some(bytes) => SizeHint::with_exact(bytes),
            None => SizeHint::default(),
        }
    }
}
