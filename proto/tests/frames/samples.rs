//! Values of every shape that the usual messages carry.

use std::time::Duration;

use pactum_core::coordinator::Operation;
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::vote::Evidence;
use pactum_proto::v1;
use uuid::Uuid;

/// A `traceparent` as tracers write it.
pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(crate) fn id() -> TransactionId {
    TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(0x0199_c3d0_0000_7000_8000_0000_0000_0001)),
        gid: Gid::from_uuid(Uuid::from_u128(0x0199_c3d0_ffff_7000_8000_0000_0000_0002)),
    }
}

/// One with every field.
pub(crate) fn branch() -> Branch {
    Branch {
        id: BranchId::new(0x0102_0304_0506_0708),
        resource: ResourceName::new("bank-1").unwrap(),
        instance: InstanceId::from_uuid(Uuid::from_u128(3)),
        marker: true,
    }
}

/// With all fields and with as few as may be, with the shortest and with long names.
pub(crate) fn branches() -> Vec<Branch> {
    let named = |name: &str| Branch { resource: ResourceName::new(name).unwrap(), ..branch() };
    let (few, long) = (named("a"), named(&"n".repeat(60)));
    vec![
        branch(),
        Branch { id: BranchId::new(0), instance: InstanceId::NIL, marker: false, ..few },
        Branch { id: BranchId::new(u64::MAX), ..long.clone() },
        Branch { instance: InstanceId::NIL, ..long },
    ]
}

/// From the shortest to the longest; of the last the message is longer than 128 bytes, and so is each half.
pub(crate) fn evidences() -> Vec<Evidence> {
    vec![
        Evidence::new("4711", "7312345678901234567/1/16B3748"),
        Evidence::new("4711", ""),
        Evidence::new("é".repeat(64), "é".repeat(64)),
    ]
}

pub(crate) fn operation(payload_bytes: usize) -> Operation {
    Operation { name: "add".into(), payload: vec![7; payload_bytes].into() }
}

/// None, empty, short, and longer than is ever taken.
pub(crate) fn operations() -> Vec<Option<Operation>> {
    let long_name = Operation { name: "h".repeat(60).into(), ..operation(1) };
    vec![None, Some(operation(0)), Some(operation(32)), Some(long_name), Some(operation(70_000))]
}

/// Nothing, milliseconds, and both halves as large as they become.
pub(crate) fn times() -> Vec<Duration> {
    vec![Duration::ZERO, Duration::from_millis(7), Duration::from_secs(30), Duration::new(3600, 999_999_999)]
}

/// Those of a Submit: each to its own resource.
pub(crate) fn submitted() -> Vec<v1::Operation> {
    let operation = |branch: u64, resource: &str, payload: Vec<u8>| v1::Operation {
        branch,
        resource: resource.to_owned(),
        name: "add".to_owned(),
        payload,
    };
    vec![
        operation(0, "bank-1", Vec::new()),
        operation(1, &"n".repeat(60), vec![0, 1, 2]),
        operation(u64::MAX, "b", vec![255; 300]),
    ]
}
