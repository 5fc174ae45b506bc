//! The parts that the load client and the shaped upstream are made of. Neither is a product: they serve the measurements in
//! `benches/`, on loopback, and trust their arguments.

pub mod answer;
pub mod closed;
pub mod content;
pub mod held;
pub mod histogram;
pub mod origin;
pub mod shape;
pub mod sink;
