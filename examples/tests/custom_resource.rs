//! The example of hooks around a directory of files: it runs, and its hooks keep the contract.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::path::PathBuf;
use std::process::Command;

use pactum::resource::{BranchContext, Operation};
use pactum::testing::{Fixture, contract};
use pactum_examples::custom_resource::{FileResource, Publication};

/// What the refused operation exceeds.
const CONTENT_BYTES_MAX: usize = 64;

struct Files {
    root: PathBuf,
}

impl Files {
    fn name(key: u64) -> String {
        format!("file-{key}.txt")
    }
}

impl Fixture for Files {
    type Resource = FileResource;

    async fn restart(&self) -> FileResource {
        FileResource::open("files", &self.root, CONTENT_BYTES_MAX).unwrap()
    }

    async fn work(&self, resource: &FileResource, branch: &BranchContext, key: u64) -> Result<(), String> {
        let content = key.to_string().into_bytes();
        resource.hold(branch, Publication::new(&Self::name(key), content).ok_or("no such name")?);
        Ok(())
    }

    async fn count(&self, key: u64) -> Result<u64, String> {
        let found = std::fs::read(self.root.join("published").join(Self::name(key)));
        Ok(u64::from(found.is_ok_and(|content| content == key.to_string().as_bytes())))
    }

    fn operation(&self, key: u64) -> Option<Operation> {
        let payload = format!("{}\n{key}", Self::name(key)).into_bytes();
        Some(Operation { name: "publish".into(), payload: payload.into() })
    }

    fn refused_operation(&self) -> Option<Operation> {
        let payload = format!("file.txt\n{}", "x".repeat(CONTENT_BYTES_MAX + 1)).into_bytes();
        Some(Operation { name: "publish".into(), payload: payload.into() })
    }
}

#[tokio::test]
async fn a_directory_of_files_keeps_the_contract() {
    let place = tempfile::tempdir().unwrap();
    let checked = contract(&Files { root: place.path().to_owned() }).await.unwrap();
    assert_eq!(checked.len(), 23, "20 rules, and three about operations: {checked:?}");
    let unfinished = std::fs::read_dir(place.path().join("staged")).unwrap().count();
    assert_eq!(unfinished, 0, "every rule ends its branches");
}

/// A crash between the evidence and the rename: the promise is found, and kept once.
#[tokio::test]
async fn a_commit_that_was_cut_off_after_its_evidence_is_finished_once() {
    use pactum::Resource as _;
    use pactum::resource::{BranchOutcome, Prepared};

    let place = tempfile::tempdir().unwrap();
    let files = Files { root: place.path().to_owned() };
    let resource = files.restart().await;
    let cluster = pactum::Cluster::new("cut-off").unwrap();
    let branch = pactum::testing::branch_context(&cluster, std::time::Duration::from_mins(1));
    files.work(&resource, &branch, 1).await.unwrap();
    let Ok(Prepared::Yes(evidence)) = resource.prepare(&branch, None).await else { panic!("it votes no") };
    let cut_off = format!("{}~{}~committed", branch.name, evidence.execution);
    std::fs::write(place.path().join("ended").join(cut_off), "").unwrap();
    drop(resource);

    let restarted = files.restart().await;
    assert_eq!(restarted.recover(&cluster).await.unwrap().len(), 1);
    assert_eq!(files.count(1).await.unwrap(), 0);
    for _ in 0..2 {
        let outcome = restarted.commit(&branch, &evidence, None).await;
        assert_eq!(outcome.unwrap(), BranchOutcome::Committed);
        assert_eq!(files.count(1).await.unwrap(), 1);
        // A later publication in the same place is not undone by a repetition.
        std::fs::write(place.path().join("published").join(Files::name(1)), "1").unwrap();
    }
}

/// Else the later commit would undo the earlier one, whichever the transactions' order is.
#[tokio::test]
async fn a_promise_keeps_other_branches_away_from_its_place() {
    use pactum::Resource as _;
    use pactum::resource::{BranchOutcome, Prepared};

    let place = tempfile::tempdir().unwrap();
    let files = Files { root: place.path().to_owned() };
    let (one, another) = (files.restart().await, files.restart().await);
    let cluster = pactum::Cluster::new("same-place").unwrap();
    let time = std::time::Duration::from_mins(1);
    let first = pactum::testing::branch_context(&cluster, time);
    let (second, third) =
        (pactum::testing::branch_context(&cluster, time), pactum::testing::branch_context(&cluster, time));

    files.work(&one, &first, 1).await.unwrap();
    assert!(matches!(one.prepare(&first, None).await, Ok(Prepared::Yes(_))));
    files.work(&another, &second, 1).await.unwrap();
    let refused = another.prepare(&second, None).await.unwrap_err();
    assert!(refused.message.contains("another branch"), "{refused}");
    assert_eq!(one.abort(&first, None).await.unwrap(), BranchOutcome::Aborted);
    files.work(&another, &third, 1).await.unwrap();
    assert!(matches!(another.prepare(&third, None).await, Ok(Prepared::Yes(_))));
}

#[test]
fn a_name_that_leads_out_of_the_directory_is_refused() {
    for bad in ["", "../menu", "a/b", ".hidden", "UPPER", "a~b", &"a".repeat(101)] {
        assert!(Publication::new(bad, *b"text").is_none(), "{bad}");
    }
    assert!(Publication::new("menu.txt", *b"text").is_some());
}

#[test]
fn the_example_shows_what_it_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_custom_resource")).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{out}\n{err}", output.status);
    for line in [
        "   committed\n     left   published: soup 4.00\n     right  published: soup 4.00\n",
        "   aborted: right: menu.txt has 127 bytes, and this directory takes 64 at most\n",
        "     right  published: soup 4.00  (and a promise to publish another)\n",
        "   committed\n     left   published: soup 6.00\n     right  published: soup 6.00\n",
        "Shown: one commit, one abort by a vote, and a promise kept over a participant's restart.\n",
    ] {
        assert!(out.contains(line), "{line:?} is missing in:\n{out}");
    }
}
