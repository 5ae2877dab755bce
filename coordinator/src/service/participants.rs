//! For participants: one stream each, which carries everything.

use futures::StreamExt;
use futures::stream::BoxStream;
use pactum_proto::frames::Frame;
use pactum_proto::frames::participants_service_server::ParticipantsService;
use tonic::{Request, Response, Status, Streaming};

use super::wire;
use crate::connection::peer;
use crate::outbox::{Outbox, OutboxLimits};
use crate::session::SessionContext;
use crate::tasks::Tasks;

/// Serves participants.
#[derive(Debug)]
pub(crate) struct Participants {
    pub(crate) sessions: SessionContext,
    pub(crate) limits: OutboxLimits,
    pub(crate) tasks: Tasks,
}

#[tonic::async_trait]
impl ParticipantsService for Participants {
    type AttachStream = BoxStream<'static, Result<Frame, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.sessions.lifecycle.serves()?;
        let peer = peer(&request).map_or_else(String::new, |address| address.to_string());
        let (outbox, drain) = Outbox::new(self.limits);
        self.tasks.spawn(self.sessions.clone().serve(request.into_inner(), outbox, peer));
        let responses = drain.map(|batch| Ok(wire::to_participant(&batch?)));
        Ok(Response::new(responses.boxed()))
    }
}
