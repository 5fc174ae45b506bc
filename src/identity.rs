//! Who a client says it is, and whether that is true: users from a file, their passwords, and tokens of our own for them.
//!
//! [`Users`] is what a file says, immutable; a reload makes a new one. [`Passwords`] and [`Tokens`] live as long as the process
//! and keep nothing that a reload could make wrong: what they remember of a user holds only together with the hash that the
//! file had for it then. No password, hash or token is ever printed.

pub mod challenge;
mod error;
mod guesses;
mod htpasswd;
mod key;
mod passwords;
mod presented;
mod tokens;
mod users;

pub use error::{Error, Flaw};
pub use htpasswd::{Hash, Htpasswd};
pub use passwords::{Passwords, Refused};
pub use presented::{Login, Presented, Token};
pub use tokens::{Holder, TOKEN_LIFETIME, Tokens};
pub use users::{User, Users};
