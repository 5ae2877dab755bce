//! What a browser is remembered by: sessions that a token opened, the keys of forms, and how often
//! somebody failed to log in. All of it in memory: a restart asks everybody to log in again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::tokens::TokenHash;

/// How long a session lasts: one watch.
pub(super) const SESSION_LASTS: Duration = Duration::from_hours(8);

/// Sessions at once; beyond it the one that ends first makes room. There are more operators nowhere.
const SESSIONS_MAX: usize = 1024;

/// A value that nobody can guess: 32 random bytes in hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Draws one.
    pub(super) fn draw() -> Self {
        Self(hex(&rand::random::<[u8; 32]>()))
    }

    /// One that came from outside; `None` if it has not the form of ours.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let ours = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        ours.then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

/// Open sessions, by the hash of what the browser holds: who reads our memory finds no cookie.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Clone, Copy, Debug)]
struct Session {
    token: TokenHash,
    ends: Instant,
}

impl Sessions {
    /// Opens one for whoever showed that token.
    pub(super) fn open(&self, token: TokenHash, now: Instant) -> Secret {
        let secret = Secret::draw();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.ends > now);
        if sessions.len() >= SESSIONS_MAX
            && let Some(first) = sessions.iter().min_by_key(|(_, session)| session.ends).map(|(key, _)| *key)
        {
            sessions.remove(&first);
        }
        sessions.insert(secret.key(), Session { token, ends: now + SESSION_LASTS });
        secret
    }

    /// The token that opened that session, if the session lasts.
    pub(super) fn token(&self, secret: &Secret, now: Instant) -> Option<TokenHash> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&secret.key()).filter(|session| session.ends > now).map(|session| session.token)
    }

    /// Ends it.
    pub(super) fn close(&self, secret: &Secret) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&secret.key());
    }
}

/// Makes and checks what forms carry, so that no other page can send them: bound to what the browser
/// holds, and to this process.
#[derive(Debug)]
pub(super) struct Forms(Secret);

impl Forms {
    pub(super) fn new() -> Self {
        Self(Secret::draw())
    }

    /// What the forms of that browser carry.
    pub(super) fn seal(&self, held: &Secret) -> String {
        hex(&self.mac(held).finalize().into_bytes())
    }

    /// Whether a form carries what that browser's do. Takes the same time for each wrong one.
    pub(super) fn is_sealed(&self, held: &Secret, seal: &str) -> bool {
        let given: Option<Vec<u8>> = seal
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
            .collect();
        given.is_some_and(|given| self.mac(held).verify_slice(&given).is_ok())
    }

    fn mac(&self, held: &Secret) -> Hmac<Sha256> {
        #[allow(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104, section 2)")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_str().as_bytes()).expect("a key of any length");
        mac.update(held.as_str().as_bytes());
        mac
    }
}

/// Failed logins of one address within [`FAILURES_WINDOW`]; after these, it is not listened to until the
/// window is over.
const FAILURES_MAX: u32 = 10;

/// See [`FAILURES_MAX`].
const FAILURES_WINDOW: Duration = Duration::from_mins(1);

/// Addresses that are remembered; beyond it the oldest is forgotten, which costs an attacker with so
/// many addresses nothing, and us no memory.
const FAILURES_KEPT: usize = 4096;

/// Who failed to log in lately.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Failures {
    /// Whether that address may try.
    pub(super) fn may_try(&self, peer: IpAddr, now: Instant) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&peer).is_none_or(|(since, count)| {
            *count < FAILURES_MAX || now.duration_since(*since) >= FAILURES_WINDOW
        })
    }

    /// It failed. Says whether that is the first failure of a window: the one worth a line in the log.
    pub(super) fn failed(&self, peer: IpAddr, now: Instant) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= FAILURES_KEPT && !failures.contains_key(&peer) {
            failures.retain(|_, (since, _)| now.duration_since(*since) < FAILURES_WINDOW);
            if failures.len() >= FAILURES_KEPT
                && let Some(oldest) =
                    failures.iter().min_by_key(|(_, (since, _))| *since).map(|(peer, _)| *peer)
            {
                failures.remove(&oldest);
            }
        }
        let (since, count) = failures.entry(peer).or_insert((now, 0));
        if now.duration_since(*since) >= FAILURES_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_secret_until_it_ends_or_is_closed() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, two) = (sessions.open([1; 32], now), sessions.open([2; 32], now));
        assert_eq!(sessions.token(&one, now), Some([1; 32]));
        assert_eq!(sessions.token(&two, now), Some([2; 32]));
        assert_eq!(sessions.token(&Secret::draw(), now), None);
        sessions.close(&one);
        assert_eq!(sessions.token(&one, now), None);
        assert_eq!(sessions.token(&two, now + SESSION_LASTS), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_newest_stays() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.open([0; 32], now);
        let mut last = first.clone();
        for second in 1..=SESSIONS_MAX {
            last = sessions.open([1; 32], now + Duration::from_secs(second as u64));
        }
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
        assert!(sessions.token(&first, now).is_none() && sessions.token(&last, now).is_some());
    }

    #[test]
    fn a_form_is_taken_only_from_the_browser_and_the_process_that_it_was_made_for() {
        let (forms, mine, other) = (Forms::new(), Secret::draw(), Secret::draw());
        let seal = forms.seal(&mine);
        assert!(forms.is_sealed(&mine, &seal));
        assert!(!forms.is_sealed(&other, &seal));
        assert!(!Forms::new().is_sealed(&mine, &seal));
        for wrong in ["", "0", "zz", &seal[2..], mine.as_str(), &format!("{seal}00"), "ä"] {
            assert!(!forms.is_sealed(&mine, wrong), "{wrong}");
        }
    }

    #[test]
    fn after_ten_failures_an_address_waits_out_its_minute_and_others_do_not() {
        let (failures, now) = (Failures::default(), Instant::now());
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(failures.failed(bad, now), "the first is told");
        for _ in 1..FAILURES_MAX {
            assert!(failures.may_try(bad, now));
            assert!(!failures.failed(bad, now));
        }
        assert!(!failures.may_try(bad, now) && failures.may_try(good, now));
        assert!(failures.may_try(bad, now + FAILURES_WINDOW));
        assert!(failures.failed(bad, now + FAILURES_WINDOW), "a new window");
    }

    #[test]
    fn what_came_from_outside_has_the_form_of_a_secret_or_is_none() {
        let secret = Secret::draw();
        assert_eq!(Secret::from_text(secret.as_str()), Some(secret.clone()));
        for wrong in [
            "",
            "abc",
            &secret.as_str().to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"),
            &"g".repeat(64),
        ] {
            assert_eq!(Secret::from_text(wrong), None, "{wrong}");
        }
    }
}
