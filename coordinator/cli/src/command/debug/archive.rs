//! The file: a compressed tar archive, readable by its owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::exit::Exit;
use crate::failure::Failure;

/// Makes the file, which must not be there.
pub(super) fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let shown = path.display();
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failure::new(Exit::Refused, format!("{shown} is there already"))
                .next("give another name with --file; nothing is ever written over")
        } else {
            Failure::new(Exit::Failed, format!("{shown} cannot be made")).because(&error)
        }
    })
}

/// Writes the parts, all under one folder, and waits until they are on the disk.
pub(super) fn write(file: File, parts: &[(String, String)], modified: i64) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(modified).unwrap_or_default());
        archive.append_data(&mut header, format!("pactum-debug/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.tar.gz");
        let parts = [("README.txt".to_owned(), "read me".to_owned()), ("a.json".to_owned(), "{}".to_owned())];
        write(create(&path).unwrap(), &parts, 1).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&path).unwrap()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            found.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(found[0], ("pactum-debug/README.txt".to_owned(), "read me".to_owned()));
        assert_eq!(found.len(), 2);
        assert_eq!(create(&path).unwrap_err().exit(), Exit::Refused);
    }
}
