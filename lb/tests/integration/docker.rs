//! Replicas as containers, on a real engine.

mod adoption;
mod doctor;
mod engine;
mod faults;
mod life;
mod recovery;
mod refused;
mod renames;
mod tls;
