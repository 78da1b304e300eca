//! What went wrong between us and an S3 service, as a kind for delivery and a sentence for people.

use std::error::Error;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::address::Address;
use crate::remote::{RemoteError, RemoteErrorKind};

/// What a call of the SDK fails with.
pub(super) type SdkFailure<E> = SdkError<E, HttpResponse>;

/// Turns the SDK's error about `what` ("storing original/a.jpg") into ours.
pub(super) fn explain<E>(address: &Address, what: &str, error: &SdkFailure<E>) -> RemoteError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(credentials) = cause::<CredentialsError>(error) {
        return no_credentials(address, what, credentials);
    }
    match error.raw_response() {
        Some(response) => Refusal::of(error, response).explain(address, what),
        None => no_answer(address, what, error),
    }
}

/// The request was not answered for as long as we wait.
pub(super) fn stalled(address: &Address, what: &str, waited: Duration) -> RemoteError {
    RemoteError::transient(format!(
        "{what} stalled: {} took no byte and gave no answer for {} s; it will be tried again",
        address.service(),
        waited.as_secs()
    ))
}

fn no_credentials(address: &Address, what: &str, error: &CredentialsError) -> RemoteError {
    let kind = match error {
        CredentialsError::ProviderTimedOut(_) => RemoteErrorKind::Transient,
        // SSO, STS or a metadata service out of reach is a matter of the line.
        _ if never_connected(error) => RemoteErrorKind::Unreachable,
        _ => RemoteErrorKind::Permanent,
    };
    let advice = match &address.profile {
        Some(profile) => format!(
            "see that the profile '{profile}' is in ~/.aws/config or ~/.aws/credentials and works \
             (aws sts get-caller-identity --profile '{profile}')"
        ),
        None => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of \
                 ~/.aws/credentials with profile=NAME"
            .to_owned(),
    };
    let why = root_cause(error);
    RemoteError::new(
        kind,
        format!("{what} needs credentials for {address}, and none were found ({why}); {advice}"),
    )
}

fn no_answer<E>(address: &Address, what: &str, error: &SdkError<E, HttpResponse>) -> RemoteError
where
    E: Error + 'static,
{
    let why = root_cause(error);
    let service = address.service();
    match error {
        SdkError::ConstructionFailure(_) => {
            RemoteError::permanent(format!("{what} is not possible: {why}"))
        }
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            RemoteError::transient(format!("{what} was broken off on our side: {why}"))
        }
        // No timeout but that of connecting is set in the SDK.
        SdkError::DispatchFailure(failure) if failure.is_timeout() || never_connected(error) => {
            let hint = match &why {
                // What rustls says to an answer in plain text.
                why if why.contains("InvalidContentType") => {
                    "; does it speak http:// rather than https://?"
                }
                why if why.contains("UnknownIssuer") => {
                    "; --ca-file names a certificate to trust beside the system's"
                }
                _ => "",
            };
            RemoteError::unreachable(format!(
                "{service} cannot be reached ({why}){hint}; {what} waits until it can"
            ))
        }
        _ => RemoteError::transient(format!(
            "{what} failed: the connection to {service} broke ({why})"
        )),
    }
}

