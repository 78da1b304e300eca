//! `outboxfs push --dry-run`: what would be sent, how much, and why, and what would be deleted. Changes
//! nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64};

use indicatif::DecimalBytes;
use serde::Serialize;

use super::push::say_json;
use super::tree::Tree;
use super::{Error, FAILED, complain, say};
use crate::config::{MountSettings, RemoteUrl};
use crate::journal::{JournalError, Known, Sighting, View};
use crate::path::RelPath;
use crate::remote::{path_text, place};
use crate::scan::{Different, Findings, Walker};
use crate::status::counted;

/// `remote`: where it would be sent to, if that was said.
pub fn run(
    tree: &Tree,
    settings: &MountSettings,
    remote: Option<&RemoteUrl>,
    json: bool,
) -> Result<ExitCode, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Failed(format!(
            "cannot look at {}: {error}",
            tree.directory.display()
        ))
    };
    let view = match &tree.journal {
        Some(journal) if journal.exists() => {
            Some(View::open(journal).map_err(|error| failed(&error))?)
        }
        _ => None,
    };
    let view = match (view, remote) {
        // Of another remote the journal knows nothing.
        (Some(view), Some(remote)) => {
            let meta = view.meta().map_err(|error| failed(&error))?;
            let same = meta
                .remote
                .is_none_or(|known| known == place(remote.as_url()));
            same.then_some(view)
        }
        (view, _) => view,
    };
    let backing = File::open(&tree.directory).map_err(|error| failed(&error))?;
    let mut plan = Plan {
        view,
        json,
        deletes: settings.sync_deletes,
        deletions: 0,
        reasons: BTreeMap::new(),
        files: 0,
        bytes: 0,
        unreadable: 0,
    };
    let walker = Walker {
        backing: &OwnedFd::from(backing),
        filter: &settings.filter,
        links: settings.links,
        since: i64::MAX,
        must_read: true,
        looked_at: &AtomicU64::new(0),
        stop: &AtomicBool::new(false),
    };
    walker
        .walk(&tree.below, &mut plan)
        .map_err(|error| failed(&error))?;
    plan.sum_up();
    Ok(match plan.unreadable {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    })
}

struct Plan {
    view: Option<View>,
    json: bool,
    /// Whether what is gone here would be deleted there, and of how many files.
    deletes: bool,
    deletions: u64,
    /// Files by why they would be sent.
    reasons: BTreeMap<&'static str, u64>,
    files: u64,
    bytes: u64,
    unreadable: u64,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    WouldSend {
        path: &'a str,
        bytes: u64,
        reason: &'a str,
    },
    WouldDelete {
        path: &'a str,
    },
    Failed {
        path: &'a str,
        error: &'a str,
        attempts: u32,
        will_retry: bool,
    },
    Summary {
        complete: bool,
        would_send_files: u64,
        would_send_bytes: u64,
        would_delete_files: u64,
        unreadable: u64,
    },
}

impl Plan {
    fn would_send(&mut self, path: &RelPath, bytes: u64, reason: &'static str) {
        self.files += 1;
        self.bytes += bytes;
        *self.reasons.entry(reason).or_default() += 1;
        match self.json {
            true => say_json(&Line::WouldSend {
                path: &path_text(path),
                bytes,
                reason,
            }),
            false => say(&format!("{}\t{bytes}\t{reason}\n", path_text(path))),
        }
    }

    fn sum_up(&self) {
        if self.json {
            return say_json(&Line::Summary {
                complete: self.unreadable == 0,
                would_send_files: self.files,
                would_send_bytes: self.bytes,
                would_delete_files: self.deletions,
                unreadable: self.unreadable,
            });
        }
        let reasons = self
            .reasons
            .iter()
            .map(|(why, count)| format!("{count} {why}"));
        let reasons: Vec<String> = reasons.collect();
        let why = match reasons.is_empty() {
            true => String::new(),
            false => format!(": {}", reasons.join(", ")),
        };
        let deletions = match self.deletions {
            0 => String::new(),
            count => format!("; would delete {}", counted(count, "file")),
        };
        say(&format!(
            "would send {} ({}){why}{deletions}\n",
            counted(self.files, "file"),
            DecimalBytes(self.bytes)
        ));
    }

    /// A file that is not there any more, if the remote has it.
    fn would_delete(&mut self, path: &RelPath) -> Result<(), JournalError> {
        let mut is_there = false;
        if let Some(view) = &self.view {
            view.each_proved(path, |file| is_there = file.delivered)?;
        }
        if is_there {
            self.deletions += 1;
            let path = path_text(path);
            match self.json {
                true => say_json(&Line::WouldDelete { path: &path }),
                false => say(&format!("{path}\tdeleted\n")),
            }
        }
        Ok(())
    }
}

impl Findings for Plan {
    /// Files that wait from before are reported here, and count as unknown no more.
    fn known(&mut self, folder: &RelPath) -> Result<HashMap<Vec<u8>, Known>, JournalError> {
        let Some(view) = &self.view else {
            return Ok(HashMap::new());
        };
        let mut known = view.known_files(folder)?;
        // What is known is passed over; what waits is not to be.
        for name in view.waiting_files(folder)?.into_keys() {
            if let Some(known) = known.get_mut(&name) {
                known.opened = true;
            }
        }
        Ok(known)
    }

    fn known_file(&mut self, folder: &RelPath, name: &[u8]) -> Result<Option<Known>, JournalError> {
        Ok(self.known(folder)?.remove(name))
    }

    /// Of use to find those that are gone: nothing in these is sent.
    fn known_folders(&mut self, folder: &RelPath) -> Result<Vec<Vec<u8>>, JournalError> {
        match &self.view {
            Some(view) if self.deletes => view.known_folders(folder),
            _ => Ok(Vec::new()),
        }
    }

    fn differs(
        &mut self,
        folder: &RelPath,
        found: Vec<Different>,
        missing: Vec<Vec<u8>>,
    ) -> Result<(), JournalError> {
        let waiting = match &self.view {
            Some(view) => view.waiting_files(folder)?,
            None => HashMap::new(),
        };
        for file in found {
            let Sighting { name, stat, .. } = &file.sighting;
            let reason = match waiting.get(name) {
                _ if file.is_new => "new",
                Some(Some(_)) => "failed before",
                Some(None) => "left from before",
                None => "changed",
            };
            self.would_send(&folder.join(name), stat.size, reason);
        }
        if self.deletes {
            for name in missing {
                self.would_delete(&folder.join(&name))?;
            }
        }
        Ok(())
    }

    fn trouble(&mut self, path: &RelPath, error: &io::Error) {
        self.unreadable += 1;
        let (path, error) = (path_text(path), format!("it cannot be looked at: {error}"));
        match self.json {
            true => say_json(&Line::Failed {
                path: &path,
                error: &error,
                attempts: 0,
                will_retry: false,
            }),
            false => complain(&format!("{path}: {error}")),
        }
    }

    fn too_large(&mut self, _path: &RelPath, _size: u64) {}
}
