//! Limits on how much of one folder, and of how many folders, is claimed at a time.

use std::collections::HashMap;

use super::rows::FolderId;

/// What is on its way, by folder, and how much of it there may be.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// Folders at a time.
    pub folders: usize,
    /// Files of each at a time.
    pub files: usize,
    pub busy: HashMap<FolderId, usize>,
}

impl Crowd {
    /// Takes one more file of the folder, if there is room for it.
    pub(super) fn admit(&mut self, folder: FolderId) -> bool {
        let more_folders = self.busy.len() < self.folders;
        match self.busy.get_mut(&folder) {
            Some(files) if *files < self.files => *files += 1,
            None if more_folders => {
                self.busy.insert(folder, 1);
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_files_of_each_are_limited() {
        let mut crowd = Crowd {
            folders: 2,
            files: 2,
            busy: HashMap::new(),
        };
        let admitted: Vec<i64> = [1, 1, 1, 2, 3, 2, 2]
            .into_iter()
            .filter(|folder| crowd.admit(FolderId(*folder)))
            .collect();
        assert_eq!(admitted, [1, 1, 2, 2]);
    }
}
