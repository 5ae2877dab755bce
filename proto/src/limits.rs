//! The limits of single values on the wire, as the comments of the `.proto` files give them.

use std::time::Duration;

/// Longest name of a transaction's kind, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most labels of one transaction: they are stored with each commit.
pub const LABELS_MAX: usize = 16;
/// Longest key of a label, in bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 64;
/// Longest value of a label, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Longest `traceparent`, in bytes; the W3C form has 55.
pub const TRACEPARENT_BYTES_MAX: usize = 64;
/// Longest payload of one operation, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of payload in one transaction.
pub const PAYLOADS_BYTES_MAX: usize = 256 * 1024;
/// Most branches in one transaction.
pub const BRANCHES_MAX: usize = 64;
/// Longest text of a reason or an error, in bytes.
pub const MESSAGE_BYTES_MAX: usize = pactum_core::vote::AbortReason::MESSAGE_BYTES_MAX;
/// Most messages in one batch of a stream: enough that a wake-up costs little per message, few
/// enough that a batch is worked off in about a millisecond.
pub const BATCH_MESSAGES_MAX: usize = 1024;
/// Most bytes in one batch of a stream.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// A transaction's time when nothing is said.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Longest time that a transaction may be given.
pub const TIMEOUT_MAX: Duration = Duration::from_hours(1);
