//! Variables that begin as ours do and mean nothing. A misspelt one would do nothing, and nobody would see it.

use std::collections::BTreeSet;

use super::complain;

const PREFIX: &str = "OUTBOXFS_";

/// What is read where there is no flag, for it would be seen by everybody.
const WITHOUT_FLAGS: [&str; 3] = [
    "OUTBOXFS_RAILS_EMAIL",
    "OUTBOXFS_RAILS_PASSWORD",
    "OUTBOXFS_RAILS_TOKEN",
];

/// How alike a name and what was meant by it are, of 1; clap asks for 0.7 of flags.
const ALIKE: f64 = 0.8;

/// One line on standard error for each.
pub fn warn_of_unknown(command: &clap::Command) {
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in warnings(&known(command), given) {
        complain(&warning);
    }
}

fn warnings(known: &BTreeSet<String>, given: impl Iterator<Item = String>) -> Vec<String> {
    let unknown: BTreeSet<String> = given
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .collect();
    let warning = |name: String| match meant(known, &name) {
        Some(meant) => format!("warning: the variable {name} means nothing; {meant} was meant?"),
        None => format!("warning: the variable {name} means nothing"),
    };
    unknown.into_iter().map(warning).collect()
}

/// All names that commands and their flags have.
fn known(command: &clap::Command) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .chain(WITHOUT_FLAGS)
        .map(str::to_owned)
        .collect();
    names.extend(command.get_subcommands().flat_map(known));
    names
}

fn meant<'a>(known: &'a BTreeSet<String>, name: &str) -> Option<&'a str> {
    let rest = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let name = rest(name);
    let alike = known
        .iter()
        .map(|other| (strsim::jaro(&rest(other), &name), other));
    let (likeness, other) = alike.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness > ALIKE).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_misspelt_is_named_with_what_was_meant() {
        let known = known(&crate::cli::command());
        let said = |names: &[&str]| warnings(&known, names.iter().map(ToString::to_string));
        let good = [
            "OUTBOXFS_WORKERS",
            "OUTBOXFS_RAILS_TOKEN",
            "OUTBOXFS_JOURNAL",
            "HOME",
        ];
        assert_eq!(said(&good), [""; 0]);
        let said = said(&["OUTBOXFS_WORKER", "OUTBOXFS_QQ", "OUTBOXFS_BWLIMT"]);
        assert_eq!(
            said,
            [
                "warning: the variable OUTBOXFS_BWLIMT means nothing; OUTBOXFS_BWLIMIT was meant?",
                "warning: the variable OUTBOXFS_QQ means nothing",
                "warning: the variable OUTBOXFS_WORKER means nothing; OUTBOXFS_WORKERS was meant?",
            ]
        );
    }
}
