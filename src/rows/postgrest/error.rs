//! PostgREST's refusals as sentences: <https://docs.postgrest.org/en/v12/references/errors.html>.

use reqwest::StatusCode;
use serde::Deserialize;

use crate::rows::RowError;

/// The body of an error; the database's own SQLSTATE in `code`, or one of PostgREST's that begins
/// with `PGRST`.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    hint: Option<String>,
}

pub fn unreachable(name: &str, error: &reqwest::Error) -> RowError {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    let reason = causes.last().map(ToString::to_string).unwrap_or_default();
    if error.is_timeout() {
        return RowError::transient(format!("{name} does not answer in time"));
    }
    RowError::transient(format!("{name} cannot be reached: {reason}"))
}

/// Permanent are the errors that the same request will have tomorrow. A right that is missing is
/// missing for all rows, which wait for it; a policy may be about the row.
pub fn refused(name: &str, status: StatusCode, body: &str) -> RowError {
    let refusal: Refusal = serde_json::from_str(body).unwrap_or_default();
    let code = refusal.code.as_deref().unwrap_or("");
    let said = said(&refusal, status);
    let lacks_right = code == "42501" && !said.contains("row-level security");
    let advice = match (code, status.as_u16()) {
        ("42501", _) if said.contains("row-level security") => {
            "add policies that let this role insert, select, update and delete, or use the \
             service_role key"
        }
        ("42501", _) => "GRANT SELECT, INSERT, UPDATE, DELETE on the table to the role of the key",
        ("42P10", _) => "the table needs a unique key of the columns in docs/rows.md",
        ("PGRST205" | "42P01", _) => "create the table with the statement in docs/rows.md",
        ("PGRST204" | "42703", _) => "add the column, as docs/rows.md has it",
        ("PGRST301" | "PGRST303", _) => "the token is wrong or has run out; set a new one",
        (_, 401) => "set SUPABASE_KEY to the project's API key, or POSTGREST_TOKEN",
        (_, 413) => "let the proxy in front of it take bodies of 1 MiB",
        (_, 300..=399) => "write the URL that it names",
        _ => "",
    };
    let advice = match advice {
        "" => String::new(),
        advice => format!("; {advice}"),
    };
    RowError {
        permanent: status.is_client_error()
            && !matches!(status.as_u16(), 408 | 425 | 429)
            && !lacks_right,
        message: format!("{name} refuses rows: {said}{advice}"),
    }
}

fn said(refusal: &Refusal, status: StatusCode) -> String {
    let Some(message) = &refusal.message else {
        return status.to_string();
    };
    let more = [&refusal.details, &refusal.hint];
    let more: Vec<&str> = more.into_iter().flatten().map(String::as_str).collect();
    let one_line = |text: &str| text.replace(['\n', '\r'], " ");
    match more.is_empty() {
        true => one_line(message),
        false => one_line(&format!("{message} ({})", more.join("; "))),
    }
}
