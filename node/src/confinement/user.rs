//! The user that workers run as, where the node may choose one.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) group: u32,
    /// Further groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// There is no such user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// No line of the file is of that user.
    #[error("there is no user {0} in {USERS}; make one with useradd --system {0}")]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(&'static str, io::Error),
}

impl User {
    /// The user of this name, as the machine's own files have it.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self, UserError> {
        let read = |path| fs::read_to_string(path).map_err(|error| UserError::Unreadable(path, error));
        Self::among(&read(USERS)?, &read(GROUPS)?, name).ok_or_else(|| UserError::Unknown(name.into()))
    }

    /// Whether it is root.
    pub fn is_root(&self) -> bool {
        self.id == 0
    }

    /// Lines of passwd(5) and group(5).
    fn among(users: &str, groups: &str, name: &str) -> Option<Self> {
        let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
        let user = users.lines().map(fields).find(|fields| fields.len() >= 7 && fields[0] == name)?;
        let is_member = |fields: &Vec<String>| {
            fields.len() >= 4 && fields[3].split(',').any(|member| member.trim() == name)
        };
        let of_user = groups.lines().map(fields).filter(is_member);
        Some(Self {
            name: name.into(),
            id: user[2].parse().ok()?,
            group: user[3].parse().ok()?,
            groups: of_user.filter_map(|fields| fields[2].parse().ok()).collect(),
            home: user[5].clone(),
            shell: user[6].clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_groups_in_which_it_is_named() {
        let users = "root:x:0:0:root:/root:/bin/sh\njobs:x:990:980:Jobs:/nonexistent:/usr/sbin/nologin\n";
        let groups =
            "root:x:0:\njobs:x:980:\nvideo:x:44:alice,jobs\nrender:x:107:jobs\naudio:x:29:jobsworth\n";
        let user = User::among(users, groups, "jobs").unwrap();
        assert_eq!((user.id, user.group, &user.groups[..]), (990, 980, &[44, 107][..]));
        assert_eq!((&*user.home, &*user.shell), ("/nonexistent", "/usr/sbin/nologin"));
        assert_eq!(User::among(users, groups, "job"), None);
    }
}
