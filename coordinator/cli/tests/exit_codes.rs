//! Each exit code of the command, against a server that answers as it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use futures::Stream;
use pactum_proto::error::{ErrorCode, invalid_argument, status};
use pactum_proto::v1;
use pactum_proto::v1::admin_service_server::{AdminService, AdminServiceServer};
use support::{assert_exit, pactum, run, stderr, stdout};
use tonic::{Request, Response, Status};

/// Answers by the gid's digits; see [`Scripted::transaction`].
#[derive(Debug)]
struct Scripted;

type Answer<T> = Result<Response<T>, Status>;

impl Scripted {
    /// A transaction whose every digit is the one asked for, or what that digit stands for.
    async fn transaction(gid: &str) -> Result<v1::Transaction, Status> {
        let digit = gid.chars().next().unwrap();
        match digit {
            '0' => Err(status(ErrorCode::TransactionNotFound, "there is no transaction 0000", None)),
            '1' => std::future::pending().await,
            '2' => Err(Status::permission_denied("operators only")),
            '4' => Err(status(ErrorCode::Internal, "a broken contract", None)),
            '5' => Err(invalid_argument("gid", "at least 4 digits are needed")),
            '6' => Err(status(ErrorCode::Starting, "no incarnation yet", Some(Duration::from_secs(1)))),
            'a' => Err(Status::unauthenticated("who asks?")),
            _ => {
                let mut bytes = uuid::Uuid::parse_str(&digit.to_string().repeat(32)).unwrap().into_bytes();
                bytes[15] ^= 0;
                let id = v1::TransactionId { incarnation: vec![1; 16], gid: bytes.to_vec() };
                let state = v1::TransactionState::Active.into();
                Ok(v1::Transaction { id: Some(id), state, ..v1::Transaction::default() })
            }
        }
    }
}

#[tonic::async_trait]
impl AdminService for Scripted {
    type WatchTransactionStream =
        Pin<Box<dyn Stream<Item = Result<v1::WatchTransactionResponse, Status>> + Send>>;

    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Answer<v1::GetServerInfoResponse> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Answer<v1::ListTransactionsResponse> {
        let request = request.into_inner();
        let transactions = vec![Self::transaction("7").await?, Self::transaction("3").await?];
        // Answers what it was asked, so that a test sees the request.
        let next_page_token = format!("{}-{}-{}", request.page_size, request.in_doubt, request.finished);
        Ok(Response::new(v1::ListTransactionsResponse { transactions, next_page_token }))
    }

    async fn inspect_transaction(
        &self,
        request: Request<v1::InspectTransactionRequest>,
    ) -> Answer<v1::InspectTransactionResponse> {
        let transaction = Some(Self::transaction(&request.into_inner().gid).await?);
        Ok(Response::new(v1::InspectTransactionResponse { transaction }))
    }

    async fn watch_transaction(
        &self,
        request: Request<v1::WatchTransactionRequest>,
    ) -> Answer<Self::WatchTransactionStream> {
        use v1::TransactionState::{Aborted, Active, Committed, Committing};
        let gid = request.into_inner().gid;
        let transaction = Self::transaction(&gid).await?;
        let states = match gid.chars().next().unwrap() {
            '3' => vec![Committing, Committed],
            '9' => vec![Active, Aborted],
            _ => vec![Active],
        };
        let messages = states.into_iter().map(move |state| {
            let transaction = v1::Transaction { state: state.into(), ..transaction.clone() };
            Ok(v1::WatchTransactionResponse { transaction: Some(transaction) })
        });
        let messages = futures::stream::iter(messages);
        // One that never ends.
        if gid.starts_with('8') {
            use futures::StreamExt;
            return Ok(Response::new(Box::pin(messages.chain(futures::stream::pending()))));
        }
        Ok(Response::new(Box::pin(messages)))
    }

    async fn resolve_transaction(
        &self,
        request: Request<v1::ResolveTransactionRequest>,
    ) -> Answer<v1::ResolveTransactionResponse> {
        match request.into_inner().gid.chars().next().unwrap() {
            '7' => std::future::pending().await,
            '8' => Err(status(ErrorCode::AlreadyCommitted, "commit is decided", None)),
            _ => Ok(Response::new(v1::ResolveTransactionResponse { outcome: None })),
        }
    }

