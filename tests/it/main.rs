//! The integration tests: one binary, so that they link once and run side by side.
//!
//! `support` is the other side of the wire, played by ourselves: registries, token servers and CDNs that fail as told,
//! and clients that see every byte. Nothing outside this process is needed.
// A test binary exports nothing, and helpers outside `#[test]` functions may panic like the tests they serve.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod access;
mod audit;
mod bounds;
mod crash;
mod downloads;
mod egress;
mod endpoints;
mod kit;
mod layers;
mod links;
mod operator;
mod outages;
mod policy;
mod private;
mod process;
mod pull_rules;
mod quota;
mod ranges;
mod reload;
mod resume;
mod strangers;
mod support;
mod tls;
mod users;
mod well_known;
mod wrong_bytes;
