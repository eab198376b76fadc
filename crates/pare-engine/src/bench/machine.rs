//! The machine that a run was measured on: what it is, what it can do at most, and the memory of this process.

use super::spread::Spread;
use pare_kernels::isa::Isa;
use pare_kernels::machine::{Stream, peak_flops, peak_int8_ops};
use pare_kernels::pool::Pool;
use serde::Serialize;
use std::fs;

/// Smallest buffer that is read to measure memory.
const LEAST_BUFFER: u64 = 256 << 20;
/// The buffer is this many times the last cache, where memory allows.
const TIMES_CACHE: u64 = 4;
/// At most this part of the free memory is taken for the buffer.
const PART_OF_FREE: u64 = 4;

/// The machine, and what it could do in this run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Model of the processor, as the system says.
    pub cpu: String,
    /// Threads that computed.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: &'static str,
    /// Operating system, its kernel's release and the architecture.
    pub os: String,
    /// Waiting and running threads of the whole machine over the last minute, before the run: above 0 something else ran too.
    pub load_before: Option<f64>,
    /// Bytes of the largest cache, as the system says.
    pub last_cache_bytes: Option<u64>,
    /// Bytes of the buffer that was read to measure memory.
    pub read_buffer_bytes: u64,
    /// Bytes per second that all threads together read: the median.
    pub read_bandwidth_bytes_s: f64,
    /// All measurements of it.
    pub read_bandwidth_spread: Spread,
    /// Floating-point operations per second of all threads together, a multiply-add counted as two: the median.
    pub peak_flops: f64,
    /// All measurements of it.
    pub peak_flops_spread: Spread,
    /// Operations on 8-bit integers per second of all threads together, a multiply-add counted as two: the median.
    pub peak_int8_ops: f64,
    /// All measurements of it.
    pub peak_int8_spread: Spread,
}

/// Measures the limits of the machine between the rounds of a run.
pub(crate) struct Limits<'a> {
    pool: &'a Pool,
    stream: Stream,
    cache_bytes: Option<u64>,
    reads: Vec<f64>,
    peaks: Vec<f64>,
    int8: Vec<f64>,
}

impl<'a> Limits<'a> {
    /// Takes the memory that it reads.
    pub(crate) fn new(pool: &'a Pool) -> Self {
        let cache_bytes = last_cache_bytes();
        let wanted = cache_bytes.map_or(0, |bytes| bytes.saturating_mul(TIMES_CACHE)).max(LEAST_BUFFER);
        let most = free_memory().map_or(LEAST_BUFFER, |bytes| bytes / PART_OF_FREE);
        let stream = Stream::new(usize::try_from(wanted.min(most)).unwrap_or(usize::MAX / 2), pool);
        Self { pool, stream, cache_bytes, reads: Vec::new(), peaks: Vec::new(), int8: Vec::new() }
    }

    /// Bytes per second that all threads read, once.
    pub(crate) fn read(&self) -> f64 {
        self.stream.read(self.pool)
    }

    /// Measures once.
    pub(super) fn measure(&mut self) {
        self.reads.push(self.stream.read(self.pool));
        self.peaks.push(peak_flops(self.pool));
        self.int8.push(peak_int8_ops(self.pool));
    }

    /// The machine; nothing when no measurement was made.
    pub(super) fn machine(&self, load_before: Option<f64>) -> Option<Machine> {
        let (reads, peaks) = (Spread::of(self.reads.iter().copied())?, Spread::of(self.peaks.iter().copied())?);
        let int8 = Spread::of(self.int8.iter().copied())?;
        Some(Machine {
            cpu: cpu(),
            threads: self.pool.threads(),
            isa: Isa::detect().name(),
            os: os(),
            load_before,
            last_cache_bytes: self.cache_bytes,
            read_buffer_bytes: self.stream.bytes() as u64,
            read_bandwidth_bytes_s: reads.median,
            read_bandwidth_spread: reads,
            peak_flops: peaks.median,
            peak_flops_spread: peaks,
            peak_int8_ops: int8.median,
            peak_int8_spread: int8,
        })
    }
}

/// Model of the processor; its architecture where the system does not say.
fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| field(line, "model name"));
    name.unwrap_or(std::env::consts::ARCH).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn os() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    [std::env::consts::OS, release.trim(), std::env::consts::ARCH].join(" ").replace("  ", " ")
}

/// The load of the machine over the last minute.
pub(super) fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn last_cache_bytes() -> Option<u64> {
    let entries = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?;
    let sizes = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("size")).ok());
    sizes.filter_map(|text| Some(text.trim().strip_suffix('K')?.parse::<u64>().ok()? << 10)).max()
}

/// Bytes that can be taken before the machine runs out, as the system says.
pub(crate) fn free_memory() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

/// Memory that this process holds now.
pub(crate) fn held_memory() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// Most memory that this process has held at once since its start or the last [`forget_peak_memory`]; mapped files count as far as they
/// are in memory.
pub(crate) fn peak_memory() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// Lets [`peak_memory`] begin anew; whether the system allows it.
pub(crate) fn forget_peak_memory() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The value of `name: value` when the line has this name.
fn field<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == name).then_some(value.trim())
}

/// The bytes of a line `name: N kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| field(line, name))?;
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_system_are_read() {
        let text = "Name:\tpare\nVmPeak:\t  900 kB\nVmHWM:\t     12 kB\nThreads:\t2\n";
        assert_eq!(kilobytes(text, "VmHWM"), Some(12 << 10));
        assert_eq!(kilobytes(text, "Threads"), None);
        assert_eq!(kilobytes(text, "VmSwap"), None);
        assert_eq!(kilobytes("VmHWM: 99999999999999999999 kB", "VmHWM"), None);
        assert_eq!(field("model name\t: Some CPU @ 2 GHz: fast", "model name"), Some("Some CPU @ 2 GHz: fast"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_holds_what_was_touched() {
        let touched = vec![1u8; 64 << 20];
        assert!(peak_memory().unwrap() >= touched.iter().map(|&byte| u64::from(byte)).sum());
    }
}
