//! A bank: accounts in memory that outlive the host, as a database's disk would, and the hooks that
//! make changes of them branches of global transactions.
//!
//! A change locks its accounts from the moment that it is made, or prepared, until it ends. There is
//! no waiting: whoever meets a lock is refused. Each change that took effect is kept in a ledger, so
//! that the checks need not believe anybody.

mod hooks;
mod store;

pub use self::hooks::{Bank, WorkError};
pub use self::store::{Change, Entry, Left, Store};
