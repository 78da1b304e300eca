/// What became of a row or a deletion.
#[derive(Debug, Clone)]
pub enum Outcome {
    Done,
    /// Failed for now; due again at this time (milliseconds since 1970-01-01 UTC).
    Retry {
        error: String,
        due: i64,
    },
    /// Failed for good: until its folder changes, or somebody asks for it.
    Failed {
        error: String,
    },
    /// Not attempted, because something has changed or the daemon ends; due at this time.
    Released {
        due: i64,
    },
}
