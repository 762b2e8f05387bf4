//! The replica: the small HTTP server that Ringmaster starts, watches and sends requests to.
//!
//! * `GET /home`      -- 200 and JSON: which replica answered.
//! * `GET /heartbeat` -- 200 and an empty body: this replica is alive.
//! * any other path   -- 400 (not 404: the contract) and JSON that names the path.
//!
//! Both endpoints answer `HEAD` like `GET`. Any other method is not part of the contract and gets
//! what HTTP says: 405, with `Allow` and the same JSON shape as every failure. No handler reads a
//! request body.
//!
//! A replica with a [`ServedLog`] writes down every `/home`, answers `POST` there, too, and reads
//! its body first: what has not come whole was not served.
//!
//! [`run()`] is the server on a given socket; [`serve()`] is the whole process around it, for whoever
//! has the command line.

mod args;
mod healthcheck;
mod http;
mod replica;
mod run;
mod say;
mod served_log;

pub use self::{
    args::{ServerArgs, serve},
    replica::{Behaviour, Replica},
    run::run,
    served_log::ServedLog,
};
