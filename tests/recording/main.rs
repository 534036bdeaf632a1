//! The recorder as a process uses it: config file in, captures out. Each test has a process of its own, since there is
//! one recorder a process.

#![allow(clippy::unwrap_used, reason = "a test")]

mod child;
mod death;
mod files;
mod flight;
mod losses;
mod rings;
mod switch;
