//! Writes the man pages and shell completions, from the command line's definition:
//! `cargo run --example man -- DIR`

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap::builder::Resettable;
use clap_complete::Shell;

const NAME: &str = "outboxfs";

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: man DIR"));
    };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let mut command = outboxfs::cli::command();
    command.build();
    page(&command, NAME, folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, NAME, folder)?;
    }
    Ok(())
}

/// `outboxfs-config-show.1` for `outboxfs config show`.
fn page(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    // clap's own `help` command, and what outboxfs calls of itself, have none.
    let subcommands = command
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for subcommand in subcommands {
        let name = format!("{name}-{}", subcommand.get_name());
        page(subcommand, &name, folder)?;
    }
    let mut file = File::create(folder.join(format!("{name}.1")))?;
    let version = concat!("outboxfs ", env!("CARGO_PKG_VERSION"));
    let plain = command.clone().after_help(Resettable::Reset);
    clap_mangen::Man::new(plain)
        .source(version)
        .render(&mut file)?;
    match command.get_after_help() {
        Some(examples) => file.write_all(as_it_stands(&examples.to_string()).as_bytes()),
        None => Ok(()),
    }
}

/// Examples and exit codes: commands that can be copied, line by line.
fn as_it_stands(text: &str) -> String {
    let mut section = String::from(".SH EXAMPLES\n.nf\n");
    for line in text.lines().skip_while(|line| *line == "Examples:") {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // Whatever it begins with, it is no request of roff's.
        section += &format!("\\&{line}\n");
    }
    section + ".fi\n"
}