    async fn retry_transaction(
        &self,
        request: Request<v1::RetryTransactionRequest>,
    ) -> Answer<v1::RetryTransactionResponse> {
        let transaction = Some(Self::transaction(&request.into_inner().gid).await?);
        Ok(Response::new(v1::RetryTransactionResponse { transaction }))
    }

    async fn list_participants(
        &self,
        _: Request<v1::ListParticipantsRequest>,
    ) -> Answer<v1::ListParticipantsResponse> {
        let participant = v1::Participant {
            resource: "bank-a".into(),
            instance: vec![7; 16],
            ..v1::Participant::default()
        };
        Ok(Response::new(v1::ListParticipantsResponse { participants: vec![participant] }))
    }
}

/// Serves until the process ends; answers its URL.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(AdminServiceServer::new(Scripted))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    });
    url
}

#[test]
fn each_kind_of_answer_has_its_exit_code_and_names_its_error() {
    let server = server();
    let cases: [(&[&str], i32, &str); 16] = [
        (&["tx", "show", "3333"], 0, ""),
        (&["tx", "show", "4444"], 1, "INTERNAL (PACTUM-0022)"),
        (&["tx", "show", "6666"], 1, "try again in 1s"),
        (&["tx", "show", "5555"], 2, "gid: at least 4 digits are needed"),
        (&["tx", "show", "0000"], 3, "TRANSACTION_NOT_FOUND (PACTUM-0016)"),
        (&["tx", "show", "1111", "--timeout", "200ms"], 5, "TIMED_OUT (PACTUM-0038)"),
        (&["tx", "resolve", "8888", "--reason", "test", "--yes"], 6, "ALREADY_COMMITTED (PACTUM-0007)"),
        (&["tx", "show", "2222"], 7, "operators only"),
        (&["tx", "show", "aaaa"], 7, "who asks?"),
        (&["tx", "show", "3333", "0000"], 8, "there is no transaction 0000"),
        (&["tx", "retry", "0000", "0000"], 3, "there is no transaction 0000"),
        (&["tx", "retry", "0000", "4444"], 1, "a broken contract"),
        (
            &["tx", "resolve", "7777", "--reason", "test", "--yes", "--timeout", "200ms"],
            9,
            "may or may not have happened",
        ),
        (&["tx", "resolve", "3333", "--reason", "test", "--yes"], 0, ""),
        (&["tx", "watch", "3333"], 0, ""),
        (&["tx", "watch", "9999"], 10, ""),
    ];
    for (args, code, said) in cases {
        let output = run(&[args, &["--server", &server]].concat());
        assert_exit(&output, code);
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_server_that_is_not_there_cannot_be_connected_to() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["tx", "list", "--server", &format!("http://{free}")]);
    assert_exit(&output, 4);
    assert!(stderr(&output).contains("CANNOT_CONNECT (PACTUM-0037)"), "{}", stderr(&output));
    assert!(stdout(&output).is_empty());
}

#[test]
fn a_server_that_does_not_answer_is_given_up_on() {
    // Accepts (by the backlog) and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let output = run(&["tx", "list", "--server", &url, "--timeout", "300ms", "--connect-timeout", "300ms"]);
    assert!(matches!(output.status.code(), Some(4 | 5)), "{output:?}");
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for args in [
        &["tx", "shwo"] as &[&str],
        &["tx", "show"],
        &["tx", "list", "--server", "nonsense"],
        &["tx", "list", "--server", "https://127.0.0.1:1"],
        &["tx", "list", "--timeout", "soon"],
        &["tx", "resolve", "3333", "--yes"],
        &["demo", "transfer", "--crash", "coordinator@lunch"],
    ] {
        assert_exit(&run(args), 2);
    }
}

#[test]
fn an_interrupt_has_its_own_code() {
    let server = server();
    let mut child =
        pactum(&["tx", "watch", "8888", "--server", &server]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("ACTIVE"), "{line}");
    support::send(&child, rustix::process::Signal::INT);
    assert_eq!(support::wait(&mut child).code(), Some(130));
}

