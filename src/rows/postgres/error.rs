//! What can go wrong with PostgreSQL, as sentences.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::rows::RowError;

pub enum Failure {
    /// The server could not be reached, or refused us.
    Connect(Error),
    /// No connection within that time.
    Unreachable(Duration),
    /// A connection, and no answer within that time.
    Silent(Duration),
    Statement(Error),
    /// Creating the table or adding a column failed.
    Change(Error),
    NoTable,
    NoKey(String),
    /// Definitions of the columns that are missing.
    NoColumns(Vec<String>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Statement(error)
    }
}

impl Failure {
    pub fn connection_was_closed(&self) -> bool {
        match self {
            Self::Statement(error) | Self::Change(error) => {
                let shutdown = [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::IDLE_SESSION_TIMEOUT,
                ];
                error.is_closed() || error.code().is_some_and(|code| shutdown.contains(code))
            }
            _ => false,
        }
    }

    /// `server` and `table` as people know them.
    pub fn explain(self, server: &str, table: &str, user: &str) -> RowError {
        match self {
            Self::Unreachable(waited) => RowError::transient(format!(
                "{server} does not answer within {} seconds",
                waited.as_secs()
            )),
            Self::Silent(waited) => RowError::transient(format!(
                "{server} did not finish writing rows within {} seconds",
                waited.as_secs()
            )),
            Self::NoTable => RowError::permanent(format!(
                "{server} has no table {table}; create it with the statement in docs/rows.md, or \
                 leave manage=no away"
            )),
            Self::NoKey(key) => RowError::permanent(format!(
                "the table {table} of {server} has no unique key ({key}), so rows cannot be replaced \
                 in it; add one, or choose another table with ?table=NAME"
            )),
            Self::NoColumns(columns) => RowError::permanent(format!(
                "the table {table} of {server} lacks columns: {}; add them, or leave manage=no away",
                columns.join(", ")
            )),
            Self::Connect(error) => match error.as_db_error() {
                Some(refusal) => refused(refusal, server, user),
                None => unreachable_or_misconfigured(&error, server),
            },
            Self::Change(error) => match error.as_db_error() {
                Some(refusal) if *refusal.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
                    RowError::permanent(format!(
                        "'{user}' may not create or change the table {table} of {server} ({}); let \
                         its owner do it with the statement in docs/rows.md",
                        refusal.message()
                    ))
                }
                _ => statement(&error, server, table, user),
            },
            Self::Statement(error) => statement(&error, server, table, user),
        }
    }
}

fn refused(refusal: &DbError, server: &str, user: &str) -> RowError {
    let (permanent, advice) = match *refusal.code() {
        SqlState::INVALID_PASSWORD => (true, "; set PGPASSWORD to the right password"),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            (true, "; see which users and hosts pg_hba.conf lets in")
        }
        SqlState::INVALID_CATALOG_NAME => (true, "; create the database or name another"),
        _ => (false, ""),
    };
    RowError {
        permanent,
        message: format!("{server} refuses '{user}': {}{advice}", refusal.message()),
    }
}

fn unreachable_or_misconfigured(error: &Error, server: &str) -> RowError {
    let reason = innermost(error);
    let certificate = chain(error).any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        let inner = io.and_then(|io| io.get_ref());
        inner.is_some_and(|inner| {
            matches!(
                inner.downcast_ref::<rustls::Error>(),
                Some(rustls::Error::InvalidCertificate(_))
            )
        })
    });
    if certificate {
        return RowError::permanent(format!(
            "the certificate of {server} cannot be verified ({reason}); name the authority that \
             issued it with sslrootcert=/path/ca.crt"
        ));
    }
    // The client's own complaints (no password, TLS not offered) have no kind that can be asked.
    let text = error.to_string();
    let hint = if text.contains("configuration") && reason.contains("password missing") {
        "; set PGPASSWORD"
    } else if reason.contains("does not support TLS") {
        "; sslmode=disable sends rows unprotected, if that is wanted"
    } else {
        return RowError::transient(format!("{server} cannot be reached: {reason}"));
    };
    RowError::permanent(format!("cannot log in to {server}: {reason}{hint}"))
}

fn statement(error: &Error, server: &str, table: &str, user: &str) -> RowError {
    let Some(refusal) = error.as_db_error() else {
        return RowError::transient(format!(
            "the connection to {server} broke while rows were written: {}",
            innermost(error)
        ));
    };
    let message = refusal.message();
    if *refusal.code() == SqlState::INSUFFICIENT_PRIVILEGE {
        // A policy may be about the row; a right that is missing is missing for all of them.
        let (permanent, advice) = match message.contains("row-level security") {
            true => (
                true,
                "add policies that let this role insert, select, update and delete",
            ),
            false => (
                false,
                "its owner can GRANT SELECT, INSERT, UPDATE, DELETE on it",
            ),
        };
        return RowError {
            permanent,
            message: format!(
                "'{user}' may not write rows into {table} of {server}: {message}; {advice}"
            ),
        };
    }
    let detail = refusal.detail().map(|detail| format!(" ({detail})"));
    RowError {
        permanent: is_permanent(refusal.code()),
        message: format!(
            "{server} did not take rows into {table}: {message}{}",
            detail.unwrap_or_default()
        ),
    }
}

/// By the classes of Appendix A of PostgreSQL's manual: data exceptions, constraint violations,
/// wrong syntax or names, and what the server does not support stay wrong when tried again.
fn is_permanent(code: &SqlState) -> bool {
    let permanent = ["0A", "22", "23", "3D", "3F", "42", "44"];
    permanent.iter().any(|class| code.code().starts_with(class))
}

type Cause<'a> = &'a (dyn std::error::Error + 'static);

fn chain<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |cause| (*cause).source())
}

fn innermost(error: &Error) -> String {
    match error.source() {
        Some(source) => chain(source).last().unwrap_or(source).to_string(),
        None => error.to_string(),
    }
}
