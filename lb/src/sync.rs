//! The atomics of what `tests/interleavings.rs` tries out in every order: there, these are the model checker's.

pub(crate) use std::sync::atomic::{AtomicU32, Ordering};
