//! Brings what the journal holds to the remote and the row sink.
