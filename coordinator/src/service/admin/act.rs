//! Acts: what operators do, each planned before it is done, and audited before and after.
//!
//! ```text
//!  PlanAct ────▶ gather ─▶ plan ─▶ title, facts, steps, risk, hash, or why it would be refused
//!  PerformAct ─▶ gather ─▶ plan ─▶ same hash? ─▶ audit: begun ─▶ do ─▶ audit: done, refused or failed
//!                                                  │ nothing is done before this is durable
//! ```
//!
//! * **Compare and set.** A plan's hash names the act and the state that it was made for. An act is
//!   done only on that state: see [`perform`](self::perform) for two operators at once.
//! * **Audited.** Without a durable beginning in the audit nothing is done. An end that cannot be
//!   written is kept on being written; where the coordinator dies first, another one looks how
//!   things stand and writes that down ([`found`](self::found)).
//! * **Nobody decides commit.** An undecided transaction can be closed with abort, through the log
//!   (law 4); what contradicts the log ends one branch and is kept as a heuristic outcome (law 11).
//!
//! Each act has a file of its own with what it demands and what it does. None of them judges a vote or
//! a decision: that an undecided transaction is closed, the core sees to.

mod drain;
mod forget;
mod found;
mod gather;
mod given;
mod overrule;
mod perform;
mod plan;
mod release;
mod resolve;
mod retry;
mod state;
mod trail;

use pactum_core::outcome::HeuristicOutcome;
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use tonic::Request;

use super::Admin;
use crate::connection::peer;
use crate::error::ServiceError;
use crate::operator::{Operator, Role};
use given::Act;
use plan::Work;
pub(crate) use trail::Trail;

/// The most bytes of what a caller says of himself.
const WHO_BYTES_MAX: usize = 128;

/// The most bytes of a reason.
const REASON_BYTES_MAX: usize = 512;

/// Who asks for an act.
#[derive(Clone, Debug)]
struct Caller {
    /// A token's name, or what he says of himself.
    who: String,
    /// From where, and by what.
    origin: String,
}

/// Why an act is not done. Nothing happened.
#[derive(Clone, Debug)]
struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Refusal> for ServiceError {
    fn from(Refusal { code, message }: Refusal) -> Self {
        Self::Act { code, message }
    }
}

/// How an act ended.
#[derive(Clone, Debug)]
enum End {
    /// It was done; one sentence.
    Done(String),
    /// It was refused by the log or by a database: nothing happened.
    Refused(Refusal),
    /// It failed: it may have happened in part.
    Failed(Refusal),
}

impl End {
    /// Its name, in metrics.
    const fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
        }
    }
}

/// What one kind of act says to what was gathered.
#[derive(Debug)]
struct Proposal {
    title: String,
    steps: Vec<String>,
    /// Empty: nothing may be lost.
    risk: String,
    /// How branches would stand to the decision afterwards.
    heuristic: Option<HeuristicOutcome>,
    /// What is to be done, or why not.
    work: Result<Work, Refusal>,
}

impl Proposal {
    /// One that is refused.
    fn refused(title: String, code: ErrorCode, message: impl Into<String>) -> Self {
        let work = Err(Refusal::new(code, message));
        Self { title, steps: Vec::new(), risk: String::new(), heuristic: None, work }
    }
}

impl Admin {
    /// What an act would do now, or why it would be refused.
    pub(super) async fn planned(
        &self,
        request: v1::PlanActRequest,
    ) -> Result<v1::PlanActResponse, ServiceError> {
        self.lifecycle.serves()?;
        let act = Act::try_from(request.act.unwrap_or_default())?;
        let plan = Some(self.plan(&act).await?.into());
        Ok(v1::PlanActResponse { plan })
    }

    /// Does what was planned. Ends only with the act, also if the caller hangs up.
    pub(super) async fn performed(
        &self,
        request: Request<v1::PerformActRequest>,
    ) -> Result<v1::PerformActResponse, ServiceError> {
        self.lifecycle.serves()?;
        let caller = caller(&request)?;
        let request = request.into_inner();
        let act = Act::try_from(request.act.unwrap_or_default())?;
        let reason = reason(&request.reason)?;
        if request.plan_hash.len() != 64 || !request.plan_hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ServiceError::malformed("plan_hash", "the 64 digits of the plan are needed"));
        }
        let this = self.clone();
        let body = async move { this.perform(act, &request.plan_hash, &reason, &caller).await };
        super::finished(self.tasks.spawn(body).await)
    }
}

/// Who calls; a viewer is turned away.
fn caller(request: &Request<v1::PerformActRequest>) -> Result<Caller, ServiceError> {
    let said = request.get_ref().who.trim();
    if said.len() > WHO_BYTES_MAX || said.contains('\0') {
        return Err(ServiceError::malformed("who", "at most 128 bytes are taken, and no zero byte"));
    }
    let operator = request.extensions().get::<Operator>();
    let origin = match operator {
        Some(operator) => operator.origin.clone(),
        None => peer(request).map_or_else(|| "grpc".to_owned(), |address| format!("{address} grpc")),
    };
    let named = operator.and_then(|operator| operator.name.clone());
    let who = named.unwrap_or_else(|| if said.is_empty() { "unnamed" } else { said }.to_owned());
    if operator.is_some_and(|operator| operator.role == Role::Viewer) {
        tracing::warn!(target: "pactum::audit", who, origin, "an act by a viewer was turned away");
        let message = format!("{who} is a viewer, who may look and not act");
        return Err(ServiceError::Act { code: ErrorCode::PermissionDenied, message });
    }
    Ok(Caller { who, origin })
}

/// The operator's reason: part of the audit, and of an abort that it leads to.
fn reason(given: &str) -> Result<String, ServiceError> {
    if given.trim().is_empty() || given.len() > REASON_BYTES_MAX {
        return Err(ServiceError::malformed("reason", "1 to 512 bytes that are not blank are needed"));
    }
    if given.contains('\0') {
        return Err(ServiceError::malformed("reason", "a zero byte cannot be stored"));
    }
    Ok(given.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operator: Option<Operator>, who: &str) -> Request<v1::PerformActRequest> {
        let mut request =
            Request::new(v1::PerformActRequest { who: who.to_owned(), ..v1::PerformActRequest::default() });
        if let Some(operator) = operator {
            request.extensions_mut().insert(operator);
        }
        request
    }

    fn operator(name: Option<&str>, role: Role) -> Operator {
        Operator { name: name.map(str::to_owned), role, origin: "10.0.0.9:4711 console".to_owned() }
    }

    #[test]
    fn a_viewer_may_not_act_whatever_he_says_of_himself() {
        let refused = caller(&request(Some(operator(Some("vera"), Role::Viewer)), "root")).unwrap_err();
        assert!(matches!(refused, ServiceError::Act { code: ErrorCode::PermissionDenied, .. }), "{refused}");
    }

    #[test]
    fn a_token_says_who_acts_and_without_one_the_caller_does() {
        let named = caller(&request(Some(operator(Some("olga"), Role::Operator)), "root")).unwrap();
        assert_eq!((named.who.as_str(), named.origin.as_str()), ("olga", "10.0.0.9:4711 console"));
        let unnamed = caller(&request(Some(operator(None, Role::Operator)), " otto ")).unwrap();
        assert_eq!(unnamed.who, "otto");
        let nobody = caller(&request(None, "")).unwrap();
        assert_eq!((nobody.who.as_str(), nobody.origin.as_str()), ("unnamed", "grpc"));
    }
}
