//! Does a model fit this machine, and how fast will it run?

use crate::bench::machine::{self, Limits};
use crate::bundle::Bundle;
use crate::progress::{Interrupted, Work};
use pare_model::memory::{Memory, Tokens};
use pare_model::model::PackAs;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads of the buffer that memory is measured with.
const READS: usize = 5;

/// What a run takes, beside what the machine has.
#[derive(Clone, Debug, Serialize)]
pub struct Fit {
    /// Positions of the cache.
    pub context: usize,
    /// Bytes of the files of weights. They are mapped: what was read stays in memory only while there is room.
    pub file_bytes: u64,
    /// What the run holds.
    #[serde(flatten)]
    pub memory: Memory,
    /// What the process holds already: the program, the tokenizer, the headers.
    pub held_bytes: u64,
    /// The most that is in memory at once, the mapped files included.
    pub peak_bytes: u64,
    /// What can be taken before the system or its group of processes runs out; none where the system does not say.
    pub available_bytes: Option<u64>,
}

/// How fast tokens will come, by the bytes that each must read.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// Bytes per second that all threads read: the median of a few measurements.
    pub read_bandwidth_bytes_s: f64,
    /// Tokens per second while the cache is empty: no run is faster on this machine.
    pub decode_tok_s: f64,
    /// Tokens per second when the cache is full.
    pub decode_full_tok_s: f64,
}

impl Fit {
    /// For one sequence of up to `context` tokens, of which the first `prompt` are read in one pass.
    pub fn of(bundle: &Bundle, pack: PackAs, prompt: usize, context: usize, threads: usize) -> Fit {
        let memory = Memory::of(&bundle.model, pack, Tokens { prompt, context, threads });
        let held_bytes = machine::held_memory().unwrap_or(0);
        Fit {
            context,
            file_bytes: bundle.bytes,
            memory,
            held_bytes,
            peak_bytes: held_bytes + bundle.bytes + memory.bytes(),
            available_bytes: available(),
        }
    }

    /// Whether everything fits that cannot be dropped and read again; none where the system does not say what it has.
    pub fn fits(&self) -> Option<bool> {
        self.available_bytes.map(|available| self.memory.bytes() <= available)
    }

    /// Measures how fast memory is read, and what follows from it.
    ///
    /// # Errors
    /// The user stops it.
    pub fn speed(&self, work: Work<'_>) -> Result<Option<Speed>, Interrupted> {
        let limits = Limits::new(work.pool);
        let mut reads = Vec::with_capacity(READS);
        for _ in 0..READS {
            work.interrupt.check()?;
            reads.push(limits.read());
        }
        reads.sort_by(f64::total_cmp);
        let read_bandwidth_bytes_s = reads[READS / 2];
        let rate = |bytes: u64| read_bandwidth_bytes_s / bytes as f64;
        let weights = self.memory.weights_per_token_bytes;
        Ok((weights > 0).then(|| Speed {
            read_bandwidth_bytes_s,
            decode_tok_s: rate(weights),
            decode_full_tok_s: rate(weights + self.memory.cache_bytes),
        }))
    }
}

/// The most memory that this process has held at once, mapped files as far as they were in memory; none where the system does not say.
pub fn peak_memory() -> Option<u64> {
    machine::peak_memory()
}

/// The longest context up to `most` whose memory fits; none when not even one token does, or where the system does not say what it has.
pub fn longest_context(bundle: &Bundle, pack: PackAs, most: usize, threads: usize) -> Option<usize> {
    let fits = |context: usize| Fit::of(bundle, pack, context, context, threads).fits() == Some(true);
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

/// Bytes that can still be taken: what the system says, or what is left of the limit of a group of processes.
fn available() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    left_of_group(&groups, Path::new("/sys/fs/cgroup")).into_iter().chain(machine::free_memory()).min()
}

/// What is left of the tightest limit on the way from the process' group to the root, in either version of the interface.
fn left_of_group(groups: &str, root: &Path) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (folder, [limit, used, stat]) = match controllers {
            "" => (root.to_owned(), ["memory.max", "memory.current", "memory.stat"]),
            "memory" => (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"]),
            _ => continue,
        };
        let own: PathBuf = folder.join(path.trim_start_matches('/'));
        for group in own.ancestors().take_while(|group| group.starts_with(&folder)) {
            let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
            // "max", or a number that no machine has, is no limit.
            let (Some(limit), Some(used)) = (number(limit).filter(|&limit| limit < 1 << 50), number(used)) else {
                continue;
            };
            let stat = fs::read_to_string(group.join(stat)).unwrap_or_default();
            // Pages of files that were not used lately count as used, and are dropped first.
            let dropped = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
            let left = limit.saturating_sub(used.saturating_sub(dropped.unwrap_or(0)));
            least = Some(least.map_or(left, |least| least.min(left)));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |group: &str, files: [(&str, &str); 3]| {
            let group = root.path().join(group);
            fs::create_dir_all(&group).unwrap();
            files.iter().for_each(|(name, text)| fs::write(group.join(name), text).unwrap());
        };
        let stat = "anon 5\ninactive_file 30\n";
        write("a", [("memory.max", "1000\n"), ("memory.current", "400\n"), ("memory.stat", stat)]);
        write("a/b", [("memory.max", "max\n"), ("memory.current", "100\n"), ("memory.stat", stat)]);
        assert_eq!(left_of_group("0::/a/b\n", root.path()), Some(630));
        write("a/b", [("memory.max", "200\n"), ("memory.current", "300\n"), ("memory.stat", "")]);
        assert_eq!(left_of_group("0::/a/b\n", root.path()), Some(0));
        let old = [("memory.limit_in_bytes", "50"), ("memory.usage_in_bytes", "20"), ("memory.stat", stat)];
        write("memory/c", old);
        assert_eq!(left_of_group("3:cpu:/c\n2:memory:/c\n", root.path()), Some(50));
        assert_eq!(left_of_group("0::/nowhere\nnonsense\n", root.path()), None);
    }
}