#[test]
fn resolve_fails_instead_of_asking_where_nobody_can_answer() {
    let server = server();
    for form in ["table", "json"] {
        let output = run(&["tx", "resolve", "3333", "--reason", "test", "-o", form, "--server", &server]);
        assert_exit(&output, 2);
        assert!(stderr(&output).contains("PACTUM-0040"), "{}", stderr(&output));
        assert!(stdout(&output).is_empty());
    }
    let output =
        run(&["tx", "resolve", "3333", "--reason", "test", "--dry-run", "-o", "json", "--server", &server]);
    assert_exit(&output, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(json["plan"].as_str().unwrap().contains("closes it with abort"));
}

#[test]
fn json_is_data_alone_and_jsonl_is_a_line_each() {
    let server = server();
    let list = |form: &str| {
        let output = run(&["tx", "list", "--in-doubt", "--limit", "7", "-o", form, "--server", &server]);
        assert_exit(&output, 0);
        assert!(stderr(&output).is_empty(), "{}", stderr(&output));
        stdout(&output)
    };
    let json: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!(json["next_page_token"], "7-true-false");
    assert_eq!(json["transactions"][0]["gid"], "77777777-7777-7777-7777-777777777777");
    assert_eq!(json["transactions"][0]["state"], "active");
    let lines: Vec<serde_json::Value> =
        list("jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);

    let failed = run(&["tx", "show", "0000", "-o", "json", "--server", &server]);
    let error: serde_json::Value = serde_json::from_str(&stderr(&failed)).unwrap();
    assert_eq!((error["code"].as_str(), error["exit_code"].as_u64()), (Some("PACTUM-0016"), Some(3)));
}

#[test]
fn every_option_has_a_variable_and_what_is_typed_wins() {
    let server = server();
    let from_variable =
        pactum(&["participant", "list"]).env("PACTUM_SERVER", &server).env("PACTUM_OUTPUT", "json").output();
    let json: serde_json::Value = serde_json::from_slice(&from_variable.unwrap().stdout).unwrap();
    assert_eq!(json["participants"][0]["resource"], "bank-a");
    let typed = pactum(&["participant", "list", "-o", "table"])
        .env("PACTUM_SERVER", &server)
        .env("PACTUM_OUTPUT", "json")
        .output();
    assert!(stdout(&typed.unwrap()).starts_with("RESOURCE"));
}

#[test]
fn the_help_tells_the_exit_codes_and_the_variables() {
    let help = stdout(&run(&["--help"]));
    for word in ["Exit codes:", "130", "PACTUM_SERVER", "PACTUM_TIMEOUT", "demo", "completion"] {
        assert!(help.contains(word), "{word}:\n{help}");
    }
    assert!(!help.contains("demo-bank"), "hidden commands are shown:\n{help}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&["completion", shell])).contains("pactum"), "{shell}");
    }
}

#[test]
fn errors_are_explained_offline() {
    let output = run(&["explain", "PACTUM-0007"]);
    assert_exit(&output, 0);
    assert!(stdout(&output).contains("ALREADY_COMMITTED"), "{}", stdout(&output));
    assert_exit(&run(&["explain", "PACTUM-9999"]), 3);
    let all: serde_json::Value = serde_json::from_str(&stdout(&run(&["explain", "-o", "json"]))).unwrap();
    assert_eq!(all["errors"].as_array().unwrap().len(), ErrorCode::ALL.len());
}

/// A terminal: what is written to the first is typed into the second.
fn terminal() -> (std::fs::File, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::fs::OpenOptionsExt;

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let no_control = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap();
    let slave = std::fs::File::options().read(true).write(true).custom_flags(no_control).open(name).unwrap();
    (master.into(), slave)
}

#[test]
fn on_a_terminal_resolve_shows_its_plan_and_asks_for_the_end_of_the_gid() {
    use std::io::Write;

    let server = server();
    for (typed, code) in [("333333\n", 0), ("yes\n", 1)] {
        let (mut keyboard, screen) = terminal();
        let mut command = pactum(&["tx", "resolve", "3333", "--reason", "test", "--server", &server]);
        let child = command.stdin(screen).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        keyboard.write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_exit(&output, code);
        let said = stderr(&output);
        assert!(said.contains("plan: the log closes it with abort") && said.contains("333333"), "{said}");
        assert_eq!(stdout(&output).contains("aborted, durably"), code == 0);
        assert_eq!(said.contains("nothing was done"), code == 1, "{said}");
    }
}
