//! A shell that outlives this process by a moment, to leave nothing behind.
//!
//! A server must not outlive whoever started it, not even if that process is killed or leaves by
//! `exit` with the server in a static. The watchdog reads a pipe whose only writing end is held
//! here: when the pipe ends, it stops the process that it was last told of and removes the
//! directory. It sits in a process group of its own, so that a Ctrl-C does not reach it first.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::ServerError;

/// `$1` is the directory. A line is the pid to stop, or empty for none. SIGQUIT is PostgreSQL's
/// immediate shutdown, and ends `initdb` too. The postmaster removes its pid file last, which
/// tells that it is gone even where nobody reaps orphans; the bound is 10 s.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pid=
while IFS= read -r line; do pid=$line; done
if [ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null; then
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 200 ]; do
        [ "$tries" -gt 2 ] && [ ! -e "$1/data/postmaster.pid" ] && break
        tries=$((tries + 1))
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf -- "$1" 2>/dev/null || { sleep 1; rm -rf -- "$1"; }
"#;

/// The running shell.
#[derive(Debug)]
pub(crate) struct Watchdog {
    child: Child,
    /// `None` only while it is being dropped.
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts it for a directory, which it will remove.
    pub(crate) fn start(directory: &Path) -> Result<Self, ServerError> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "pactum-postgres-server"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(ServerError::io("cannot start the watchdog (/bin/sh)"))?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Names the process to stop; `None`: there is none now.
    pub(crate) fn watch(&mut self, pid: Option<u32>) -> Result<(), ServerError> {
        let line = pid.map_or_else(String::new, |pid| pid.to_string());
        match &mut self.pipe {
            Some(pipe) => writeln!(pipe, "{line}").map_err(ServerError::io("the watchdog is gone")),
            None => Ok(()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        drop(self.child.wait()); // reaps it; there is nobody to tell of an error
    }
}
