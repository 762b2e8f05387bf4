//! The life of a replica, told as stories: what happens, and the whole list of commands that follows.

mod adopting;
mod choosing;
mod failing;
mod fresh;
mod inheriting;
mod joining;
mod leaving;
mod living;
mod reconfiguring;
mod restarting;
mod told;
