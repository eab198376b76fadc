//! The keys and values of one sequence in one block, laid out as the microkernel reads them.

use crate::memory::Aligned;
use crate::tile::PANEL;

/// Keys and values of one sequence in one block, f32, for `G` groups of width `D`.
///
/// Keys are panels of 32 positions, `[G][ceil(capacity / 32)][D][32]`; values are panels of 32 dimensions,
/// `[G][ceil(D / 32)][capacity][32]`.
#[derive(Debug)]
pub struct KvBlock {
    groups: usize,
    head_dim: usize,
    capacity: usize,
    length: usize,
    keys: Aligned<f32>,
    values: Aligned<f32>,
}

impl KvBlock {
    /// An empty cache for at least `capacity` positions.
    pub fn new(groups: usize, head_dim: usize, capacity: usize) -> KvBlock {
        let capacity = capacity.next_multiple_of(PANEL);
        let keys = Aligned::zeroed(groups * capacity * head_dim);
        let values = Aligned::zeroed(groups * head_dim.next_multiple_of(PANEL) * capacity);
        KvBlock { groups, head_dim, capacity, length: 0, keys, values }
    }

    /// Bytes of a cache for at least `capacity` positions.
    pub fn bytes_of(groups: usize, head_dim: usize, capacity: usize) -> u64 {
        let width = head_dim + head_dim.next_multiple_of(PANEL);
        groups as u64 * capacity.next_multiple_of(PANEL) as u64 * width as u64 * size_of::<f32>() as u64
    }

