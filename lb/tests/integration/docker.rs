//! Replicas as containers, on a real engine.

mod adoption;
mod classic;
mod doctor;
mod engine;
mod faults;
mod holds;
mod life;
mod networks;
mod recovery;
mod refused;
mod renames;
mod tls;
