//! Who calls the admin address: put beside each of its requests by whoever let it in, and read by the
//! acts.

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and act.
    Operator,
}

/// A caller of the admin address, as an extension of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name of his token; `None` where the address asks for none: then what he says of himself
    /// is all that is known.
    pub name: Option<String>,
    /// What he may do.
    pub role: Role,
    /// From where: his address, and by what he came (`grpc`, `console`).
    pub origin: String,
}
