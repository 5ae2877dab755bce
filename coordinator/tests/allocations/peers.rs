//! An application and participants that speak the wire's bytes to a coordinator in this process.
//!
//! What they send is encoded before anything is counted, and what they hear is decoded out of the
//! count: what is counted is the coordinator.

use std::convert::Infallible;
use std::fmt::Debug;

use allocation_counter::opt_out;
use axum::body::Body;
use futures::StreamExt;
use http_body_util::BodyExt;
use pactum_coordinator::Coordinator;
use pactum_proto::v1;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::{Service, ServiceExt};
use uuid::Uuid;

/// A message as a gRPC frame: not compressed, its length, its bytes.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

fn request(path: &str, body: Body) -> http::Request<Body> {
    http::Request::post(path).header("content-type", "application/grpc").body(body).unwrap()
}

fn accepted(response: http::Response<tonic::body::Body>) -> tonic::body::Body {
    assert!(response.headers().get("grpc-status").is_none(), "refused: {:?}", response.headers());
    response.into_body()
}

/// Calls a unary method; takes the answer out of the count.
pub async fn unary<S, M: Message + Default>(service: S, path: &str, frame: Bytes, take: impl FnOnce(M))
where
    S: Service<http::Request<Body>, Response = http::Response<tonic::body::Body>>,
    S::Error: Debug,
{
    let mut answers = accepted(service.oneshot(request(path, frame.into())).await.unwrap());
    let data = answers.frame().await.unwrap().unwrap().into_data().unwrap();
    opt_out(|| take(M::decode(data.get(5..).unwrap()).unwrap()));
}

/// An open stream: frames in, frames out.
struct Stream {
    requests: UnboundedSender<Bytes>,
    answers: tonic::body::Body,
    heard: BytesMut,
}

impl Stream {
    async fn open<S>(service: S, path: &str, first: Option<Bytes>) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<tonic::body::Body>>,
        S::Error: Debug,
    {
        let (requests, body) = unbounded_channel::<Bytes>();
        if let Some(first) = first {
            requests.send(first).unwrap();
        }
        let body = UnboundedReceiverStream::new(body).map(Ok::<_, Infallible>);
        let answers = accepted(service.oneshot(request(path, Body::from_stream(body))).await.unwrap());
        Self { requests, answers, heard: BytesMut::new() }
    }

    /// Takes the next message, out of the count.
    async fn hear<M: Message + Default>(&mut self, take: impl FnOnce(M)) {
        let (mut take, mut is_taken) = (Some(take), false);
        loop {
            opt_out(|| {
                if let Some(message) = self.decoded()
                    && let Some(take) = take.take()
                {
                    take(message);
                    is_taken = true;
                }
            });
            if is_taken {
                return;
            }
            let data = self.answers.frame().await.unwrap().unwrap().into_data().unwrap();
            opt_out(|| self.heard.extend_from_slice(&data));
        }
    }

    fn decoded<M: Message + Default>(&mut self) -> Option<M> {
        let length = self.heard.get(1..5)?.try_into().unwrap();
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        let message = M::decode(self.heard.get(5..5 + length)?).unwrap();
        self.heard.advance(5 + length);
        Some(message)
    }
}

/// A participant that speaks for one resource.
pub struct Participant {
    pub branch: v1::Branch,
    stream: Stream,
}

impl Participant {
    pub async fn attach(coordinator: &Coordinator, number: u64) -> Self {
        let (_, service) = pactum_coordinator::bench::services(coordinator).unwrap();
        let resource = format!("bank-{number}");
        let instance = Uuid::from_u128(u128::from(number)).as_bytes().to_vec();
        let hello = v1::Hello {
            instance: instance.clone(),
            resources: vec![v1::Registration { resource: resource.clone(), ..v1::Registration::default() }],
            version: "test".into(),
        };
        let message = v1::participant_message::Message::Hello(hello);
        let hello = v1::AttachRequest { messages: vec![v1::ParticipantMessage { message: Some(message) }] };
        let first = Some(frame(&hello));
        let stream = Stream::open(service, "/pactum.v1.ParticipantsService/Attach", first).await;
        let branch = v1::Branch { id: number, resource, instance, marker: false };
        let mut participant = Self { branch, stream };
        participant.hear(1).await;
        participant
    }

    pub fn send(&self, frame: Bytes) {
        self.stream.requests.send(frame).unwrap();
    }

    /// Waits for so many messages.
    pub async fn hear(&mut self, count: usize) {
        let mut heard = 0;
        while heard < count {
            let take = |response: v1::AttachResponse| heard += response.messages.len();
            self.stream.hear(take).await;
        }
    }
}

/// An application with an open pipeline.
pub struct Application {
    stream: Stream,
}

impl Application {
    pub async fn open(coordinator: &Coordinator) -> Self {
        let (service, _) = pactum_coordinator::bench::services(coordinator).unwrap();
        let mut stream = Stream::open(service, "/pactum.v1.TransactionsService/Pipeline", None).await;
        stream.hear(|first: v1::PipelineResponse| assert!(first.welcome.is_some())).await;
        Self { stream }
    }

    pub fn send(&self, frame: Bytes) {
        self.stream.requests.send(frame).unwrap();
    }

    /// Waits for so many answers, all of which say committed.
    pub async fn hear(&mut self, count: usize) {
        let mut heard = 0;
        while heard < count {
            let take = |response: v1::PipelineResponse| {
                heard += response.answers.len();
                for answer in response.answers {
                    let Some(v1::pipeline_answer::Answer::Outcome(outcome)) = &answer.answer else {
                        panic!("an outcome was expected, not {answer:?}");
                    };
                    assert_eq!(outcome.state(), v1::OutcomeState::Committed);
                }
            };
            self.stream.hear(take).await;
        }
    }
}
