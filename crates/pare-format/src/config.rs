//! shim
/// shim
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family { /// a
Llama }
