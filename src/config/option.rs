//! What there is to say of each setting, taken from its one definition.

use clap::{Arg, Args, Command};

use super::Settings;

/// What stands before the default in a setting's description.
const DEFAULT: &str = "[default: ";

/// A setting: a flag, a variable and a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The field's name, as the argument parser knows it.
    pub id: String,
    /// `max-retries`
    pub key: String,
    /// `OUTBOXFS_MAX_RETRIES`
    pub variable: String,
    /// What it does, without the default.
    pub about: String,
    /// What holds without it; `None`: nothing.
    pub default: Option<String>,
    /// The line of a file that sets it to its default, or shows what it may be set to.
    pub example: String,
}

/// All settings that have a flag, in their order.
pub fn described() -> Vec<Described> {
    let command = Settings::augment_args(Command::new("settings"));
    command.get_arguments().filter_map(describe).collect()
}

fn describe(argument: &Arg) -> Option<Described> {
    let key = argument.get_long()?.to_owned();
    let help = argument.get_help()?.to_string();
    let (about, default) = match help.split_once(DEFAULT) {
        Some((about, default)) => (about.trim_end(), Some(default.trim_end_matches(']'))),
        None => (help.as_str(), None),
    };
    let is_switch = argument
        .get_num_args()
        .is_some_and(|many| many.min_values() == 0);
    let default = default.or(is_switch.then_some("false"));
    Some(Described {
        example: example(argument, &key, default),
        id: argument.get_id().to_string(),
        variable: argument.get_env()?.to_str()?.to_owned(),
        about: about.to_owned(),
        default: default.map(str::to_owned),
        key,
    })
}

fn example(argument: &Arg, key: &str, default: Option<&str>) -> String {
    let is_taken = |line: &String| toml::from_str::<Settings>(line).is_ok();
    // A default of several words is a description, not a value.
    let value = default.filter(|default| !default.contains(' '));
    let candidates = value.into_iter().flat_map(|value| {
        let list = argument
            .get_value_delimiter()
            .map(|by| value.split(by).collect::<Vec<_>>());
        let list = list.map(|list| format!("{key} = {list:?}"));
        let plain = [format!("{key} = {value}"), format!("{key} = \"{value}\"")];
        list.into_iter().chain(plain)
    });
    let names = argument.get_value_names().unwrap_or_default();
    let name = names.first().map_or("", |name| name.as_str());
    candidates
        .into_iter()
        .find(is_taken)
        .unwrap_or_else(|| format!("{key} = \"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_described_by_its_definition() {
        let all = described();
        let of = |key: &str| all.iter().find(|one| one.key == key).unwrap();
        let workers = of("workers");
        assert_eq!(workers.variable, "OUTBOXFS_WORKERS");
        assert_eq!(workers.default.as_deref(), Some("8"));
        assert_eq!(workers.example, "workers = 8");
        assert!(workers.about.ends_with("asks to slow down."), "{workers:?}");
        assert_eq!(of("retry-delay").example, "retry-delay = \"1s\"");
        assert_eq!(of("sync-deletes").example, "sync-deletes = false");
        assert_eq!(of("remote").example, "remote = \"URL\"");
        assert_eq!(of("journal").example, "journal = \"PATH\"");
        let words = &of("pass-words").example;
        assert!(words.starts_with("pass-words = [\"pass\", "), "{words}");
    }

    #[test]
    fn examples_that_are_defaults_can_stand_in_a_file() {
        for one in described() {
            let is_value = one.default.is_some_and(|default| !default.contains(' '));
            let read = toml::from_str::<Settings>(&one.example);
            assert!(!is_value || read.is_ok(), "{}: {read:?}", one.example);
        }
    }
}
