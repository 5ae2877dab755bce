//! Standbys: streaming replication from one throw-away server to others, and promotion.

use std::process::Command;

use super::{BOUND, PostgresServer, SUPERUSER, run};
use crate::error::ServerError;
use crate::process::wait_until;

impl PostgresServer {
    /// Starts a standby of this server, which streams from it under that name (the
    /// `application_name` that `synchronous_standby_names` speaks of). It is a server of its own,
    /// with its own port and directory and the same password, and can be read. On return it
    /// streams; nobody waits for it until [`wait_for_standbys`](Self::wait_for_standbys).
    ///
    /// # Errors
    /// The name is not `a-z`, `0-9` and `_`, `pg_basebackup` is missing, this server does not run,
    /// or the standby does not start.
    pub fn standby(&self, name: &str) -> Result<Self, ServerError> {
        check_name(name)?;
        let mut settings = self.lock().settings.clone();
        settings.remove("synchronous_standby_names");
        settings.set("primary_conninfo", &self.connection_string(name))?;
        settings.set("wal_retrieve_retry_interval", "100ms")?;
        let mut standby = Self::prepare(settings, self.password.clone())?;
        self.base_backup(&standby.data)?;
        standby.make_file("standby.signal")?;
        standby.start_on_a_free_port()?;
        standby.until_streaming()?;
        Ok(standby)
    }

    /// Has every commit of this server wait until any one of the named standbys has it on disk
    /// (`ANY 1 (…)`); with no name, for none. On return each named one streams and counts.
    ///
    /// # Errors
    /// A name as for [`standby`](Self::standby), or a standby that does not stream within two minutes.
    pub fn wait_for_standbys(&self, names: &[&str]) -> Result<(), ServerError> {
        for name in names {
            check_name(name)?;
        }
        if names.is_empty() {
            return self.set("synchronous_standby_names", "");
        }
        self.set("synchronous_standby_names", &format!("ANY 1 ({})", names.join(", ")))?;
        let query = "select application_name from pg_stat_replication where state = 'streaming' and sync_state = 'quorum'";
        let counted = wait_until(BOUND, || {
            let streaming = self.psql("postgres", query).unwrap_or_default();
            names.iter().all(|name| streaming.lines().any(|line| line == *name))
        });
        if counted { Ok(()) } else { Err(self.failure("has not all of its synchronous standbys")) }
    }

    /// Cuts this standby off from its primary: it gets nothing more, and can still be read and
    /// promoted. On return its receiver is gone.
    ///
    /// # Errors
    /// It does not run, or does not let go within two minutes.
    pub fn detach(&self) -> Result<(), ServerError> {
        self.set("primary_conninfo", "")?;
        let query = "select count(*) from pg_stat_wal_receiver";
        if wait_until(BOUND, || self.psql("postgres", query).is_ok_and(|count| count == "0")) {
            return Ok(());
        }
        Err(self.failure("still receives from its primary"))
    }

    /// Has this standby stream from another primary under that name: after a promotion the
    /// promoted one, or, after [`detach`](Self::detach), the same as before. On return it streams.
    ///
    /// # Errors
    /// As [`standby`](Self::standby); a standby that is ahead of where the primary's timeline
    /// forked cannot follow it.
    pub fn follow(&self, primary: &Self, name: &str) -> Result<(), ServerError> {
        check_name(name)?;
        self.set("primary_conninfo", &primary.connection_string(name))?;
        self.until_streaming()
    }

    /// Promotes this standby: on return it accepts writes, on a timeline of its own.
    ///
    /// # Errors
    /// It is no standby, or is not promoted within a minute.
    pub fn promote(&self) -> Result<(), ServerError> {
        if self.psql("postgres", "select pg_promote(true, 60)")? == "t" {
            return Ok(());
        }
        Err(self.failure("was not promoted in time"))
    }

    /// How far this server's write-ahead log goes, in bytes: what it has written, or what it has
    /// received as a standby. The standby to promote is the one that is furthest.
    ///
    /// # Errors
    /// It does not answer.
    pub fn wal_position(&self) -> Result<u64, ServerError> {
        let query = "select pg_wal_lsn_diff(case when pg_is_in_recovery()
                         then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
                         else pg_current_wal_flush_lsn() end, '0/0')";
        let text = self.psql("postgres", query)?;
        text.parse().map_err(|_not_a_number| self.failure(&format!("says {text:?} for a WAL position")))
    }

    /// The timeline that this server writes on, or, for a standby, that it has replayed to.
    ///
    /// # Errors
    /// It does not answer.
    pub fn timeline(&self) -> Result<u32, ServerError> {
        let query = "select case when pg_is_in_recovery()
                         then (select received_tli::text from pg_stat_wal_receiver)
                         else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end";
        let text = self.psql("postgres", query)?;
        u32::from_str_radix(&text, 16)
            .map_err(|_not_a_number| self.failure(&format!("says {text:?} for a timeline")))
    }

    /// `primary_conninfo` of a standby of that name.
    fn connection_string(&self, name: &str) -> String {
        let (port, password) = (self.port, &self.password);
        format!("host=127.0.0.1 port={port} user={SUPERUSER} password={password} application_name={name}")
    }

    fn until_streaming(&self) -> Result<(), ServerError> {
        let query = "select count(*) from pg_stat_wal_receiver where status = 'streaming'";
        if wait_until(BOUND, || self.psql("postgres", query).is_ok_and(|count| count == "1")) {
            return Ok(());
        }
        Err(self.failure("does not stream from its primary"))
    }

    /// Copies this running server's data to a directory that does not exist yet, with the log that
    /// it takes to be consistent.
    pub(super) fn base_backup(&self, to: &std::path::Path) -> Result<(), ServerError> {
        let mut command: Command = self.client("pg_basebackup")?;
        command.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]).arg("--pgdata").arg(to);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        run("pg_basebackup", &mut command).map(drop)
    }

    /// Makes an empty file in the data directory.
    pub(super) fn make_file(&self, name: &str) -> Result<(), ServerError> {
        let path = self.data.join(name);
        std::fs::write(&path, "").map_err(ServerError::io(format!("cannot make {name}")))?;
        self.account.as_ref().map_or(Ok(()), |account| account.own(&path))
    }
}

/// Names of standbys stand in a setting's list and in a connection string: no quoting needed.
fn check_name(name: &str) -> Result<(), ServerError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 63
        && name.bytes().all(plain)
    {
        return Ok(());
    }
    Err(ServerError::Invalid {
        given: name.into(),
        rule: "a standby's name is 1 to 63 of a-z, 0-9 and _, a letter first",
    })
}
