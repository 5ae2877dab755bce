//! Who the server runs as: PostgreSQL refuses root, so root hands it to somebody else.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::ServerError;

/// An unprivileged account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account to change to: `None` unless this process is root.
    pub(crate) fn needed() -> Result<Option<Self>, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(ServerError::io("cannot read /etc/passwd"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::parse(&passwd, name))
            .map(Some)
            .ok_or(ServerError::NoUnprivilegedUser)
    }

    /// The line of `name`, unless it is one more root.
    fn parse(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
    }

    /// Has the command run as this account. The standard library drops the supplementary groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or directory to this account.
    pub(crate) fn own(&self, path: &Path) -> Result<(), ServerError> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(ServerError::io(format!(
            "cannot give {} to user {}",
            path.display(),
            self.name
        )))
    }

    /// A directory for temporary files that this account can reach: `TMPDIR` may lie inside root's
    /// home, which nobody else may enter.
    pub(crate) fn temporary_directory(&self) -> Result<PathBuf, ServerError> {
        [env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")]
            .into_iter()
            .find(|path| everybody_may_enter(path))
            .ok_or_else(|| ServerError::NoSharedTemporaryDirectory { user: self.name.clone() })
    }
}

fn everybody_may_enter(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    path.ancestors().all(|part| fs::metadata(part).is_ok_and(|data| data.permissions().mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:,,,:/var/lib/postgresql:/bin/bash\n\
                          toor:x:0:0::/:/bin/sh\nbroken:x:many:1::/:/bin/sh\n";

    #[test]
    fn an_account_is_read_from_its_line() {
        let postgres = Account { name: "postgres".into(), uid: 101, gid: 104 };
        assert_eq!(Account::parse(PASSWD, "postgres"), Some(postgres));
    }

    #[test]
    fn root_by_another_name_is_no_unprivileged_account() {
        assert_eq!(Account::parse(PASSWD, "toor"), None);
        assert_eq!(Account::parse(PASSWD, "broken"), None);
        assert_eq!(Account::parse(PASSWD, "nobody"), None);
    }

    #[test]
    fn a_directory_that_its_owner_keeps_closed_is_not_shared() {
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!everybody_may_enter(closed.path()));
        assert!(everybody_may_enter(Path::new("/")));
        assert!(!everybody_may_enter(Path::new("/nowhere-at-all")));
    }
}
