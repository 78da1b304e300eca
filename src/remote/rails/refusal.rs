//! What an application says when it does not do what it is asked, as a kind for delivery and a sentence.

use serde_json::Value;

use crate::remote::http::{Answer, one_line};
use crate::remote::{RemoteError, RemoteErrorKind};

/// Of an answer to `what` ("storing original/a.mp3") that is no success, by the application `name`.
pub(super) fn refused(name: &str, what: &str, answer: &Answer) -> RemoteError {
    let status = answer.status.as_u16();
    let advice = match status {
        401 => {
            "; its token or login is not good (any more): renew OUTBOXFS_RAILS_TOKEN, or set \
                OUTBOXFS_RAILS_EMAIL and OUTBOXFS_RAILS_PASSWORD"
        }
        403 => "; this account may not do that: have it given the right, or use another",
        404 | 405 => {
            "; is there such a path? Active Storage's endpoint takes routes of its own, others are \
             set by upload=, record= and login= in the remote's URL"
        }
        413 => "; it takes no file of that size: keep the file out with --max-size",
        422 if is_forgery(answer) => {
            "; if that endpoint is protected against forgery (CSRF), let the application skip that for \
             requests with a token (skip_forgery_protection), or name another endpoint with upload="
        }
        _ => "",
    };
    let said = said(answer);
    let said = match said.as_str() {
        "" => format!("status {status}"),
        said => format!("status {status}: {said}"),
    };
    answer.refusal(format!("{what} was refused by {name} ({said}){advice}"))
}

/// Rails answers a request without the token of a form as it answers to exceptions: with a page, or with
/// the status and its name. An application that means something else says more.
pub(super) fn is_forgery(answer: &Answer) -> bool {
    let json = serde_json::from_slice::<Value>(&answer.body);
    let says_no_more = json.is_ok_and(|json| {
        let error = json.get("error").and_then(Value::as_str);
        json.get("status") == Some(&422.into())
            && error.is_some_and(|error| error.starts_with("Unprocessable"))
    });
    let is_page = answer.body.is_empty() || answer.body.starts_with(b"<");
    answer.status.as_u16() == 422
        && (is_page || says_no_more || answer.text().contains("InvalidAuthenticityToken"))
}

/// Whether it is about who we are, and not about the file.
pub(super) fn concerns_account(error: &Answer) -> bool {
    matches!(error.status.as_u16(), 401 | 403)
}

/// The application's words: of the members that Rails applications have for them.
pub(super) fn said(answer: &Answer) -> String {
    let Ok(json) = serde_json::from_slice::<Value>(&answer.body) else {
        // A page says it in too many words.
        return match answer.body.first() {
            None | Some(b'<') => String::new(),
            _ => answer.text(),
        };
    };
    let members = ["errors", "error", "message", "detail", "exception"];
    let mut texts = members.iter().filter_map(|name| json.get(name)).map(text);
    let said = texts.find(|text| !text.is_empty());
    one_line(&said.unwrap_or_default())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join("; "),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name} {}", text(value));
            members.iter().map(member).collect::<Vec<_>>().join("; ")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// An answer that is not as it has to be.
pub(super) fn without(name: &str, what: &str, member: impl std::fmt::Display) -> RemoteError {
    RemoteError::new(
        RemoteErrorKind::Permanent,
        format!(
            "{what} failed: the answer of {name} has no {member}; the remote's URL says where such \
             things are (docs/remotes.md)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: reqwest::StatusCode::from_u16(status).unwrap(),
            headers: reqwest::header::HeaderMap::default(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn the_applications_words_are_repeated() {
        for (body, words) in [
            (r#"{"error":"No such thing"}"#, "No such thing"),
            (
                r#"{"errors":["Title is blank","Too large"]}"#,
                "Title is blank; Too large",
            ),
            (
                r#"{"errors":{"audio":["is no music"]}}"#,
                "audio is no music",
            ),
            (
                r#"{"status":422,"error":"Unprocessable Entity"}"#,
                "Unprocessable Entity",
            ),
            ("plainly\nno", "plainly no"),
            ("<html>no</html>", ""),
            ("{}", ""),
        ] {
            assert_eq!(said(&answer(422, body)), words, "{body}");
        }
    }

    #[test]
    fn what_a_person_has_to_do_is_said() {
        for (status, body, kind, advice) in [
            (401, "", RemoteErrorKind::Permanent, "OUTBOXFS_RAILS_TOKEN"),
            (403, "", RemoteErrorKind::Permanent, "account"),
            (404, "", RemoteErrorKind::Permanent, "upload="),
            (413, "", RemoteErrorKind::Permanent, "--max-size"),
            (422, "<html>", RemoteErrorKind::Permanent, "CSRF"),
            (
                422,
                r#"{"status":422,"error":"Unprocessable Entity"}"#,
                RemoteErrorKind::Permanent,
                "CSRF",
            ),
            (
                422,
                r#"{"error":"x"}"#,
                RemoteErrorKind::Permanent,
                "(status 422: x)",
            ),
            (500, "<html>", RemoteErrorKind::Transient, "(status 500)"),
            (429, "", RemoteErrorKind::Transient, "(status 429)"),
        ] {
            let error = refused("rails+https://a", "storing x", &answer(status, body));
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(advice), "{error}");
        }
        let error = refused("a", "storing x", &answer(422, r#"{"errors":["no"]}"#));
        assert!(!error.message.contains("CSRF"), "{error}");
    }
}
