//! What the fuzz targets run: each takes any bytes, and panics when something does not hold.
//! `cargo test` includes this file, and runs the targets on their corpora.

pub mod console;
pub mod frames;
mod input;
pub mod random;
pub mod relay;
pub mod sasl;
pub mod settings;
pub mod sql;
pub mod startup;

/// What a target does with one input.
pub type Run = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Run); 7] = [
    ("console", console::run),
    ("frames", frames::run),
    ("relay", relay::run),
    ("sasl", sasl::run),
    ("settings", settings::run),
    ("sql", sql::run),
    ("startup", startup::run),
];
