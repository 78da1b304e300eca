//! Answers without end: a service that is broken or hostile must not fill our memory. The SDK reads
//! every answer but a file's to its end before it looks at it.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};

/// The longest answer that is read whole, bytes. Listings are the longest: 1,000 keys of 1,024 bytes.
const LONGEST_ANSWER: u64 = 8 << 20;
/// How the SDK marks requests for files.
const OF_FILE: &str = "x-id=GetObject";

/// Ends answers that are too long with an error.
#[derive(Debug)]
pub(super) struct Bounded;

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_file = context.request().uri().contains(OF_FILE);
        let response = context.response_mut();
        // Files are written as they come.
        if !(is_file && response.status().is_success()) {
            let body = response.take_body();
            let left = LONGEST_ANSWER;
            *response.body_mut() = SdkBody::from_body_1_x(Limited { body, left });
        }
        Ok(())
    }
}

struct Limited {
    body: SdkBody,
    /// Bytes that may still come.
    left: u64,
}

impl Body for Limited {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(pin!(&mut self.body).poll_frame(context));
        let length = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            _ => 0,
        };
        match self.left.checked_sub(length as u64) {
            Some(left) => self.left = left,
            None => {
                let why = format!("it answered with more than {LONGEST_ANSWER} bytes");
                return Poll::Ready(Some(Err(why.into())));
            }
        }
        Poll::Ready(frame)
    }
}
