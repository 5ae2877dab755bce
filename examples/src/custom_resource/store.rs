//! The directory on disk. Knows nothing of coordinators; all calls block.
//!
//! ```text
//!  root/published/menu.html                        what the world sees
//!  root/staged/<branch>~<execution>~menu.html      a promise: may be published at any later time
//!  root/ended/<branch>~<execution>~committed       what became of it, kept until forgotten
//!  root/identity  root/lock
//! ```
//!
//! Each step is one atomic operation of the file system, made durable by an fsync of the file and
//! of its directory before the next, and each may be repeated after a crash at any point:
//!
//! * **stage**: write a temporary file, fsync, rename it into `staged/`, fsync. The name says it
//!   all: the branch, the execution, and where it shall go.
//! * **commit**: write the evidence into `ended/`, then rename the staged file to where it is seen.
//!   The rename moves the file, so that no crash can publish one execution twice.
//! * **abort**: write the evidence, then remove the staged file.
//!
//! Evidence comes first: once the staged file is gone, it alone tells *committed* from *aborted*, and
//! "not found" from both. A staged file keeps other branches away from the same place, as a row lock
//! would, until it has ended.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pactum::resource::PreparedName;

/// Longest name of a published file, in bytes: with the branch (at most 116) and the execution (32)
/// the staged name stays under the 255 bytes that file systems allow.
const NAME_BYTES_MAX: usize = 100;

/// A file to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    name: String,
    content: Arc<[u8]>,
}

impl Publication {
    /// A file of that name: 1 to 100 of `a-z 0-9 - _ .`, the first a letter or digit, so that it
    /// cannot lead out of the directory. `None` if it is not of that form.
    pub fn new(name: &str, content: impl Into<Arc<[u8]>>) -> Option<Self> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
        let fits = name.len() <= NAME_BYTES_MAX && name.bytes().next().is_some_and(plain);
        let all_plain = name.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'_' | b'.'));
        (fits && all_plain).then(|| Self { name: name.to_owned(), content: content.into() })
    }
}

/// A promise found on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The branch that it belongs to.
    pub branch: PreparedName,
    /// Which execution of that branch it is.
    pub execution: String,
    /// Where it shall be published.
    name: String,
}

impl Staged {
    fn file_name(&self) -> String {
        format!("{}~{}~{}", self.branch, self.execution, self.name)
    }

    fn parse(file_name: &str) -> Option<Self> {
        let mut parts = file_name.splitn(3, '~');
        let (branch, execution, name) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { branch: branch.parse().ok()?, execution: execution.into(), name: name.into() })
    }
}

/// How a staged file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was published.
    Committed,
    /// It was removed.
    Aborted,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
        }
    }
}

/// A file was not staged.
#[derive(Debug)]
pub enum StageError {
    /// A rule of the directory; for people.
    Refused(String),
    /// The disk.
    Disk(io::Error),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// One directory. Any number of processes may have it open: a lock file serialises them.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    identity: String,
    content_bytes_max: usize,
}

/// Keeps everybody from changing the directory while it lives, for instance for a backup.
#[derive(Debug)]
pub struct Freeze {
    _lock: File,
}

