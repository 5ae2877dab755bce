//! Copies of a server's data, and going back to one: a restore from backup in small.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{BOUND, PostgresServer, command, run, temporary_directory};
use crate::error::ServerError;
use crate::process::wait_until;

/// A copy of a server's data as it was at one moment; removed when dropped. Every commit that was
/// acknowledged before the copy was asked for is in it, and so is what was prepared.
#[derive(Debug)]
pub struct DataCopy {
    directory: TempDir,
}

impl DataCopy {
    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }
}

/// How a server comes back from a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// As files put back by hand, or a volume's snapshot: same system identifier, same timeline;
    /// only its write-ahead log's position tells that it went back.
    SameTimeline,
    /// As by recovery from an archive to a point in time: same system identifier, a new timeline.
    NewTimeline,
}

impl PostgresServer {
    /// Copies the data of the running server, by `pg_basebackup`.
    ///
    /// # Errors
    /// It does not run, or `pg_basebackup` is missing.
    pub fn copy(&self) -> Result<DataCopy, ServerError> {
        let copy = DataCopy { directory: temporary_directory(self.account.as_ref())? };
        self.base_backup(&copy.data())?;
        Ok(copy)
    }

    /// Kills the server if it runs, replaces its data by the copy, and starts it on the same port
    /// with the settings that it had: whatever was committed or prepared since the copy is lost. On
    /// return it accepts writes. The copy can be used again.
    ///
    /// # Errors
    /// The files cannot be replaced, or the server does not start.
    pub fn restore(&self, copy: &DataCopy, how: Restored) -> Result<(), ServerError> {
        let mut inner = self.lock();
        self.kill_locked(&mut inner)?;
        fs::remove_dir_all(&self.data).map_err(ServerError::io("cannot remove the data directory"))?;
        self.copy_files(&copy.data(), &self.data)?;
        if how == Restored::NewTimeline {
            // An archive that has nothing more than the copy brought along.
            inner.settings.set("restore_command", "false")?;
            self.make_file("recovery.signal")?;
        }
        self.start_locked(&mut inner)?;
        drop(inner);
        // It may be read before its recovery has ended.
        let over = wait_until(BOUND, || {
            self.psql("postgres", "select pg_is_in_recovery()").is_ok_and(|answer| answer == "f")
        });
        if over { Ok(()) } else { Err(self.failure("did not end its recovery")) }
    }

    /// As the server's user, so that it owns them.
    fn copy_files(&self, from: &Path, to: &Path) -> Result<(), ServerError> {
        let mut command = command(Path::new("cp"));
        command.args(["-R", "-p"]).arg(from).arg(to);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        run("cp", &mut command).map(drop)
    }
}
