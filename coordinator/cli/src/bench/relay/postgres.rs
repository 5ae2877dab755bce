//! The round trips of one PostgreSQL connection, seen from the middle of the wire.
//!
//! A server answers each simple query and each Sync with `ReadyForQuery` (manual, *Message Formats*). What a
//! client sends in one piece and what all is answered after it is one round trip, however many
//! `ReadyForQuery` it brings; the one that ends the start-up is not counted.

use super::Unclear;

/// Codes that stand in place of a protocol version: may this connection be encrypted?
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// The first bytes of what the client sent at last, until its start-up message has been seen.
    opening: Vec<u8>,
    opened: bool,
    /// One-byte answers that the server owes, outside of any message.
    answers_due: usize,
    /// The head of the server's present message: its kind and its length.
    head: Vec<u8>,
    /// What is left of the message after its head.
    left: usize,
    started: bool,
    /// Whether the client has sent anything since the last round trip ended.
    asked: bool,
}

impl Conversation {
    /// Hears the client.
    pub(super) fn client(&mut self, bytes: &[u8]) {
        self.asked = true;
        for &byte in bytes {
            if self.opened {
                break;
            }
            self.opening.push(byte);
            if let &[_, _, _, _, a, b, c, d] = self.opening.as_slice() {
                match u32::from_be_bytes([a, b, c, d]) {
                    SSL_REQUEST | GSS_REQUEST => {
                        self.answers_due += 1;
                        self.opening.clear();
                    }
                    _start_up_or_cancel => self.opened = true,
                }
            }
        }
    }

    /// Hears the server; answers how many round trips have ended.
    pub(super) fn server(&mut self, mut bytes: &[u8]) -> Result<u64, Unclear> {
        let mut ended = 0;
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            bytes = rest;
            if self.answers_due > 0 {
                self.answers_due -= 1;
                if byte != b'N' {
                    return Err(Unclear); // what follows is encrypted
                }
                continue;
            }
            self.head.push(byte);
            if let &[kind, a, b, c, d] = self.head.as_slice() {
                self.head.clear();
                // The length counts itself.
                let length =
                    usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_too_long| Unclear)?;
                self.left = length.checked_sub(4).ok_or(Unclear)?;
                if kind == b'Z' {
                    if self.started && self.asked {
                        ended += 1;
                    }
                    self.started = true;
                    self.asked = false;
                }
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_UP: &[u8] = &[0, 0, 0, 14, 0, 3, 0, 0, b'u', b's', b'e', b'r', 0, 0];
    const READY: &[u8] = &[b'Z', 0, 0, 0, 5, b'I'];

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// Hears the server's bytes cut in two at every place.
    fn cut_everywhere(opened: impl Fn() -> Conversation, bytes: &[u8]) -> u64 {
        let whole = opened().server(bytes).unwrap();
        for cut in 0..=bytes.len() {
            let mut conversation = opened();
            let parts =
                conversation.server(&bytes[..cut]).unwrap() + conversation.server(&bytes[cut..]).unwrap();
            assert_eq!(parts, whole, "cut at {cut}");
        }
        let mut conversation = opened();
        let single: u64 = bytes.iter().map(|&byte| conversation.server(&[byte]).unwrap()).sum();
        assert_eq!(single, whole, "byte by byte");
        whole
    }

    fn asking() -> Conversation {
        let mut conversation = Conversation::default();
        conversation.client(START_UP);
        conversation.server(READY).unwrap();
        conversation.client(b"Q\0\0\0\x05\0");
        conversation
    }

    #[test]
    fn the_end_of_the_start_up_is_no_round_trip() {
        let opened = || {
            let mut conversation = Conversation::default();
            conversation.client(START_UP);
            conversation
        };
        let start = [message(b'R', &[0, 0, 0, 0]), message(b'S', b"a\0Z\0"), READY.to_vec()].concat();
        assert_eq!(cut_everywhere(opened, &start), 0);
    }

    #[test]
    fn an_answer_is_one_round_trip_whatever_stands_in_its_rows() {
        // A row that looks like a `ReadyForQuery`.
        let answer = [message(b'D', READY), message(b'C', b"SELECT 1\0"), READY.to_vec()].concat();
        assert_eq!(cut_everywhere(asking, &answer), 1);
    }

    #[test]
    fn what_was_sent_in_one_piece_is_one_round_trip() {
        let answer = [message(b'C', b"ROLLBACK\0"), READY.to_vec(), READY.to_vec()].concat();
        assert_eq!(cut_everywhere(asking, &answer), 1);
        let mut conversation = asking();
        let mut ended = 0;
        for _ in 0..3 {
            conversation.client(b"S\0\0\0\x04");
            ended += conversation.server(READY).unwrap();
        }
        assert_eq!(ended, 3);
    }

    #[test]
    fn a_notice_that_nobody_asked_for_is_no_round_trip() {
        let mut conversation = asking();
        assert_eq!(conversation.server(READY), Ok(1));
        assert_eq!(conversation.server(&message(b'N', b"SWARNING\0\0")), Ok(0));
    }

    #[test]
    fn an_encryption_that_is_declined_comes_before_the_messages() {
        let mut request = vec![0, 0, 0, 8];
        request.extend(SSL_REQUEST.to_be_bytes());
        for cut in 0..=request.len() {
            let mut conversation = Conversation::default();
            conversation.client(&request[..cut]);
            conversation.client(&request[cut..]);
            assert_eq!(conversation.server(b"N"), Ok(0));
            conversation.client(START_UP);
            assert_eq!(conversation.server(READY), Ok(0), "the start-up; cut at {cut}");
            conversation.client(b"S\0\0\0\x04");
            assert_eq!(conversation.server(READY), Ok(1), "cut at {cut}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_so() {
        let mut request = vec![0, 0, 0, 8];
        request.extend(SSL_REQUEST.to_be_bytes());
        let mut conversation = Conversation::default();
        conversation.client(&request);
        assert_eq!(conversation.server(b"S"), Err(Unclear));
        assert_eq!(asking().server(&[b'Z', 0, 0, 0, 3]), Err(Unclear));
    }
}
