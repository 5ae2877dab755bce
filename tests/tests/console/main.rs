//! The operators' pages in a real browser: what is read there, what can be done there and what cannot,
//! with a script and without, on a desk and on a phone.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

mod acts;
mod browser;
mod look;
mod outage;
mod scene;
