//! shim
use std::sync::Arc;
/// shim
#[derive(Clone, Debug)]
pub struct Bytes(pub Arc<Vec<u8>>, pub std::ops::Range<usize>);
impl std::ops::Deref for Bytes { type Target=[u8]; fn deref(&self)->&[u8]{ &self.0[self.1.clone()] } }
