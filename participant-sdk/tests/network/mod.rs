//! A network in memory: with nothing but tasks behind it, time can be simulated, and the delays of
//! default settings cost a test nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use pactum::Connector;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Bytes on their way in each direction.
const BUFFER_BYTES: usize = 1 << 16;

/// What a listener accepts.
pub(crate) type Incoming = UnboundedReceiverStream<io::Result<DuplexStream>>;

/// Clones are the same network.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, mpsc::UnboundedSender<io::Result<DuplexStream>>>,
    dials: BTreeMap<String, usize>,
}

impl Network {
    /// Listens at all of these; whoever listened there before does not any more.
    pub(crate) fn listen(&self, authorities: &[&str]) -> Incoming {
        let (listener, accepted) = mpsc::unbounded_channel();
        let mut state = self.0.lock().unwrap();
        for authority in authorities {
            state.listeners.insert((*authority).to_owned(), listener.clone());
        }
        UnboundedReceiverStream::new(accepted)
    }

    /// Nobody listens there any more.
    pub(crate) fn close(&self, authority: &str) {
        self.0.lock().unwrap().listeners.remove(authority);
    }

    /// How often somebody tried to connect there.
    pub(crate) fn dials(&self, authority: &str) -> usize {
        self.0.lock().unwrap().dials.get(authority).copied().unwrap_or(0)
    }

    /// What the SDK dials by.
    pub(crate) fn connector(&self) -> Connector {
        let network = self.clone();
        Connector::new(move |authority| std::future::ready(network.dial(&authority)))
    }

    fn dial(&self, authority: &str) -> io::Result<DuplexStream> {
        let mut state = self.0.lock().unwrap();
        *state.dials.entry(authority.to_owned()).or_default() += 1;
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = state.listeners.get(authority).ok_or_else(refused)?;
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        listener.send(Ok(theirs)).map_err(|_closed| refused())?;
        Ok(ours)
    }
}
