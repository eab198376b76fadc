//! Puts GGUF bytes together piece by piece, right or wrong.
#![allow(dead_code, reason = "every test uses another part")]

/// A GGUF file in the making. Every number can be a lie.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// Declared counts, when they differ from the true ones.
    pub(crate) tensor_count: Option<u64>,
    pub(crate) key_count: Option<u64>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    pub(crate) align: usize,
}

impl Bytes {
    pub(crate) fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            key_count: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            data: Vec::new(),
            align: 32,
        }
    }

    /// A small sound file: one text key, two tensors of 32 f32.
    pub(crate) fn sound() -> Self {
        let tensors = vec![tensor("a", &[32], 0, 0), tensor("b", &[16, 2], 0, 128)];
        Self { keys: vec![text("general.architecture", "llama")], tensors, data: vec![0; 256], ..Self::new() }
    }

    pub(crate) fn key(mut self, raw: Vec<u8>) -> Self {
        self.keys.push(raw);
        self
    }

    pub(crate) fn only(mut self, raw: Vec<u8>) -> Self {
        self.tensors = vec![raw];
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        self.keys.iter().chain(&self.tensors).for_each(|part| out.extend(part));
        out.resize(out.len().next_multiple_of(self.align), 0);
        out.extend(&self.data);
        out
    }
}

pub(crate) fn string(s: &[u8]) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s].concat()
}

/// A key with a raw value: `kind` is the type id.
pub(crate) fn key(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    [string(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

pub(crate) fn text(name: &str, value: &str) -> Vec<u8> {
    key(name.as_bytes(), 8, &string(value.as_bytes()))
}

pub(crate) fn number(name: &str, value: u32) -> Vec<u8> {
    key(name.as_bytes(), 4, &value.to_le_bytes())
}

/// An array key: element type, declared length, raw elements.
pub(crate) fn array(name: &str, kind: u32, len: u64, raw: &[u8]) -> Vec<u8> {
    key(name.as_bytes(), 9, &[&kind.to_le_bytes()[..], &len.to_le_bytes()[..], raw].concat())
}

pub(crate) fn strings<S: AsRef<[u8]>>(name: &str, values: &[S]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| string(v.as_ref())).collect();
    array(name, 8, values.len() as u64, &raw)
}

pub(crate) fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    tensor_dims(name.as_bytes(), shape.len() as u32, shape, kind, offset)
}

pub(crate) fn tensor_dims(name: &[u8], dims: u32, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut out = string(name);
    out.extend(dims.to_le_bytes());
    shape.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(kind.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}
