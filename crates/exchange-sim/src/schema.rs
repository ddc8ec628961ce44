//! What the schema says of requests.

use crate::xml::Element;

/// Where a request breaks the schema, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub offset: usize,
    pub what: String,
}

/// Checks the headers and the operation of a request.
pub(crate) fn validate_request(_header: Option<&Element>, _operation: &Element) -> Result<(), Violation> {
    Ok(())
}
