//! Waiting for a condition, which is the only way that a test waits.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything that must happen may take. A wrong program fails here; a slow machine does
/// not: what is waited for takes a few seconds at most on an idle one.
pub const SOON: Duration = Duration::from_mins(2);

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// Waits until the condition gives a value.
///
/// # Panics
/// It gave none within [`SOON`]: the message says what was awaited.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {SOON:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the check holds, and says why it did not.
///
/// # Panics
/// It did not hold within [`SOON`]; the message carries what it said last.
pub async fn until_ok<F: Future<Output = Result<(), String>>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while let Err(problem) = check().await {
        assert!(Instant::now() < deadline, "{what} within {SOON:?}: {problem}");
        tokio::time::sleep(POLL).await;
    }
}
