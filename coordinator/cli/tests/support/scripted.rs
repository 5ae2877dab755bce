//! A coordinator's admin service that answers as it is told to, and remembers what it was asked.
//!
//! The first digit of a gid says how: see [`Scripted::transaction`] and [`Scripted::plan`].

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use pactum_coordinator::decision_log::{AuditDraft, AuditEntry, AuditHash, AuditKind};
use pactum_proto::error::{ErrorCode, call_error, invalid_argument, status};
use pactum_proto::v1;
use pactum_proto::v1::admin_service_server::{AdminService, AdminServiceServer};
use tonic::{Request, Response, Status};

use super::samples;

/// Entries of its audit: more than two of the largest pages.
pub(crate) const AUDIT_ENTRIES: u64 = 2_345;

/// A server in this process; it serves until the process ends.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Seen>>,
}

/// What was asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) planned: Vec<v1::Act>,
    pub(crate) performed: Vec<v1::PerformActRequest>,
    pub(crate) listed: Vec<v1::ListTransactionsRequest>,
    pub(crate) inspected: Vec<v1::InspectTransactionRequest>,
    pub(crate) branches: Vec<v1::ListBranchesRequest>,
    pub(crate) audits: Vec<v1::ListAuditRequest>,
    /// What stood in `authorization`, call by call.
    pub(crate) authorization: Vec<Option<String>>,
}

