//! Which instruction set the kernels use.

use std::sync::OnceLock;

/// The instruction sets that the kernels are written for, best first: each holds those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// [`Level::Avx512`] and its products of 8-bit integers, avx512vnni.
    Avx512Vnni,
    /// 16 lanes: avx512f, avx512vl, avx512bw, avx512dq, fma and f16c.
    Avx512,
    /// 8 lanes: avx2, fma and f16c.
    Avx2,
    /// Plain Rust with `f32::mul_add`, on any machine.
    Portable,
}

impl Level {
    /// Every level, best first.
    pub const ALL: [Level; 4] = [Level::Avx512Vnni, Level::Avx512, Level::Avx2, Level::Portable];

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Avx512Vnni => "avx512vnni",
            Level::Avx512 => "avx512",
            Level::Avx2 => "avx2",
            Level::Portable => "portable",
        }
    }

    /// The level of that [`Level::name`].
    pub fn named(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// An instruction set that this machine has. The bits of a result never depend on it.
///
/// Only detection makes one, and safe code can lower it but not raise it: who holds an `Isa` may run the kernels of its level.
///
/// ```compile_fail,E0423
/// let claimed = pare_kernels::Isa(pare_kernels::Level::Avx512);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

static USED: OnceLock<Isa> = OnceLock::new();

impl Isa {
    /// Plain Rust, which every machine runs.
    pub const PORTABLE: Isa = Isa(Level::Portable);

    /// What this process uses: the best set of the machine, or less after [`Isa::limit`]. Asked once.
    pub fn detect() -> Isa {
        *USED.get_or_init(Isa::best)
    }

    /// Makes the whole process use no more than `level`. Does nothing once [`Isa::detect`] was asked; what is used is returned.
    pub fn limit(level: Level) -> Isa {
        *USED.get_or_init(|| Isa::best().at_most(level))
    }

    /// The best set that this machine has.
    fn best() -> Isa {
        if has_avx512() && has_vnni() {
            Isa(Level::Avx512Vnni)
        } else if has_avx512() {
            Isa(Level::Avx512)
        } else if has_avx2() {
            Isa(Level::Avx2)
        } else {
            Isa::PORTABLE
        }
    }

    /// Itself, or `level` when that is less.
    pub fn at_most(self, level: Level) -> Isa {
        // A level holds all that come after it, so what is later is there too.
        Isa(self.0.max(level))
    }

    /// Every set that this machine can run, best first.
    pub fn available() -> impl Iterator<Item = Isa> {
        let best = Isa::best();
        Level::ALL.into_iter().filter(move |&level| level >= best.0).map(Isa)
    }

    /// Which it is.
    pub fn level(self) -> Level {
        self.0
    }

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn has_avx512() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn has_vnni() -> bool {
    false
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn has_avx2() -> bool {
    false
}

/// Defines `$name(isa, arguments)`, which runs the `#[inline(always)]` function `$body` compiled for that set. Plain Rust has one
/// meaning, so the bits are the same.
macro_rules! versions {
    ($name:ident, $body:path, ($($argument:ident: $ty:ty),*) $(-> $result:ty)?) => {
        fn $name(isa: $crate::isa::Isa, $($argument: $ty),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
                fn avx512($($argument: $ty),*) $(-> $result)? {
                    $body($($argument),*)
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($argument: $ty),*) $(-> $result)? {
                    $body($($argument),*)
                }
                use $crate::isa::Level;
                match isa.level() {
                    // SAFETY: an `Isa` is proof that the machine has the set.
                    Level::Avx512Vnni | Level::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { avx2($($argument),*) },
                    Level::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = isa;
            $body($($argument),*)
        }
    };
}
pub(crate) use versions;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_set_is_the_first_available_and_portable_is_always_there() {
        let all: Vec<Isa> = Isa::available().collect();
        assert_eq!(all[0], Isa::best());
        assert_eq!(all[all.len() - 1], Isa::PORTABLE);
        assert!(all.is_sorted_by_key(|isa| isa.level()));
    }

    #[test]
    fn a_set_is_lowered_and_never_raised() {
        for isa in Isa::available() {
            for level in Level::ALL {
                assert_eq!(isa.at_most(level).level(), isa.level().max(level));
            }
        }
        assert_eq!(Isa::PORTABLE.at_most(Level::Avx512Vnni), Isa::PORTABLE);
        assert!(Level::ALL.into_iter().all(|level| Level::named(level.name()) == Some(level)));
    }
}
