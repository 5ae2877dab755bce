//! The services' own interfaces, generated from `proto/*.proto`.

/// Package `shop.inventory.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub(crate) mod inventory {
    tonic::include_proto!("shop.inventory.v1");
}

/// Package `shop.ledger.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub(crate) mod ledger {
    tonic::include_proto!("shop.ledger.v1");
}
