//! `outboxfs status --watch`: a screen with keys on a terminal, a line now and then elsewhere.
//!
//! One thread of its own, `look`, asks for the status and does what the keys say, so that keys are
//! heard while a daemon is busy; it ends with the command.

mod screen;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::status::Source;
use super::{Error, FAILED, pause, retry, say};
use crate::status::{Snapshot, counted};
use screen::Screen;

/// From one look to the next, on a terminal and elsewhere.
const LOOK: Duration = Duration::from_secs(1);
const LINE: Duration = Duration::from_secs(5);
/// Folders are counted once in so many looks.
const FOLDERS: usize = 10;
/// How long a key may go unheard, and a new status unseen.
const TICK: Duration = Duration::from_millis(100);

pub fn run(source: Source) -> Result<ExitCode, Error> {
    // What cannot be seen at all is said at once.
    let first = source.snapshot()?;
    match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => on_screen(source, first),
        false => in_lines(&source, first),
    }
}

/// Until everything is delivered, or nobody delivers any more.
fn in_lines(source: &Source, mut snapshot: Snapshot) -> Result<ExitCode, Error> {
    loop {
        say(&format!("{}\n", screen::line(&snapshot)));
        if snapshot.is_all_delivered() {
            return Ok(ExitCode::SUCCESS);
        }
        if snapshot.pid.is_none() {
            return Ok(ExitCode::from(FAILED));
        }
        std::thread::sleep(LINE);
        snapshot = source.without_folders()?;
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Retry,
    Pause(bool),
}

/// What the thread has to say.
enum News {
    Status(Box<Snapshot>),
    /// A sentence.
    Message(String),
}

fn on_screen(source: Source, first: Snapshot) -> Result<ExitCode, Error> {
    let failed = |error: io::Error| Error::Failed(format!("the terminal cannot be used: {error}"));
    let (news, told) = crossbeam_channel::unbounded();
    let (wishes, asked) = crossbeam_channel::bounded(4);
    let its_first = first.clone();
    std::thread::Builder::new()
        .name("look".into())
        .spawn(move || look(&source, its_first, &asked, &news))
        .map_err(failed)?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let result = follow(&mut terminal, Screen::new(first), &wishes, &told);
    ratatui::restore();
    result.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn follow(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    wishes: &Sender<Wish>,
    told: &Receiver<News>,
) -> io::Result<()> {
    let mut changed = true;
    loop {
        for news in told.try_iter() {
            changed = true;
            match news {
                News::Status(snapshot) => screen.update(*snapshot),
                News::Message(message) => screen.message = Some(message),
            }
        }
        if changed {
            terminal.draw(|frame| screen.draw(frame))?;
            changed = false;
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                if ends(&key) {
                    return Ok(());
                }
                let wish = match key.code {
                    KeyCode::Char('r') => Wish::Retry,
                    KeyCode::Char('p') => Wish::Pause(!screen.snapshot.paused),
                    _ => continue,
                };
                // Somebody leans on the key: he is heard when there is time.
                let _ = wishes.try_send(wish);
            }
            Event::Resize(..) => changed = true,
            _ => {}
        }
    }
}

/// In raw mode Ctrl-C is a key like others.
fn ends(key: &KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || control && key.code == KeyCode::Char('c')
}

/// Ends when nobody listens.
fn look(source: &Source, first: Snapshot, asked: &Receiver<Wish>, news: &Sender<News>) {
    let directory = first.directory;
    let (mut journal, mut folders) = (first.journal, first.folders);
    for number in 1.. {
        match asked.recv_timeout(LOOK) {
            Ok(wish) => {
                let message = grant(wish, Path::new(&directory), Path::new(&journal));
                if news.send(News::Message(message)).is_err() {
                    return;
                }
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
        }
        let counts = number % FOLDERS == 0;
        let looked = match counts {
            true => source.snapshot(),
            false => source.without_folders(),
        };
        let told = match looked {
            Ok(mut snapshot) => {
                if counts {
                    folders = snapshot.folders;
                }
                snapshot.folders = folders;
                journal.clone_from(&snapshot.journal);
                News::Status(Box::new(snapshot))
            }
            Err(error) => News::Message(error.to_string()),
        };
        if news.send(told).is_err() {
            return;
        }
    }
}

/// What came of it, a sentence.
fn grant(wish: Wish, directory: &Path, journal: &Path) -> String {
    let message = match wish {
        Wish::Retry => retry::all(directory, journal).map(|retried| match retried {
            (0, _) => "nothing has failed".to_owned(),
            (count, true) => format!("{} queued again", counted(count, "upload")),
            (count, false) => format!("{} queued for the next push", counted(count, "upload")),
        }),
        Wish::Pause(true) => {
            pause::set(directory, Some(journal), true).map(|_| "paused".to_owned())
        }
        Wish::Pause(false) => pause::set(directory, Some(journal), false).map(|served| {
            let next = "the next mount or push goes on";
            if served { "goes on" } else { next }.to_owned()
        }),
    };
    message.unwrap_or_else(|error| error.to_string())
}
