//! Which instruction set the kernels use.

use std::sync::OnceLock;

/// The instruction sets that the kernels are written for, best first: each holds those after it. The bits of a result never depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// [`Isa::Avx512`] and its products of 8-bit integers, avx512vnni.
    Avx512Vnni,
    /// 16 lanes: avx512f, avx512vl, avx512bw, avx512dq, fma and f16c.
    Avx512,
    /// 8 lanes: avx2, fma and f16c.
    Avx2,
    /// Plain Rust with `f32::mul_add`, on any machine.
    Portable,
}

impl Isa {
    /// The best set that this machine has; asked once.
    pub fn detect() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            if has_avx512() && has_vnni() {
                Isa::Avx512Vnni
            } else if has_avx512() {
                Isa::Avx512
            } else if has_avx2() {
                Isa::Avx2
            } else {
                Isa::Portable
            }
        })
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        self >= Isa::detect()
    }

    /// Every set that this machine can run, best first.
    pub fn available() -> impl Iterator<Item = Isa> {
        [Isa::Avx512Vnni, Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.is_available())
    }

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
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
                match isa {
                    // SAFETY: `Isa` values in use are those that the machine has.
                    $crate::isa::Isa::Avx512Vnni | $crate::isa::Isa::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::isa::Isa::Portable => {}
                }
            }
            debug_assert!(isa.is_available());
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
        assert_eq!(all[0], Isa::detect());
        assert_eq!(all[all.len() - 1], Isa::Portable);
    }
}
