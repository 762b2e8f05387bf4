//! The real binary, real replica processes and real sockets.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod accounting;
mod adoption;
mod classic;
mod cli;
mod clients;
mod configuration;
mod docker;
mod events;
mod examples;
mod failover;
mod framing;
mod harness;
mod heartbeats;
mod idle;
mod images;
mod lifecycle;
mod limits;
mod logging;
mod observing;
mod operators;
mod overload;
mod privileges;
mod readme;
mod reload;
mod retries;
mod routing;
mod spawner;
mod story;
mod streaming;
mod swarm;
mod tls;
mod upgrade;
mod websockets;
