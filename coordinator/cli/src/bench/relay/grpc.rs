//! The gRPC messages of one HTTP/2 connection, seen from the middle of the wire.
//!
//! Frames are those of RFC 9113, section 4.1: length, kind, flags, stream. In the DATA frames of a stream
//! lie messages, each after one byte of flags and four of length (gRPC over HTTP2, *Length-Prefixed-Message*),
//! and cut wherever a frame ends. Nothing else is looked at.

use std::collections::HashMap;

use super::Unclear;

/// What a client sends before its first frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// The largest frame that an end may ask for.
const FRAME_BYTES_MAX: u32 = (1 << 24) - 1;

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    client: Direction,
    server: Direction,
    /// How much of the preface has been heard.
    preface: usize,
}

impl Conversation {
    /// Hears the client; answers how many messages have ended.
    pub(super) fn client(&mut self, mut bytes: &[u8]) -> Result<u64, Unclear> {
        while self.preface < PREFACE.len() {
            let Some((&byte, rest)) = bytes.split_first() else { return Ok(0) };
            if byte != PREFACE[self.preface] {
                return Err(Unclear);
            }
            self.preface += 1;
            bytes = rest;
        }
        self.client.hear(bytes)
    }

    /// Hears the server; answers how many messages have ended.
    pub(super) fn server(&mut self, bytes: &[u8]) -> Result<u64, Unclear> {
        self.server.hear(bytes)
    }
}

/// One end's frames.
#[derive(Debug, Default)]
struct Direction {
    head: Vec<u8>,
    frame: Option<Frame>,
    /// Streams in the middle of a message.
    messages: HashMap<u32, Message>,
}

/// The frame that is being heard.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// What is left of it, padding included.
    left: usize,
    /// How much padding ends it; `None` before the byte that tells.
    padding: Option<usize>,
}

/// The message that a stream is in the middle of.
#[derive(Debug, Default)]
struct Message {
    head: Vec<u8>,
    left: usize,
}

impl Direction {
    fn hear(&mut self, mut bytes: &[u8]) -> Result<u64, Unclear> {
        let mut ended = 0;
        loop {
            let Some(frame) = &mut self.frame else {
                let Some((&byte, rest)) = bytes.split_first() else { return Ok(ended) };
                bytes = rest;
                self.head.push(byte);
                if let &[a, b, c, kind, flags, s, t, u, v] = self.head.as_slice() {
                    self.head.clear();
                    let length = u32::from_be_bytes([0, a, b, c]) & FRAME_BYTES_MAX;
                    let left = usize::try_from(length).map_err(|_too_long| Unclear)?;
                    // The highest bit is reserved.
                    let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
                    let padded = kind == DATA && flags & PADDED != 0;
                    let padding = (!padded).then_some(0);
                    self.frame = Some(Frame { kind, flags, stream, left, padding });
                }
                continue;
            };
            if frame.left == 0 {
                let over = frame.kind == RST_STREAM
                    || matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
                if over {
                    self.messages.remove(&frame.stream);
                }
                self.frame = None;
                continue;
            }
            let Some((&first, rest)) = bytes.split_first() else { return Ok(ended) };
            let Some(padding) = frame.padding else {
                frame.padding = Some(usize::from(first));
                frame.left -= 1;
                bytes = rest;
                if usize::from(first) > frame.left {
                    return Err(Unclear);
                }
                continue;
            };
            // What is not padding, as far as it has been heard.
            let payload = (frame.left - padding.min(frame.left)).min(bytes.len());
            let heard = if payload == 0 { frame.left.min(bytes.len()) } else { payload };
            if frame.kind == DATA && payload > 0 {
                let message = self.messages.entry(frame.stream).or_default();
                ended += message.hear(&bytes[..payload])?;
            }
            frame.left -= heard;
            bytes = &bytes[heard..];
        }
    }
}

