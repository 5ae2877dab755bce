//! Under which names browsers may reach the admin address.
//!
//! A page from anywhere can have its own name resolve to 127.0.0.1 once it is loaded (DNS rebinding):
//! for the browser our pages are then its own, to be read and acted on. What gives it away is the
//! `Host` that the browser sends: that page's name, and none of ours.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::uri::Authority;

use crate::config::Config;

/// The names.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Vec<String>,
    bound: IpAddr,
}

impl Hosts {
    pub(super) fn new(config: &Config, bound: SocketAddr) -> Self {
        let advertised = config.advertise.as_ref().and_then(|address| address.rsplit_once(':'));
        let names = config.admin_hosts.iter().map(String::as_str).chain(advertised.map(|(host, _)| host));
        Self { names: names.map(str::to_ascii_lowercase).collect(), bound: bound.ip() }
    }

    /// Whether it is a name of ours. The port says nothing: it may be that of a tunnel.
    pub(super) fn is_ours(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if host == "localhost" || self.names.iter().any(|name| name == host) {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            // An address is not resolved, so it cannot be made to point here. Bound to any address, we
            // do not know which are ours.
            Ok(address) => address.is_loopback() || address == self.bound || self.bound.is_unspecified(),
            Err(_name) => false,
        }
    }
}

/// What a request takes us for; `None` if it says nothing, two things, or nothing that can be read.
pub(super) fn authority(request: &Parts) -> Option<Authority> {
    let mut hosts = request.headers.get_all(http::header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let host = match host {
        Some(host) => Some(host.to_str().ok()?.parse::<Authority>().ok()?),
        None => None,
    };
    match (request.uri.authority(), host) {
        (Some(uri), Some(host)) if *uri != host => None,
        (Some(uri), _) => Some(uri.clone()),
        (None, host) => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(config: &Config, bound: [u8; 4], host: &str) -> bool {
        let hosts = Hosts::new(config, SocketAddr::from((bound, 7601)));
        host.parse::<Authority>().is_ok_and(|authority| hosts.is_ours(&authority))
    }

    #[test]
    fn loopback_is_ours_under_its_own_names_only() {
        let config = Config::default();
        for good in
            ["localhost:7601", "LOCALHOST", "127.0.0.1:7601", "127.0.0.1:9999", "[::1]:7601", "localhost."]
        {
            assert!(ours(&config, [127, 0, 0, 1], good), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:7601",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost@evil.example",
            "10.0.0.7",
            "[::2]",
            "2130706433",
        ] {
            assert!(!ours(&config, [127, 0, 0, 1], bad), "{bad}");
        }
    }

    #[test]
    fn other_names_are_ours_if_they_were_set_or_advertised() {
        let config = Config {
            advertise: Some("coordinator-1:7600".into()),
            admin_hosts: vec!["Pactum.Example".into()],
            ..Config::default()
        };
        for good in ["coordinator-1:7601", "pactum.example", "PACTUM.example:443", "10.9.8.7:7601"] {
            assert!(ours(&config, [0, 0, 0, 0], good), "{good}");
        }
        assert!(!ours(&config, [0, 0, 0, 0], "coordinator-2:7601"));
        assert!(!ours(&config, [10, 0, 0, 1], "10.9.8.7:7601"));
        assert!(ours(&config, [10, 0, 0, 1], "10.0.0.1:7601"));
    }

    #[test]
    fn a_request_that_says_two_things_says_nothing() {
        let parts = |uri: &str, hosts: &[&str]| {
            let request = hosts.iter().fold(http::Request::get(uri), |all, host| all.header("host", *host));
            request.body(()).unwrap().into_parts().0
        };
        assert_eq!(authority(&parts("/", &["a:1"])).unwrap().as_str(), "a:1");
        assert_eq!(authority(&parts("http://a:1/", &[])).unwrap().as_str(), "a:1");
        assert!(authority(&parts("http://a:1/", &["a:1"])).is_some());
        for (uri, hosts) in [("/", &[][..]), ("/", &["a", "b"]), ("http://a/", &["b"]), ("/", &["a b"])] {
            assert_eq!(authority(&parts(uri, hosts)), None, "{uri} {hosts:?}");
        }
    }
}
