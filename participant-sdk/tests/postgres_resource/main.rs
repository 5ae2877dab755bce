//! The PostgreSQL resource against a real server. Test names are claims; the ids in brackets are
//! rows of the failure matrix.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod bank;
mod begin;
mod checks;
mod contract;
mod examine;
mod finish;
mod identity;
mod lost;
mod marker;
mod overrule;
mod proxy;
mod votes;
