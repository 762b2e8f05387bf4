//! What reads bytes that others chose, each as a function of these bytes that panics when a promise is broken.
//!
//! `lb/fuzz` has libFuzzer look for such bytes; the test below runs the corpora, and bytes made from them, wherever the
//! other tests run. What was found once belongs into a test of the module that was mended.

#[cfg(all(test, not(fuzzing)))]
mod tests;

/// A name, which is that of its corpus, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 7] = [
    ("config", crate::config::fuzz),
    ("payload", crate::admin::fuzz_payload),
    ("head", crate::proxy::fuzz_head),
    ("chunks", crate::proxy::fuzz_chunks),
    ("frames", crate::proxy::fuzz_frames),
    ("key", crate::proxy::fuzz_key),
    ("spawner", crate::engine::fuzz_spawner),
];

/// The function of the target that is called `name`.
///
/// # Panics
///
/// If there is none.
pub fn target(name: &str) -> fn(&[u8]) {
    let target = TARGETS.iter().find(|(it, _)| *it == name);
    target.unwrap_or_else(|| panic!("no target is called {name:?}")).1
}
