//! A participant's PostgreSQL, asked by itself: one connection, opened again when it is lost.
//!
//! Every statement has a limit. One that is not answered is *lost*: it may have been done (law 5), and the
//! next look, by evidence, says whether.

use std::time::Duration;

use pactum_coordinator::config::LogUrl;
use pactum_core::id::PreparedName;
use pactum_proto::error::ErrorCode;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _};

use super::evidence::{Anchor, Fate, full_xid};
use crate::exit::Exit;
use crate::failure::Failure;

/// `pg_locks.waitstart` and all else that is asked came with 14, the oldest that participants run on.
const VERSION_MIN: i32 = 140_000;

/// A participant's database.
#[derive(Debug)]
pub(super) struct Database {
    options: PgConnectOptions,
    shown: LogUrl,
    connection: Option<PgConnection>,
    limit: Duration,
    /// As its server calls it.
    pub(super) name: String,
    /// The role that we came in as.
    pub(super) role: String,
}

/// Why a statement came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server refused it: it was not done.
    Refused {
        /// SQLSTATE, if it gave one.
        code: String,
        /// For people.
        text: String,
    },
    /// No answer: it may have been done.
    Lost(String),
}

impl Trouble {
    fn of(error: &sqlx::Error) -> Self {
        let database =
            error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        match database {
            Some(error) if !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic) => {
                Self::Refused { code: error.code().to_owned(), text: error.message().to_owned() }
            }
            None if matches!(
                error,
                sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
            ) =>
            {
                Self::Refused { code: String::new(), text: error.to_string() }
            }
            Some(_) | None => Self::Lost(error.to_string()),
        }
    }

    /// The SQLSTATE of a refusal.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Lost(_) => "",
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Refused { code, text } if code.is_empty() => text.clone(),
            Self::Refused { code, text } => format!("{text} (SQLSTATE {code})"),
            Self::Lost(text) => format!("no answer: {text}"),
        }
    }
}

/// How a prepared branch is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// COMMIT PREPARED.
    Commit,
    /// ROLLBACK PREPARED.
    RollBack,
}

impl Verb {
    fn sql(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT PREPARED",
            Self::RollBack => "ROLLBACK PREPARED",
        }
    }

    /// What its execution is afterwards.
    pub(super) fn fate(self) -> Fate {
        match self {
            Self::Commit => Fate::Committed,
            Self::RollBack => Fate::Aborted,
        }
    }

    /// For people and programs.
    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Commit => "committed",
            Self::RollBack => "rolled-back",
        }
    }
}

/// What came of ending a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// We did, and the database says so.
    Done,
    /// It was gone when we came; somebody else ended it so.
    Gone(Fate),
    /// Another execution is prepared under the name now: nothing was done.
    Another(u64),
}

impl Database {
    /// Connects, and checks that it is a primary of a version that is served.
    pub(super) async fn connect(url: &LogUrl, limit: Duration) -> Result<Self, Failure> {
        let malformed = || {
            Failure::usage(format!("{url} is not the URL of a participant's database"))
                .next("write it like postgres://user@host/database")
        };
        if !url.reveal().starts_with("postgres") {
            return Err(malformed());
        }
        // The error may repeat the URL with its password.
        let options: PgConnectOptions = url.reveal().parse().map_err(|_error: sqlx::Error| malformed())?;
        let options = options.application_name("pactum branch").disable_statement_logging();
        let mut database = Self {
            options,
            shown: url.clone(),
            connection: None,
            limit,
            name: String::new(),
            role: String::new(),
        };
        let facts = database
            .run(async |connection: &mut PgConnection| {
                sqlx::query(
                    "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
                            current_database()::text, current_user::text",
                )
                .fetch_one(connection)
                .await
            })
            .await
            .map_err(|trouble| database.unreachable(&trouble))?;
        let unreadable = |error: sqlx::Error| {
            Failure::new(Exit::Failed, "the database's answer cannot be read").because(&error)
        };
        let version: i32 = facts.try_get(0).map_err(unreadable)?;
        if version < VERSION_MIN {
            let (major, minor) = (version / 10_000, version % 10_000);
            return Err(Failure::new(
                Exit::Failed,
                format!("{url} is PostgreSQL {major}.{minor}: 14 or later is needed"),
            ));
        }
        if facts.try_get(1).map_err(unreadable)? {
            return Err(Failure::new(
                Exit::Refused,
                format!("{url} is a standby: nothing can be ended there"),
            )
            .next("connect to the primary"));
        }
        database.name = facts.try_get(2).map_err(unreadable)?;
        database.role = facts.try_get(3).map_err(unreadable)?;
        Ok(database)
    }

