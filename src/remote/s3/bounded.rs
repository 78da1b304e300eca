//! Answers without end: a service that is broken or hostile must not fill our memory. The SDK reads
//! every answer but a file's to its end before it looks at it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use bytes::Bytes;
use http_body::{Body, Frame};

/// The longest answer that is read whole, bytes. Listings are the longest: 1,000 keys of 1,024 bytes.
const LONGEST_ANSWER: u64 = 8 << 20;
/// How the SDK marks requests for files.
const OF_FILE: &str = "x-id=GetObject";

/// Whether a file was asked for; the request is gone when its answer comes.
#[derive(Debug)]
struct IsFile(bool);

impl Storable for IsFile {
    type Storer = StoreReplace<Self>;
}

/// Ends answers that are too long with an error.
#[derive(Debug)]
pub(super) struct Bounded;

impl Intercept for Bounded {
    fn name(&self) -> &'static str {
        "Bounded"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_file = IsFile(context.request().uri().contains(OF_FILE));
        settings.interceptor_state().store_put(is_file);
        Ok(())
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_file = settings.load::<IsFile>().is_some_and(|is_file| is_file.0);
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
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
