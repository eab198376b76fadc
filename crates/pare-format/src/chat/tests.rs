//! Tests of values (`x is y`) that differ from Python's in the engine.

use minijinja::Environment;
use minijinja::value::{Value, ValueKind};

/// Puts Python's answers in place of the engine's.
pub(super) fn install(env: &mut Environment<'_>) {
    use ValueKind::{Bool, Iterable, Map, Number, Seq, String, Undefined};
    fn is(kinds: &'static [ValueKind]) -> impl Fn(&Value) -> bool {
        move |value| kinds.contains(&value.kind())
    }
    env.add_test("iterable", is(&[Seq, Iterable, Map, String, Undefined]));
    env.add_test("sequence", is(&[Seq, Map, String, Undefined]));
    env.add_test("number", is(&[Number, Bool]));
    env.add_test("callable", is(&[ValueKind::Plain]));
}
