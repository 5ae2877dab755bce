//! Following one transaction, or a list: looks that repeat, and what has changed is told.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use pactum_core::coordinator::Event;
use pactum_core::id::Gid;
use pactum_proto::v1;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::find::Listing;
use super::{Admin, show};
use crate::error::ServiceError;
use crate::service::wire;

/// Between looks at a watched transaction. A look costs its shard some microseconds, and nothing
/// where nobody watches; people do not see faster.
const WATCH_LOOK: Duration = Duration::from_millis(50);

/// Between looks at a watched list, which costs the log a query each time.
const LIST_LOOK: Duration = Duration::from_millis(250);

/// States of a watched transaction, or list, that may wait for a slow reader.
const WATCH_QUEUE: usize = 16;

impl Admin {
    /// Sends a transaction now and at each change, until it has ended.
    pub(super) async fn watch_one(
        &self,
        gid: &str,
    ) -> Result<BoxStream<'static, Result<v1::WatchTransactionResponse, Status>>, ServiceError> {
        let found = self.find(gid).await?;
        let first = self.shown_one(&found).await;
        let (sender, states) = tokio::sync::mpsc::channel(WATCH_QUEUE);
        self.tasks.spawn(self.clone().watch(found.id().gid, first, sender));
        Ok(ReceiverStream::new(states).boxed())
    }

    /// Follows a transaction until it has ended or nobody reads any more.
    async fn watch(
        self,
        gid: Gid,
        first: v1::Transaction,
        states: tokio::sync::mpsc::Sender<Result<v1::WatchTransactionResponse, Status>>,
    ) {
        let mut last = first;
        let mut looks = tokio::time::interval(WATCH_LOOK);
        loop {
            let ended = show::has_ended(&last);
            let response = v1::WatchTransactionResponse { transaction: Some(last.clone()) };
            if states.send(Ok(response)).await.is_err() || ended {
                return;
            }
            last = loop {
                looks.tick().await;
                if states.is_closed() {
                    return;
                }
                match self.look(gid, &last).await {
                    Ok(now) if show::differs(&last, &now) => break now,
                    Ok(_) => {}
                    Err(error) => {
                        // Fails only where the reader has gone, which the next send shows.
                        drop(states.send(Err(error.into())).await);
                        return;
                    }
                }
            };
        }
    }

    /// What is to be seen of a transaction that was seen as `last` before.
    async fn look(&self, gid: Gid, last: &v1::Transaction) -> Result<v1::Transaction, ServiceError> {
        if let Some(found) = self.find_exactly(gid).await? {
            return Ok(self.shown_one(&found).await);
        }
        // Ended without a record: its owner's memory still knows how.
        let id = last.id.clone().ok_or(ServiceError::Internal)?.try_into()?;
        let request = self.shards.draw_request();
        let event = Event::OutcomeRequested { id, branches: None, request };
        let outcome = wire::known(self.shards.ask(request, gid, false, event).await?)?;
        Ok(show::ended(last.clone(), outcome))
    }

    /// Sends the first page of a list now and at each change of it.
    pub(super) async fn watch_list(
        &self,
        request: v1::WatchTransactionsRequest,
    ) -> Result<BoxStream<'static, Result<v1::WatchTransactionsResponse, Status>>, ServiceError> {
        let list = request.list.unwrap_or_default();
        if !list.page_token.is_empty() {
            return Err(ServiceError::malformed(
                "list.page_token",
                "the first page is watched: leave it empty",
            ));
        }
        let listing = Listing::parse(&list)?;
        let first = self.first_page(&listing).await?;
        let (sender, states) = tokio::sync::mpsc::channel(WATCH_QUEUE);
        self.tasks.spawn(self.clone().follow(listing, first, sender));
        Ok(ReceiverStream::new(states).boxed())
    }

    async fn first_page(&self, listing: &Listing) -> Result<v1::WatchTransactionsResponse, ServiceError> {
        let (found, next) = self.list(listing).await?;
        Ok(v1::WatchTransactionsResponse { transactions: self.shown(&found).await, more: next.is_some() })
    }

    /// Follows a list until nobody reads any more.
    async fn follow(
        self,
        listing: Listing,
        first: v1::WatchTransactionsResponse,
        states: tokio::sync::mpsc::Sender<Result<v1::WatchTransactionsResponse, Status>>,
    ) {
        let mut last = first;
        let mut looks = tokio::time::interval(LIST_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if states.send(Ok(last.clone())).await.is_err() {
                return;
            }
            last = loop {
                tokio::select! {
                    _ = looks.tick() => {}
                    () = states.closed() => return,
                }
                match self.first_page(&listing).await {
                    Ok(now) if lists_differ(&last, &now) => break now,
                    Ok(_) => {}
                    Err(error) => {
                        // Fails only where the reader has gone, which ends this as well.
                        drop(states.send(Err(error.into())).await);
                        return;
                    }
                }
            };
        }
    }
}

/// Whether two looks at a list differ in more than the time of the look.
fn lists_differ(a: &v1::WatchTransactionsResponse, b: &v1::WatchTransactionsResponse) -> bool {
    let pairs = || a.transactions.iter().zip(&b.transactions);
    a.more != b.more
        || a.transactions.len() != b.transactions.len()
        || pairs().any(|(a, b)| show::differs(a, b))
}