    /// `G`.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// `D`.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Positions that fit: a multiple of 32.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<f32>()
    }

    /// Forgets the positions from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Forgets every position.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Makes room for at least `capacity` positions; what is held stays.
    pub fn reserve(&mut self, capacity: usize) {
        if capacity <= self.capacity {
            return;
        }
        let mut grown = KvBlock::new(self.groups, self.head_dim, capacity);
        let (d, padded) = (self.head_dim, self.head_dim.next_multiple_of(PANEL));
        let (old, new) = (self.capacity * d, grown.capacity * d);
        for group in 0..self.groups {
            grown.keys[group * new..][..old].copy_from_slice(&self.keys[group * old..][..old]);
        }
        let (old, new) = (self.capacity * PANEL, grown.capacity * PANEL);
        for panel in 0..self.groups * padded / PANEL {
            grown.values[panel * new..][..old].copy_from_slice(&self.values[panel * old..][..old]);
        }
        grown.length = self.length;
        *self = grown;
    }

    /// Writes the key and the value, `[G * D]` each, of `position`, which is the next one or one held already (what was
    /// held after it stays).
    ///
    /// # Panics
    /// When `position` is past the end or the capacity, or a length is wrong.
    pub fn append(&mut self, position: usize, k: &[f32], v: &[f32]) {
        let (d, panels) = (self.head_dim, self.head_dim.div_ceil(PANEL));
        assert!(position < self.capacity, "position {position} in a cache of {}", self.capacity);
        assert!(position <= self.length, "position {position} after {}", self.length);
        assert_eq!(k.len(), self.groups * d, "the key");
        assert_eq!(v.len(), self.groups * d, "the value");
        for group in 0..self.groups {
            let start = self.key_start(position, group);
            for (i, &k) in k[group * d..][..d].iter().enumerate() {
                self.keys[start + i * PANEL] = k;
            }
            for (panel, v) in v[group * d..][..d].chunks(PANEL).enumerate() {
                let start = ((group * panels + panel) * self.capacity + position) * PANEL;
                self.values[start..][..v.len()].copy_from_slice(v);
            }
        }
        self.length = self.length.max(position + 1);
    }

    /// Appends `T` positions after the last: `k` and `v` are `[T, G * D]`.
    ///
    /// # Panics
    /// When the lengths do not agree or the capacity does not suffice.
    pub fn extend(&mut self, k: &[f32], v: &[f32]) {
        let width = self.groups * self.head_dim;
        assert!(width > 0 && k.len().is_multiple_of(width), "keys are not [T, {width}]");
        assert_eq!(k.len(), v.len(), "keys and values");
        for (k, v) in k.chunks_exact(width).zip(v.chunks_exact(width)) {
            self.append(self.length, k, v);
        }
    }

    /// Where the key of `group` at `position` begins; its values follow one every 32.
    fn key_start(&self, position: usize, group: usize) -> usize {
        (group * self.capacity + position / PANEL * PANEL) * self.head_dim + position % PANEL
    }

    /// The keys `[D][32]` of the 32 positions from `position`, a multiple of 32.
    pub(super) fn key_panel(&self, group: usize, position: usize) -> &[f32] {
        &self.keys[self.key_start(position, group)..][..self.head_dim * PANEL]
    }

    /// The values `[capacity][32]` of the dimensions from `dim`, a multiple of 32.
    pub(super) fn value_panel(&self, group: usize, dim: usize) -> &[f32] {
        let panel = group * self.head_dim.div_ceil(PANEL) + dim / PANEL;
        &self.values[panel * self.capacity * PANEL..][..self.capacity * PANEL]
    }

    /// Copies the key of `group` at `position` into `out` of `D` values.
    ///
    /// # Panics
    /// When it is not held or `out` is not `D` long.
    pub fn key(&self, position: usize, group: usize, out: &mut [f32]) {
        assert!(position < self.length && group < self.groups, "no key of group {group} at {position}");
        assert_eq!(out.len(), self.head_dim, "the key");
        let start = self.key_start(position, group);
        out.iter_mut().enumerate().for_each(|(i, out)| *out = self.keys[start + i * PANEL]);
    }

    /// Copies the value of `group` at `position` into `out` of `D` values.
    ///
    /// # Panics
    /// When it is not held or `out` is not `D` long.
    pub fn value(&self, position: usize, group: usize, out: &mut [f32]) {
        assert!(position < self.length && group < self.groups, "no value of group {group} at {position}");
        assert_eq!(out.len(), self.head_dim, "the value");
        for (panel, out) in out.chunks_mut(PANEL).enumerate() {
            out.copy_from_slice(&self.value_panel(group, panel * PANEL)[position * PANEL..][..out.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::numbers;

    #[test]
    fn what_is_appended_is_read_back_also_after_growth() {
        for (groups, d) in [(1, 1), (2, 33), (3, 64)] {
            let width = groups * d;
            let (k, v) = (numbers(1, 70 * width), numbers(2, 70 * width));
            let mut cache = KvBlock::new(groups, d, 40);
            assert!(cache.is_empty());
            cache.extend(&k[..40 * width], &v[..40 * width]);
            cache.reserve(70);
            cache.extend(&k[40 * width..], &v[40 * width..]);
            assert_eq!(cache.len(), 70);
            let mut row = vec![0.0; d];
            for position in 0..70 {
                for group in 0..groups {
                    cache.key(position, group, &mut row);
                    assert_eq!(row, k[position * width + group * d..][..d]);
                    cache.value(position, group, &mut row);
                    assert_eq!(row, v[position * width + group * d..][..d]);
                }
            }
            cache.truncate(80);
            assert_eq!(cache.len(), 70);
            cache.truncate(7);
            assert_eq!(cache.len(), 7);
            cache.append(3, &k[..width], &v[..width]);
            assert_eq!(cache.len(), 7);
            cache.clear();
            assert!(cache.is_empty());
        }
    }

    #[test]
    #[should_panic(expected = "position 2 after 1")]
    fn positions_leave_no_hole() {
        let mut cache = KvBlock::new(1, 2, 8);
        cache.append(0, &[1.0; 2], &[1.0; 2]);
        cache.append(2, &[1.0; 2], &[1.0; 2]);
    }
}
