//! What the tests of the relay share.

mod losses;
pub(crate) mod messages;
pub(crate) mod model_server;
pub(crate) mod script;
pub(crate) mod world;
