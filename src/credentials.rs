//! Who we are to others: Basic credentials and bearer tokens, and what to send to an upstream that asks.
//!
//! A password goes to two places only: to a registry that asks for Basic, and to the one token realm that belongs to its
//! registry. What a registry asks for is remembered, so that a hot token goes out with the first try.

mod authenticator;
mod error;
mod realm;
mod standing;
mod token;
mod tokens;

pub use authenticator::{Authenticator, Scope};
pub use error::Error;
pub use tokens::Tokens;
