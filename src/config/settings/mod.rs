//! The typed tree of settings. Each is declared once, with text, kind, default and reload, by the macros of
//! [`declare`]; readers, defaults, SHOW CONFIG, `pooler.toml` and the reference page are made of that.

pub mod declare;
pub mod elsewhere;
pub mod entries;
pub mod kinds;
pub mod pooler;
pub mod pools;
pub mod section;
pub mod table;
pub mod texts;
pub mod tls;

pub(crate) use declare::{overrides, settings};
pub use entries::{DatabaseSettings, UserSettings};
pub use pooler::{Metrics, Pooler, TcpOptions};
pub use pools::Defaults;
pub use table::{Declared, Group, Reload, SECTIONS, SectionTable, Setting, Tree, homes_of};
pub use tls::{ClientTls, ServerTls};