fn never_connected(error: &(dyn Error + 'static)) -> bool {
    cause::<hyper_util::client::legacy::Error>(error).is_some_and(|error| error.is_connect())
}

/// An answer that is not a success.
pub(super) struct Refusal {
    status: u16,
    /// S3's error code, empty if the answer has none (a proxy's page, for one).
    code: String,
    message: String,
    retry_after: Option<Duration>,
    /// The region that the bucket is in, where S3 says so.
    region: Option<String>,
}

impl Refusal {
    /// Of one object among many, which has no answer of its own.
    pub(super) fn of_one(code: &str, message: &str) -> Self {
        Self {
            status: match code {
                "AccessDenied" => 403,
                _ => 500,
            },
            code: code.to_owned(),
            message: one_line(message),
            retry_after: None,
            region: None,
        }
    }

    fn of<E>(error: &SdkError<E, HttpResponse>, response: &HttpResponse) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let metadata = error.as_service_error().map(ProvideErrorMetadata::meta);
        let message = metadata.and_then(|m| m.message()).map(str::to_owned);
        Self {
            status: response.status().as_u16(),
            code: metadata
                .and_then(|m| m.code())
                .unwrap_or_default()
                .to_owned(),
            message: message.map_or_else(|| root_cause(error), |message| one_line(&message)),
            retry_after: response.headers().get("retry-after").and_then(retry_after),
            region: response
                .headers()
                .get("x-amz-bucket-region")
                .map(str::to_owned),
        }
    }

    pub(super) fn explain(self, address: &Address, what: &str) -> RemoteError {
        let service = address.service();
        let (kind, advice) = self.verdict(address);
        let throttled = matches!(self.status, 429 | 503)
            || matches!(
                self.code.as_str(),
                "SlowDown" | "TooManyRequests" | "Throttling" | "ThrottlingException"
            );
        let code = match self.code.as_str() {
            "" => format!("HTTP {}", self.status),
            code => format!("{code}, HTTP {}", self.status),
        };
        RemoteError {
            kind,
            message: format!(
                "{what} was refused by {service} ({code}: {}){advice}",
                self.message
            ),
            retry_after: self.retry_after,
            throttled,
        }
    }

    /// Whether it may go away by itself, and what a person can do about it.
    fn verdict(&self, address: &Address) -> (RemoteErrorKind, String) {
        use RemoteErrorKind::{Permanent, Transient, Unreachable};
        let bucket = &address.bucket;
        match self.code.as_str() {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity"
            | "NotSignedUp" => {
                let advice = "; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile";
                (Permanent, advice.to_owned())
            }
            // No file's fault: all wait until the chain has renewed them, or somebody else.
            "ExpiredToken" | "TokenRefreshRequired" => {
                let advice = "; the credentials have expired: renew them (aws sso login, a new token)";
                (Unreachable, advice.to_owned())
            }
            // From the answer the SDK knows the service's clock, and signs by that from now on.
            "RequestTimeTooSkewed" => (Transient, "; set this machine's clock".to_owned()),
            "NoSuchBucket" => (
                Permanent,
                format!("; create the bucket '{bucket}' or correct its name"),
            ),
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                let region = self.region.as_deref().unwrap_or("the bucket's own");
                (Permanent, format!("; set region={region} in the s3: URL"))
            }
            "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => (
                Transient,
                "; the service is full or its quota is used up: make room there".to_owned(),
            ),
            "EntityTooLarge" | "MaxMessageLengthExceeded" => (
                Permanent,
                "; the service takes no object of that size: keep the file out, or split it".to_owned(),
            ),
            "KeyTooLongError" | "InvalidObjectName" | "XMinioInvalidObjectName" | "InvalidURI" => (
                Permanent,
                "; the service does not take that name: rename the file".to_owned(),
            ),
            "SlowDown"
            | "RequestTimeout"
            | "InternalError"
            | "ServiceUnavailable"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            // The bytes arrived damaged, or parts got lost: the next attempt sends all anew.
            | "BadDigest"
            | "InvalidDigest"
            | "XAmzContentChecksumMismatch"
            | "XAmzContentSHA256Mismatch"
            | "IncompleteBody"
            | "InvalidPart"
            | "InvalidPartOrder"
            | "NoSuchUpload" => (Transient, String::new()),
            _ => self.verdict_by_status(bucket),
        }
    }

    fn verdict_by_status(&self, bucket: &str) -> (RemoteErrorKind, String) {
        match self.status {
            401 | 403 => (
                RemoteErrorKind::Permanent,
                format!(
                    "; these credentials may not do that in the bucket '{bucket}': grant \
                     s3:PutObject and s3:AbortMultipartUpload (for --sync-deletes s3:DeleteObject), or \
                     use others"
                ),
            ),
            301 | 307 | 308 => {
                let region = self.region.as_deref().unwrap_or("the bucket's own");
                let advice = format!("; set region={region} in the s3: URL");
                (RemoteErrorKind::Permanent, advice)
            }
            408 | 409 | 425 | 429 => (RemoteErrorKind::Transient, String::new()),
            400..=499 | 501 => (
                RemoteErrorKind::Permanent,
                self.provider_advice().to_owned(),
            ),
            _ => (RemoteErrorKind::Transient, String::new()),
        }
    }

    /// Services that do not know the checksum's header name it.
    fn provider_advice(&self) -> &'static str {
        if self.message.to_ascii_lowercase().contains("x-amz-checksum") {
            "; this service needs its provider= in the s3: URL (ceph, if it is none of the known)"
        } else {
            ""
        }
    }
}

/// Seconds or a date, RFC 9110 section 10.2.3.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::from_str(value.trim(), Format::HttpDate).ok()?;
    let at = SystemTime::try_from(at).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// The innermost cause: the SDK's outer ones say only "dispatch failure".
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let innermost = chain(error).last();
    innermost.map_or(String::new(), |error| one_line(&error.to_string()))
}

/// What others say, fit for the middle of a sentence: its first line, in bounds.
fn one_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let line = line.trim_end_matches(". Attempted:").trim_end_matches('.');
    line.chars().take(300).collect()
}

/// The error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Environment;

    fn refusal(status: u16, code: &str) -> RemoteError {
        let address = url::Url::parse("s3://bucket/p").unwrap();
        let address = Address::parse(&address, &Environment::process()).unwrap();
        Refusal {
            status,
            code: code.to_owned(),
            message: "as the service says it".to_owned(),
            retry_after: None,
            region: None,
        }
        .explain(&address, "storing original/a.jpg")
    }

    #[test]
    fn what_only_a_person_can_mend_is_permanent_and_says_how() {
        for (status, code, advice) in [
            (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            (403, "AccessDenied", "s3:PutObject"),
            (404, "NoSuchBucket", "create the bucket 'bucket'"),
            (301, "PermanentRedirect", "region="),
            (400, "KeyTooLongError", "rename the file"),
            (400, "EntityTooLarge", "split it"),
            (501, "NotImplemented", "original/a.jpg"),
        ] {
            let error = refusal(status, code);
            assert_eq!(error.kind, RemoteErrorKind::Permanent, "{code}");
            assert!(error.message.contains(advice), "{}", error.message);
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (status, code) in [
            (503, "SlowDown"),
            (500, "InternalError"),
            (502, ""),
            (429, ""),
            (400, "RequestTimeout"),
            (400, "BadDigest"),
            (404, "NoSuchUpload"),
        ] {
            assert_eq!(refusal(status, code).kind, RemoteErrorKind::Transient);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        let past = retry_after("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT") > Some(Duration::from_secs(3600)));
        assert_eq!(retry_after("soon"), None);
    }
}