    /// The URL without its password.
    pub(super) fn shown(&self) -> String {
        self.shown.to_string()
    }

    /// For `map_err`, where nothing was to be changed.
    pub(super) fn unreachable(&self, trouble: &Trouble) -> Failure {
        match trouble {
            Trouble::Lost(_) => {
                Failure::new(Exit::CannotConnect, format!("no connection to the database {}", self.shown))
                    .cause(trouble.text())
                    .next("check the URL, that the server runs, and that the role may connect")
            }
            Trouble::Refused { .. } => {
                Failure::new(Exit::Failed, format!("the database {} refused", self.shown))
                    .cause(trouble.text())
            }
        }
    }

    /// Runs something on the connection, which is dropped if the answer is lost.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Trouble> {
        let Self { options, connection, limit, .. } = self;
        let limited = tokio::time::timeout(*limit, async {
            let mut session = match connection.take() {
                Some(session) => session,
                None => open(options).await?,
            };
            let done = work(&mut session).await;
            // Put back only here: a future that is dropped, or an answer that is lost, takes it along.
            let is_lost = done.as_ref().is_err_and(|error| matches!(Trouble::of(error), Trouble::Lost(_)));
            if !is_lost {
                *connection = Some(session);
            }
            done
        });
        match limited.await {
            Ok(done) => done.map_err(|error| Trouble::of(&error)),
            Err(_elapsed) => {
                Err(Trouble::Lost(format!("nothing within {}", humantime::format_duration(self.limit))))
            }
        }
    }

    /// The xid that is prepared under the name now. Looks twice: the server lists names first and reads each
    /// xid when it comes to its row, so that one which ended in between may be shown with another's xid.
    pub(super) async fn prepared_xid(&mut self, name: &PreparedName) -> Result<Option<u64>, Trouble> {
        let name = name.to_string();
        self.run(async |connection: &mut PgConnection| {
            let row = sqlx::query(
                "SELECT transaction::text, pg_snapshot_xmax(pg_current_snapshot())::text \
                   FROM pg_catalog.pg_prepared_xacts WHERE gid = $1 AND database = current_database()",
            )
            .bind(&name)
            .fetch_optional(&mut *connection)
            .await?;
            let Some(row) = row else { return Ok(None) };
            let still: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE gid = $1)")
                    .bind(&name)
                    .fetch_one(connection)
                    .await?;
            let xid = xid_of(&row.try_get::<String, _>(0)?, &row.try_get::<String, _>(1)?)?;
            Ok(still.then_some(xid))
        })
        .await
    }

    /// What became of an execution; `anchor`: where the server stood when its xid was told.
    pub(super) async fn fate(&mut self, xid: u64, anchor: &Anchor) -> Result<Fate, Trouble> {
        self.run(async |connection: &mut PgConnection| {
            let status =
                sqlx::query_scalar::<_, Option<String>>("SELECT pg_catalog.pg_xact_status($1::text::xid8)")
                    .bind(xid.to_string())
                    .fetch_one(&mut *connection)
                    .await;
            let status = match status {
                Ok(status) => status,
                // An xid of the future: this server has never assigned it.
                Err(error) if Trouble::of(&error).code() == "22023" => None,
                Err(error) => return Err(error),
            };
            // After the status: a server that was replaced between the two shows.
            let row = sqlx::query(concat!(
                "SELECT ",
                "(SELECT system_identifier::text FROM pg_catalog.pg_control_system()), \
                 substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8), \
                 pg_catalog.pg_current_wal_insert_lsn()::text"
            ))
            .fetch_one(connection)
            .await?;
            let columns: [String; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
            let now = Anchor::from_columns(&columns[0], &columns[1], &columns[2]);
            if !now.is_some_and(|now| anchor.still_holds(&now)) {
                return Ok(Fate::Unprovable);
            }
            Ok(match status.as_deref() {
                Some("committed") => Fate::Committed,
                Some("aborted") => Fate::Aborted,
                Some("in progress") => Fate::InProgress,
                Some(_) | None => Fate::Unprovable,
            })
        })
        .await
    }

    /// Ends the execution `xid` of a branch, and no other. What the database says afterwards is what is
    /// answered, whatever became of the statement itself.
    ///
    /// # Errors
    /// A refusal: nothing was done. [`Trouble::Lost`]: not known, or another session is at it.
    pub(super) async fn end(
        &mut self,
        name: &PreparedName,
        xid: u64,
        anchor: &Anchor,
        verb: Verb,
    ) -> Result<Ended, Trouble> {
        let until = tokio::time::Instant::now() + self.limit;
        let mut sent = false;
        let mut trouble = Trouble::Lost("another session is ending it, or waits for a standby".to_owned());
        loop {
            match self.prepared_xid(name).await {
                Ok(Some(found)) if found == xid => {}
                Ok(found) => {
                    let fate = self.fate(xid, anchor).await?;
                    return Ok(match (found, fate) {
                        (_, Fate::InProgress) => return Err(trouble),
                        (Some(other), _) if !sent => Ended::Another(other),
                        (_, fate) if sent && fate == verb.fate() => Ended::Done,
                        (_, fate) => Ended::Gone(fate),
                    });
                }
                // May come back until the limit.
                Err(lost @ Trouble::Lost(_)) => trouble = lost,
                Err(refused) => return Err(refused),
            }
            match self.send(name, verb).await {
                Ok(()) => sent = true,
                Err(Trouble::Refused { code, .. }) if code == "42704" => {}
                Err(Trouble::Refused { code, .. }) if code == "55000" => {}
                Err(Trouble::Refused { code, text }) => {
                    let hint = match code.as_str() {
                        "42501" => "; only the role that prepared it, or a superuser, may end it",
                        "0A000" => "; it belongs to another database of this server",
                        _ => "",
                    };
                    return Err(Trouble::Refused { text: format!("{text}{hint}"), code });
                }
                Err(lost) => {
                    sent = true;
                    trouble = lost;
                }
            }
            if tokio::time::Instant::now() >= until {
                return Err(trouble);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    async fn send(&mut self, name: &PreparedName, verb: Verb) -> Result<(), Trouble> {
        // No parameter can stand there. The alphabet of a name is closed: letters, digits, `-_.:`.
        let sql = format!("{} '{name}'", verb.sql());
        self.run(async |connection: &mut PgConnection| {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
        })
        .await
    }
}

/// Between looks at a branch that another session is ending.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A connection on which what is committed is durable, at synchronous standbys too, and on which nothing in
/// another schema can stand in for a function here.
async fn open(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(
        "SELECT set_config('search_path', 'pg_catalog', false), \
                set_config('default_transaction_isolation', 'read committed', false), \
                set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
                           WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)",
    )
    .execute(&mut connection)
    .await?;
    Ok(connection)
}

/// A 64-bit xid from the texts that a server answered.
pub(super) fn xid_of(low: &str, next: &str) -> Result<u64, sqlx::Error> {
    match (low.parse(), next.parse()) {
        (Ok(low), Ok(next)) => Ok(full_xid(next, low)),
        _ => Err(sqlx::Error::Protocol(format!("the server named the xids {low:?} and {next:?}"))),
    }
}

/// A failure that says that an end is not known.
pub(super) fn unknown(name: &PreparedName, trouble: &Trouble) -> Failure {
    Failure::new(Exit::Unknown, format!("whether {name} was ended is not known"))
        .cause(trouble.text())
        .code(ErrorCode::OutcomeUnknown)
        .next("run the same command again: it looks first, and repeating it does no harm")
}
