//! Who is attached here, what is open there, and whether it takes new branches.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use pactum_proto::v1;

use super::{Frame, failed, render};
use crate::console::gate::Visitor;
use crate::console::live::Live;
use crate::console::{Console, link, text};

#[derive(Template)]
#[template(path = "participants.html")]
struct Page {
    frame: Frame,
    participants: Vec<Participant>,
}

struct Participant {
    resource: String,
    instance: String,
    instance_short: String,
    identity: String,
    marker: bool,
    peer: String,
    version: String,
    attached_for: String,
    open: u64,
    draining: bool,
    settings: Vec<(String, String)>,
    act_query: String,
    waiting: String,
}

pub(super) async fn page(State(console): State<Console>, Extension(visitor): Extension<Visitor>) -> Response {
    let frame = Frame::new(&console, &visitor, "Participants", "Participants", Live::Participants).await;
    let listed = match console.service.list_participants(visitor.ask(v1::ListParticipantsRequest {})).await {
        Ok(listed) => listed.into_inner(),
        Err(status) => return failed(&console, &visitor, "Participants", &status),
    };
    let participants = listed.participants.into_iter().map(Participant::new).collect();
    render(&Page { frame, participants })
}

impl Participant {
    fn new(from: v1::Participant) -> Self {
        let instance = text::id(&from.instance);
        let mut settings: Vec<_> = from.settings.into_iter().collect();
        settings.sort();
        Self {
            act_query: format!("resource={}&instance={instance}", link::encode(&from.resource)),
            waiting: format!("/in-doubt{}", link::query([("resource", from.resource.as_str())])),
            resource: from.resource,
            instance_short: text::short(&instance),
            instance,
            identity: from.identity,
            marker: from.marker,
            peer: from.peer,
            version: from.version,
            attached_for: text::age(from.attached_for),
            open: from.branches_open,
            draining: from.draining,
            settings,
        }
    }
}
