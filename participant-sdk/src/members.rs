//! The living coordinators, as Welcomes name them, and where to dial them.
//!
//! Shared by applications and participants: both attach to every coordinator that they hear of, so
//! that one address is enough to find all, and one that dies is not missed. What is told is
//! advice: a wrong address costs attempts, and nothing else.

use std::net::IpAddr;
use std::time::Duration;

use pactum_core::id::Incarnation;
use pactum_proto::v1;
use tracing::debug;

use crate::application::endpoint::{Target, target};
use crate::application::{Connector, Tls};
use crate::error::ConnectError;

/// Most coordinators that one process connects to, given and learned, as the protocol bounds what is told.
pub(crate) const MEMBERS_MAX: usize = 64;

/// A learned coordinator that cannot be reached is let go when nobody has named it for this long.
pub(crate) const LET_GO_AFTER: Duration = Duration::from_secs(30);

/// A coordinator is dialled this long after it was first heard of: one of the given addresses may
/// lead to it too, and its stream may just be opening.
pub(crate) const DIAL_AFTER: Duration = Duration::from_millis(300);

/// A living coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) incarnation: Incarnation,
    /// `host:port`.
    pub(crate) authority: String,
}

/// Reads whom a Welcome names. What nobody could dial is left out.
pub(crate) fn read(welcome: &v1::Welcome) -> Vec<Member> {
    let named = welcome.coordinators.iter().take(MEMBERS_MAX);
    let members = named.filter_map(|named| {
        let incarnation = Incarnation::from_slice(&named.incarnation).ok();
        let member = incarnation.filter(|_| can_be_dialled(&named.address));
        if member.is_none() {
            debug!(address = named.address, "a coordinator was named by an address that nobody can dial");
        }
        Some(Member { incarnation: member?, authority: named.address.clone() })
    });
    members.collect()
}

fn can_be_dialled(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<http::uri::Authority>() else { return false };
    let host = authority.host();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let somewhere = !ip.is_ok_and(|ip| ip.is_unspecified());
    let no_user = !authority.as_str().contains('@');
    !host.is_empty() && somewhere && no_user && authority.port_u16().is_some_and(|port| port != 0)
}

/// How coordinators are dialled: those that were not given as those that were.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) tls: Option<Tls>,
    pub(crate) connector: Option<Connector>,
    pub(crate) connect_timeout: Duration,
}

impl Dialer {
    /// Where a member is, written as given addresses are.
    pub(crate) fn address(&self, member: &Member) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", member.authority)
    }

    /// What connects to an address.
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn target(&self, address: &str) -> Result<Target, ConnectError> {
        target(address, self.tls.as_ref(), self.connect_timeout, self.connector.as_ref())
    }

    /// What connects to an address that another coordinator named; `None` if it cannot be used.
    pub(crate) fn learned(&self, address: &str) -> Option<Target> {
        match self.target(address) {
            Ok(target) => Some(target),
            Err(error) => {
                debug!(address, %error, "a coordinator was named that cannot be dialled");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_dialled_is_heard() {
        let named = |address: &str, incarnation: &[u8]| v1::Coordinator {
            incarnation: incarnation.to_vec(),
            address: address.to_owned(),
        };
        let coordinators = vec![
            named("10.0.0.1:7600", &[1; 16]),
            named("[::1]:7600", &[2; 16]),
            named("pactum-2:7600", &[3; 16]),
            named("0.0.0.0:7600", &[4; 16]),
            named("[::]:7600", &[5; 16]),
            named("10.0.0.1", &[6; 16]),
            named("10.0.0.1:0", &[7; 16]),
            named("", &[8; 16]),
            named("user@host:1", &[9; 16]),
            named("http://host:1", &[10; 16]),
            named("10.0.0.2:7600", &[11; 3]),
        ];
        let welcome = v1::Welcome { coordinators, ..v1::Welcome::default() };
        let heard: Vec<String> = read(&welcome).into_iter().map(|member| member.authority).collect();
        assert_eq!(heard, ["10.0.0.1:7600", "[::1]:7600", "pactum-2:7600"]);
    }

    #[test]
    fn at_most_as_many_as_the_protocol_allows_are_heard() {
        let named = |n: u8| v1::Coordinator { incarnation: vec![n; 16], address: format!("host-{n}:1") };
        let welcome = v1::Welcome { coordinators: (0..100).map(named).collect(), ..v1::Welcome::default() };
        assert_eq!(read(&welcome).len(), MEMBERS_MAX);
    }
}
