//! outboxfs: a FUSE filesystem that syncs on write. The data path is one way:
//!
//! ```text
//! write(2) ──kernel passthrough──▶ backing file        bytes never visit the daemon
//! close(2) ──FLUSH──▶ mount ──change──▶ journal        close returns once the journal has it
//!                                         │ claim
//!                                         ▼
//!                                     delivery ──▶ derive   thumbnail, stats.json → row
//!                                         │    ──▶ remote   put object
//!                                         │    ──▶ rows     upsert, after the objects
//!                                         │ settle
//!                                         ▼
//!                                      journal ──▶ status   .upload/*, command line
//! ```
//!
//! Nothing points backwards: [`mount`] knows the journal and nothing of remotes; [`delivery`] knows
//! the journal and the traits [`remote::Remote`] and [`rows::RowSink`], and nothing of FUSE;
//! [`status`] only reads. `docs/design.md` tells why.

pub mod beneath;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod delivery;
pub mod derive;
pub mod filter;
pub mod glob;
pub mod journal;
pub mod marker;
pub mod mount;
pub mod notify;
pub mod path;
mod private;
pub mod push;
pub mod remote;
pub mod rows;
pub mod scan;
pub mod selection;
pub mod status;
pub mod suspect;
pub mod verify;
