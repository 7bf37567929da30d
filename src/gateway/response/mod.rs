//! What goes back to the client.

pub mod body;
pub mod context;
pub mod record;
pub mod refusal;
