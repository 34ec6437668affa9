//! What a statement says: PostgreSQL's tokens, a conservative grammar, and a cache by text. Unknown is said, never
//! guessed; nothing here knows a node or a pool.

pub mod cache;
pub mod catalog;
pub mod catalog_load;
pub mod deeds;
mod effects;
mod grammar;
mod keywords;
pub mod lexer;
mod source;
mod unescape;

pub use cache::Cache;
pub use catalog::Catalog;
pub use effects::Effects;
pub use grammar::{
    Argument, Call, Copy, CopyPlace, Create, Discard, Isolation, Item, Kind, Modes, Object, Script, Setting,
    SettingName, Statement, Temp, Value,
};
pub use source::{Dialect, Encoding, Source, Span, TEXT_MAX, says_always_the_same};
