//! Lines of `.upload/failed`, `.upload/suspect` and `.upload/batches`.

use super::human::one_line;
use super::{Batch, Failure};

/// `path<TAB>artifact<TAB>attempts<TAB>error<NEWLINE>`. Control characters in path and error are
/// escaped, so a line has always four fields.
pub fn line(failure: &Failure) -> String {
    format!(
        "{}\t{}\t{}\t{}\n",
        one_line(&failure.path),
        failure.artifact,
        failure.attempts,
        one_line(&failure.error)
    )
}

/// `path<TAB>why<NEWLINE>`, escaped likewise.
pub fn suspect_line(suspect: &Failure) -> String {
    format!(
        "{}\t{}\n",
        one_line(&suspect.path),
        one_line(&suspect.error)
    )
}

/// `id<TAB>began<TAB>ended<TAB>folders<TAB>successful<TAB>failed<NEWLINE>`; times are RFC 3339 in UTC.
pub fn batch_line(batch: &Batch) -> String {
    let time = |at: i64| {
        let time = jiff::Timestamp::from_millisecond(at);
        time.map_or_else(|_| String::new(), |time| format!("{time:.3}"))
    };
    format!(
        "{}\t{}\t{}\t{}\t{}\t{}\n",
        batch.id,
        time(batch.started_at),
        time(batch.ended_at),
        batch.total_folders,
        batch.successful_uploads,
        batch.failed_uploads
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_four_fields_whatever_the_name_is() {
        let failure = Failure {
            path: "a\tb\nc".into(),
            artifact: "thumbnail".into(),
            error: "two\nlines".into(),
            attempts: 3,
            at: 0,
            will_retry: false,
        };
        assert_eq!(line(&failure), "a\\tb\\nc\tthumbnail\t3\ttwo\\nlines\n");
    }
}