impl Message {
    /// Hears a piece of its stream, in which it and others after it may end.
    fn hear(&mut self, mut bytes: &[u8]) -> Result<u64, Unclear> {
        let mut ended = 0;
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let heard = self.left.min(bytes.len());
                self.left -= heard;
                bytes = &bytes[heard..];
                ended += u64::from(self.left == 0);
                continue;
            }
            bytes = rest;
            self.head.push(byte);
            if let &[_flags, a, b, c, d] = self.head.as_slice() {
                self.head.clear();
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_too_long| Unclear)?;
                ended += u64::from(self.left == 0);
            }
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
    }

    fn message(body: &[u8]) -> Vec<u8> {
        [&[0][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    /// Hears the same bytes whole, cut in two at every place, and byte by byte.
    fn cut_everywhere(bytes: &[u8]) -> u64 {
        let whole = Direction::default().hear(bytes).unwrap();
        for cut in 0..=bytes.len() {
            let mut direction = Direction::default();
            let parts = direction.hear(&bytes[..cut]).unwrap() + direction.hear(&bytes[cut..]).unwrap();
            assert_eq!(parts, whole, "cut at {cut}");
        }
        let mut direction = Direction::default();
        let single: u64 = bytes.iter().map(|&byte| direction.hear(&[byte]).unwrap()).sum();
        assert_eq!(single, whole, "byte by byte");
        whole
    }

    #[test]
    fn only_messages_in_data_frames_count() {
        let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let headers = frame(HEADERS, 4, 1, &message(b"not a message"));
        let data = frame(DATA, END_STREAM, 1, &message(b"one"));
        assert_eq!(cut_everywhere(&[settings, headers, data].concat()), 1);
    }

    #[test]
    fn a_frame_may_hold_several_messages_and_empty_ones() {
        let body = [message(b"one"), message(b""), message(b"three")].concat();
        assert_eq!(cut_everywhere(&frame(DATA, 0, 1, &body)), 3);
    }

    #[test]
    fn a_message_may_lie_in_several_frames_among_those_of_other_streams() {
        let long = message(&[0; 40]);
        for cut in 1..long.len() {
            let bytes = [
                frame(DATA, 0, 1, &long[..cut]),
                frame(DATA, 0, 3, &message(b"between")),
                frame(DATA, 0, 1, &long[cut..]),
            ];
            assert_eq!(Direction::default().hear(&bytes.concat()), Ok(2), "cut at {cut}");
        }
    }

    #[test]
    fn padding_is_no_message() {
        let padded = |body: &[u8], padding: u8| {
            frame(DATA, PADDED, 1, &[&[padding][..], body, &vec![0; usize::from(padding)]].concat())
        };
        let bytes = [padded(&message(b"one"), 11), padded(&[], 7), padded(&message(b"two"), 0)].concat();
        assert_eq!(cut_everywhere(&bytes), 2);
        assert_eq!(Direction::default().hear(&frame(DATA, PADDED, 1, &[2, 0])), Err(Unclear));
    }

    #[test]
    fn a_stream_that_ends_within_a_message_leaves_nothing() {
        let cut = &message(b"never heard out")[..9];
        for end in [frame(RST_STREAM, 0, 1, &[0; 4]), frame(HEADERS, END_STREAM, 1, &[])] {
            let mut direction = Direction::default();
            assert_eq!(direction.hear(&[frame(DATA, 0, 1, cut), end].concat()), Ok(0));
            assert!(direction.messages.is_empty());
        }
    }

    #[test]
    fn a_client_says_its_preface_first() {
        let bytes = [PREFACE.to_vec(), frame(DATA, 0, 1, &message(b"one"))].concat();
        for cut in 0..=bytes.len() {
            let mut conversation = Conversation::default();
            let parts = [&bytes[..cut], &bytes[cut..]].map(|part| conversation.client(part).unwrap());
            assert_eq!(parts.iter().sum::<u64>(), 1, "cut at {cut}");
        }
        assert_eq!(Conversation::default().client(b"GET / HTTP/1.1"), Err(Unclear));
    }
}