impl Server {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let scripted = Scripted { seen: Arc::clone(&seen), audit: audit() };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                tonic::transport::Server::builder()
                    .add_service(AdminServiceServer::new(scripted))
                    .serve_with_incoming(incoming)
                    .await
                    .unwrap();
            });
        });
        Self { url, seen }
    }

    /// The command, asking this server.
    pub(crate) fn ask(&self, args: &[&str]) -> std::process::Output {
        super::run(&[args, &["--server", &self.url]].concat())
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

/// A chain, with an act a pair of entries.
pub(crate) fn audit() -> Vec<AuditEntry> {
    let mut previous = AuditHash::default();
    let mut entries = Vec::new();
    for number in 1..=AUDIT_ENTRIES {
        let ends = number % 2 == 0;
        let draft = AuditDraft {
            kind: if ends { AuditKind::Done } else { AuditKind::Begun },
            begun: ends.then(|| number - 1),
            who: "ann".into(),
            origin: "127.0.0.1:5 grpc".into(),
            act: "resolve".into(),
            target: "33333333-3333-3333-3333-333333333333".into(),
            reason: "nobody \"will\" commit it".into(),
            plan: "resolve it, 00".into(),
            before: "{\"state\":\"undecided\"}".into(),
            after: if ends { "{\"state\":\"aborted\"}".into() } else { String::new() },
            result: if ends { "aborted, durably".into() } else { String::new() },
            incarnation: ends.then(|| samples::INCARNATION.parse().unwrap()),
        };
        let entry = AuditEntry::link(number, 1_769_827_278_152_000, draft, previous);
        previous = entry.hash;
        entries.push(entry);
    }
    entries
}

struct Scripted {
    seen: Arc<Mutex<Seen>>,
    audit: Vec<AuditEntry>,
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Scripted {
    fn see<T>(&self, request: Request<T>, note: impl FnOnce(&mut Seen, &T)) -> T {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let request = request.into_inner();
        let mut seen = self.seen.lock().unwrap();
        seen.authorization.push(authorization);
        note(&mut seen, &request);
        request
    }

    /// A transaction whose every digit is the one asked for, or what that digit stands for.
    async fn transaction(gid: &str) -> Result<v1::Transaction, Status> {
        match gid.chars().next().unwrap() {
            '0' => Err(status(ErrorCode::TransactionNotFound, "there is no transaction 0000", None)),
            '1' => std::future::pending().await,
            '2' => Err(status(ErrorCode::PermissionDenied, "operators only", None)),
            '4' => Err(status(ErrorCode::Internal, "a broken contract", None)),
            '5' => Err(invalid_argument("gid", "at least 4 digits are needed")),
            '6' => Err(status(ErrorCode::Starting, "no incarnation yet", Some(Duration::from_secs(1)))),
            'a' => Err(status(ErrorCode::Unauthenticated, "who asks?", None)),
            'd' => Err(status(ErrorCode::AmbiguousGid, "\"dddd\" fits several transactions", None)),
            // One that has everything.
            'f' => Ok(samples::transaction()),
            digit => {
                let gid = uuid::Uuid::parse_str(&digit.to_string().repeat(32)).unwrap();
                let id = v1::TransactionId { incarnation: vec![1; 16], gid: gid.into_bytes().to_vec() };
                let state = v1::TransactionState::Active.into();
                Ok(v1::Transaction { id: Some(id), state, ..v1::Transaction::default() })
            }
        }
    }

    /// 8: refused by the log. 9: has changed when it is to be done. Names of acts on no transaction
    /// begin with none of these.
    async fn plan(&self, asked: v1::Act) -> Result<v1::Plan, Status> {
        use v1::act::Act;
        let (gid, name) = match asked.act.clone().unwrap() {
            Act::Retry(act) => (act.gid, String::new()),
            Act::Resolve(act) => (act.gid, String::new()),
            Act::Overrule(act) => (act.gid, String::new()),
            Act::Forget(act) => (act.gid, String::new()),
            Act::Release(_) => (String::new(), "release".to_owned()),
            Act::Drain(act) => (String::new(), act.resource),
            Act::Resume(act) => (String::new(), act.resource),
        };
        let mut plan = samples::plan();
        plan.act = Some(asked);
        plan.transaction = None;
        if gid.is_empty() {
            plan.confirmation = name;
            return Ok(plan);
        }
        let transaction = Self::transaction(&gid).await?;
        let whole = uuid::Uuid::from_slice(&transaction.id.as_ref().unwrap().gid).unwrap();
        plan.confirmation = whole.simple().to_string().split_off(26);
        plan.command = format!("pactum tx resolve {whole} --reason TEXT");
        // With whole names, as the contract has it.
        match plan.act.as_mut().unwrap().act.as_mut().unwrap() {
            Act::Retry(act) => act.gid = whole.to_string(),
            Act::Resolve(act) => act.gid = whole.to_string(),
            Act::Overrule(act) => act.gid = whole.to_string(),
            Act::Forget(act) => act.gid = whole.to_string(),
            Act::Release(_) | Act::Drain(_) | Act::Resume(_) => {}
        }
        plan.transaction = Some(transaction);
        if gid.starts_with('8') {
            plan.refusal = Some(call_error(ErrorCode::AlreadyCommitted, "commit is decided", None));
        }
        if gid.starts_with('9') && !self.seen.lock().unwrap().performed.is_empty() {
            plan.facts = vec!["another operator was first".into()];
        }
        Ok(plan)
    }
}

#[tonic::async_trait]
impl AdminService for Scripted {
    type WatchTransactionStream = Answers<v1::WatchTransactionResponse>;
    type WatchTransactionsStream = Answers<v1::WatchTransactionsResponse>;

    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Answer<v1::GetServerInfoResponse> {
        self.see(request, |_, _| {});
        Ok(Response::new(v1::GetServerInfoResponse { cluster: "scripted".into(), ..Default::default() }))
    }

    async fn get_config(&self, _: Request<v1::GetConfigRequest>) -> Answer<v1::GetConfigResponse> {
        Ok(Response::new(v1::GetConfigResponse { settings: Vec::new() }))
    }

    async fn get_log_status(&self, _: Request<v1::GetLogStatusRequest>) -> Answer<v1::GetLogStatusResponse> {
        Ok(Response::new(v1::GetLogStatusResponse::default()))
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Answer<v1::ListTransactionsResponse> {
        let request = self.see(request, |seen, request| seen.listed.push(request.clone()));
        if request.filter.contains("colour") {
            return Err(invalid_argument("filter", "\"colour\" is no key; state, age, name and others are"));
        }
        if request.filter.contains("nobody") {
            return Ok(Response::new(v1::ListTransactionsResponse::default()));
        }
        let transactions = vec![Self::transaction("7").await?, Self::transaction("3").await?];
        Ok(Response::new(v1::ListTransactionsResponse { transactions, next_page_token: "next".into() }))
    }

    async fn inspect_transaction(
        &self,
        request: Request<v1::InspectTransactionRequest>,
    ) -> Answer<v1::InspectTransactionResponse> {
        let request = self.see(request, |seen, request| seen.inspected.push(request.clone()));
        let transaction = Some(Self::transaction(&request.gid).await?);
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
        let messages = futures::stream::iter(states).map(move |state| {
            let transaction = v1::Transaction { state: state.into(), ..transaction.clone() };
            Ok(v1::WatchTransactionResponse { transaction: Some(transaction) })
        });
        // One that never ends.
        if gid.starts_with('8') {
            return Ok(Response::new(Box::pin(messages.chain(futures::stream::pending()))));
        }
        Ok(Response::new(Box::pin(messages)))
    }

    async fn watch_transactions(
        &self,
        request: Request<v1::WatchTransactionsRequest>,
    ) -> Answer<Self::WatchTransactionsStream> {
        let request = self.see(request, |seen, request| seen.listed.extend(request.list.clone()));
        let (first, second) = (Self::transaction("7").await?, Self::transaction("3").await?);
        let lists = vec![vec![first.clone(), second.clone()], vec![first.clone(), second], vec![first]];
        let messages = futures::stream::iter(lists)
            .map(|transactions| Ok(v1::WatchTransactionsResponse { transactions, more: false }));
        // The name says whether the server goes away after its last list.
        if request.list.unwrap().filter == "name=ends" {
            return Ok(Response::new(Box::pin(messages)));
        }
        Ok(Response::new(Box::pin(messages.chain(futures::stream::pending()))))
    }

    async fn list_branches(
        &self,
        request: Request<v1::ListBranchesRequest>,
    ) -> Answer<v1::ListBranchesResponse> {
        let request = self.see(request, |seen, request| seen.branches.push(request.clone()));
        let mut response = samples::branches();
        match request.resource.as_str() {
            "quiet" => response = v1::ListBranchesResponse::default(),
            "bank-a" => response.problems.clear(),
            _ => {}
        }
        Ok(Response::new(response))
    }

    async fn list_heuristics(
        &self,
        request: Request<v1::ListHeuristicsRequest>,
    ) -> Answer<v1::ListHeuristicsResponse> {
        let request = self.see(request, |_, _| {});
        let heuristics = if request.page_token.is_empty() { vec![samples::heuristic()] } else { Vec::new() };
        Ok(Response::new(v1::ListHeuristicsResponse { heuristics, next_page_token: String::new() }))
    }

    async fn list_participants(
        &self,
        request: Request<v1::ListParticipantsRequest>,
    ) -> Answer<v1::ListParticipantsResponse> {
        self.see(request, |_, _| {});
        Ok(Response::new(v1::ListParticipantsResponse { participants: samples::participants() }))
    }

    async fn plan_act(&self, request: Request<v1::PlanActRequest>) -> Answer<v1::PlanActResponse> {
        let request = self.see(request, |seen, request| seen.planned.push(request.act.clone().unwrap()));
        let plan = Some(self.plan(request.act.unwrap()).await?);
        Ok(Response::new(v1::PlanActResponse { plan }))
    }

    async fn perform_act(&self, request: Request<v1::PerformActRequest>) -> Answer<v1::PerformActResponse> {
        let request = self.see(request, |seen, request| seen.performed.push(request.clone()));
        let plan = self.plan(request.act.unwrap()).await?;
        let gid = plan.transaction.as_ref().map(|it| it.id.as_ref().unwrap().gid[0] >> 4);
        match gid {
            Some(0x7) => std::future::pending().await,
            Some(0x9) => Err(status(ErrorCode::PlanChanged, "the state is not the one planned for", None)),
            _ => Ok(Response::new(v1::PerformActResponse {
                summary: "done as planned".into(),
                audit_number: 12,
                transaction: plan.transaction,
            })),
        }
    }

    async fn list_audit(&self, request: Request<v1::ListAuditRequest>) -> Answer<v1::ListAuditResponse> {
        let request = self.see(request, |seen, request| seen.audits.push(*request));
        let size = usize::try_from(request.page_size).unwrap();
        let entries: Vec<&AuditEntry> = if let Some(after) = request.after {
            self.audit.iter().filter(|entry| entry.number > after).take(size).collect()
        } else {
            let before = request.before.unwrap_or(u64::MAX);
            self.audit.iter().rev().filter(|entry| entry.number < before).take(size).collect()
        };
        let entries = entries.into_iter().map(samples::audit_entry).collect();
        Ok(Response::new(v1::ListAuditResponse { entries }))
    }
}
