//! `.upload/failed`: one line a failure; and `.upload/suspect`: one line a suspect file.

use super::Failure;
use super::human::one_line;
use crate::journal::Suspect;

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
pub fn suspect_line(suspect: &Suspect) -> String {
    format!(
        "{}\t{}\n",
        one_line(&suspect.path.to_string()),
        one_line(&suspect.why)
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