impl Store {
    /// Opens the directory, and makes what is missing in it. Files of more than
    /// `content_bytes_max` bytes are refused.
    ///
    /// # Errors
    /// The disk, or `root` spans file systems, where no rename is atomic.
    pub fn open(root: &Path, content_bytes_max: usize) -> io::Result<Self> {
        for directory in ["published", "staged", "ended"] {
            DirBuilder::new().recursive(true).create(root.join(directory))?;
        }
        let mut store = Self { root: root.to_owned(), identity: String::new(), content_bytes_max };
        let _lock = store.freeze()?;
        // Drawn once: it tells this directory from any other, also from one put in its place.
        let identity = root.join("identity");
        if !identity.try_exists()? {
            write_durably(&root.join("identity.new"), rand_hex().as_bytes())?;
            fs::rename(root.join("identity.new"), &identity)?;
        }
        sync_directory(root)?;
        for entry in fs::read_dir(root.join("staged"))? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                fs::remove_file(entry.path())?; // a crash came before the promise was made
            }
        }
        store.identity = fs::read_to_string(&identity)?;
        store.check()?;
        Ok(store)
    }

    /// Checks that a rename from `staged` to `published` is atomic.
    ///
    /// # Errors
    /// It is not, or the disk.
    pub fn check(&self) -> io::Result<()> {
        let device = |directory: &str| Ok::<_, io::Error>(fs::metadata(self.root.join(directory))?.dev());
        if device("staged")? == device("published")? {
            return Ok(());
        }
        let root = self.root.display();
        Err(io::Error::other(format!("{root}/staged and {root}/published must be on one file system")))
    }

    /// Tells this directory from any other.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits for the directory's lock, and holds it.
    ///
    /// # Errors
    /// The disk.
    pub fn freeze(&self) -> io::Result<Freeze> {
        let lock = OpenOptions::new().create(true).append(true).open(self.root.join("lock"))?;
        lock.lock()?;
        Ok(Freeze { _lock: lock })
    }

    /// What the world sees under that name, if anything.
    ///
    /// # Errors
    /// The disk.
    pub fn published(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        if_found(fs::read(self.root.join("published").join(name)))
    }

    /// Promises to publish. Durable on return: it can be committed or aborted after any crash.
    ///
    /// # Errors
    /// Refused; or the disk, and then it is not known whether the promise stands: abort it.
    pub fn stage(&self, branch: &PreparedName, publication: &Publication) -> Result<Staged, StageError> {
        let Publication { name, content } = publication;
        if content.len() > self.content_bytes_max {
            return Err(StageError::Refused(format!(
                "{name} has {} bytes, and this directory takes {} at most",
                content.len(),
                self.content_bytes_max
            )));
        }
        let _lock = self.freeze()?;
        let staged = self.staged()?;
        if staged.iter().any(|other| other.branch == *branch || other.name == *name) {
            return Err(StageError::Refused(format!("{name} is about to be published by another branch")));
        }
        let staged = Staged { branch: branch.clone(), execution: rand_hex(), name: name.clone() };
        let directory = self.root.join("staged");
        // No name that `parse` takes for a promise, so a crash here leaves none.
        let unfinished = directory.join(format!(".{}", staged.execution));
        write_durably(&unfinished, content)?;
        fs::rename(&unfinished, directory.join(staged.file_name()))?;
        sync_directory(&directory)?;
        Ok(staged)
    }

    /// Everything that is promised.
    ///
    /// # Errors
    /// The disk.
    pub fn staged(&self) -> io::Result<Vec<Staged>> {
        let mut staged = Vec::new();
        for entry in fs::read_dir(self.root.join("staged"))? {
            staged.extend(entry?.file_name().to_str().and_then(Staged::parse));
        }
        Ok(staged)
    }

    /// What is promised for that branch.
    ///
    /// # Errors
    /// The disk.
    pub fn staged_for(&self, branch: &PreparedName) -> io::Result<Option<Staged>> {
        Ok(self.staged()?.into_iter().find(|staged| staged.branch == *branch))
    }

    /// How that execution ended; `None` if it has not, or never was.
    ///
    /// # Errors
    /// The disk.
    pub fn end_of(&self, branch: &PreparedName, execution: &str) -> io::Result<Option<End>> {
        for end in [End::Committed, End::Aborted] {
            if self.evidence(branch, execution, end).try_exists()? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Whether any execution of that branch was published.
    ///
    /// # Errors
    /// The disk.
    pub fn was_committed(&self, branch: &PreparedName) -> io::Result<bool> {
        let of_branch = format!("{branch}~");
        for entry in fs::read_dir(self.root.join("ended"))? {
            let name = entry?.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&of_branch));
            if rest.is_some_and(|rest| rest.ends_with(End::Committed.name())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Publishes or removes a promise. Durable on return. What was begun before stands, so the
    /// answer, and not the wish, says how it ended. May be repeated.
    ///
    /// # Errors
    /// The disk: repeat it.
    pub fn end(&self, staged: &Staged, wish: End) -> io::Result<End> {
        let _lock = self.freeze()?;
        let end = if let Some(end) = self.end_of(&staged.branch, &staged.execution)? {
            end
        } else {
            File::create(self.evidence(&staged.branch, &staged.execution, wish))?.sync_all()?;
            wish
        };
        // Also for evidence that we found: its writer may have died before this.
        sync_directory(&self.root.join("ended"))?;
        let from = self.root.join("staged").join(staged.file_name());
        // If it is gone somebody was here before us, and the evidence says what he did. Looked at
        // apart: "not found" from a rename may also mean where it goes to.
        if from.try_exists()? {
            match end {
                End::Committed => fs::rename(&from, self.root.join("published").join(&staged.name))?,
                End::Aborted => fs::remove_file(&from)?,
            }
        }
        sync_directory(&self.root.join("published"))?;
        sync_directory(&self.root.join("staged"))?;
        Ok(end)
    }

    /// Drops the evidence about a branch that nobody will ask about any more.
    ///
    /// # Errors
    /// The disk. Too much evidence does no harm.
    pub fn forget(&self, branch: &PreparedName) -> io::Result<()> {
        let of_branch = format!("{branch}~");
        for entry in fs::read_dir(self.root.join("ended"))? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&of_branch)) {
                if_found(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    fn evidence(&self, branch: &PreparedName, execution: &str, end: End) -> PathBuf {
        self.root.join("ended").join(format!("{branch}~{execution}~{}", end.name()))
    }
}

fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes the names in a directory durable: an fsync of a file does not.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn rand_hex() -> String {
    format!("{:032x}", rand::random::<u128>())
}
