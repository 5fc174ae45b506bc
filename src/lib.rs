//! roadstead: an edge pull-through caching proxy for container registries.
//!
//! Each room of the house is a module here; ARCHITECTURE.md says what each is for, which may import which, and how a
//! request walks through them.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod egress;
pub mod front;
pub mod identity;
pub mod mirror;
pub mod oci;
pub mod policy;
pub mod quota;
pub mod request;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod upstream;
