//! Where remotes find their secrets: never in a URL, where process lists and logs show them.

use std::collections::HashMap;

/// Variables such as `AWS_ACCESS_KEY_ID`: those of the process, with some set over them. Has no
/// `Debug`, for it holds secrets.
#[derive(Clone, Default)]
pub struct Environment {
    over: HashMap<String, String>,
}

impl Environment {
    /// What the process was started with.
    pub fn process() -> Self {
        Self::default()
    }

    /// The same with one variable set.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.over.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A variable's value; one that is empty counts as not set.
    pub fn get(&self, name: &str) -> Option<String> {
        let over = self.over.get(name).cloned();
        over.or_else(|| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_goes_before_the_process_and_empty_is_unset() {
        let path = Environment::process().get("PATH");
        assert!(path.is_some());
        assert_eq!(Environment::process().with("PATH", "").get("PATH"), None);
        let set = Environment::process().with("OUTBOXFS_X", "1");
        assert_eq!(set.get("OUTBOXFS_X").as_deref(), Some("1"));
    }
}
