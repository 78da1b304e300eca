//! A damaged journal is kept aside under a dated name, and a new one takes its place: the scan fills
//! it, and what the remote has is not sent again.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::JournalError;
use super::store::APPLICATION_ID;

/// How long a journal is looked at when it is opened. Small ones are looked at as a whole; damage
/// that is missed shows when it is met, and is noted for the next start.
const LOOK: Duration = Duration::from_millis(200);
/// Instructions of SQLite between two looks at the clock.
const STEP: i32 = 10_000;

/// Whether the error says that the database is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// The file whose presence says that damage was met.
fn note(journal: &Path) -> PathBuf {
    journal.with_extension("damaged")
}

/// Notes for the next start that the journal is damaged.
pub(super) fn note_damage(journal: &Path, error: &JournalError) {
    if let JournalError::Damaged(reason) = error
        && let Err(error) = crate::private::write(&note(journal), reason)
    {
        tracing::error!(%error, "that the journal is damaged could not be noted");
    }
}

/// Looks whether the database is whole, for a moment.
pub(super) fn look(conn: &mut Connection, journal: &Path) -> Result<(), JournalError> {
    if let Ok(reason) = std::fs::read_to_string(note(journal)) {
        return Err(JournalError::Damaged(reason));
    }
    let began = Instant::now();
    conn.progress_handler(STEP, Some(move || began.elapsed() > LOOK))?;
    let found = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(damage) => Err(JournalError::Damaged(damage.replace('\n', " "))),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a damaged file was a journal: it says so still, or its beginning is lost. Anything else
/// may have been named by mistake, and is left where it is.
pub(super) fn was_journal(file: &Path) -> bool {
    let mut head = [0; 100];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut head));
    // https://sqlite.org/fileformat.html §1.3: "application ID".
    read.is_ok() && (head[68..72] == APPLICATION_ID.to_be_bytes()[4..] || head == [0; 100])
}

/// Moves the journal out of the way; returns where it is now.
pub(super) fn keep_aside(journal: &Path) -> std::io::Result<PathBuf> {
    let now = jiff::Zoned::now().strftime("%Y-%m-%dT%H-%M-%S").to_string();
    let aside = |number: u32| {
        let number = match number {
            0 => String::new(),
            number => format!("-{number}"),
        };
        journal.with_extension(format!("damaged-{now}{number}.db"))
    };
    // A second one in the same second.
    let kept = (0..).map(aside).find(|path| !path.exists());
    let kept = kept.unwrap_or_else(|| aside(0));
    // The write-ahead log belongs to it; the index of it does not outlive its users.
    let with = |path: &Path, suffix: &str| {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    match std::fs::rename(with(journal, "-wal"), with(&kept, "-wal")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(journal, &kept)?;
    for gone in [with(journal, "-shm"), note(journal)] {
        match std::fs::remove_file(gone) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(kept)
}
