//! Where did the time of this request, of this step, go?
//!
//! `msprof_rs` wraps the functions that a YAML file names inside a running LLM server, at a cost of tens of
//! nanoseconds a call, and turns what it recorded into timelines and tables. Data flows one way:
//!
//! ```text
//! symbols ──► hook ──► ring ──► trace file ──► source ──► model ──► export
//! └──────────── inside the server ─────────┘   └── msprof-rs parse ──────┘
//! ```
//!
//! The recording wing ([`hook`], [`handlers`], `api`, [`recorder`]) runs in the server; the reading wing ([`cli`],
//! [`source`], [`model`], [`export`]) runs after it. They share the vocabulary of [`event`], the file format of
//! [`trace`] and, while the server runs, the page of [`control`]; nothing else. `msprof-rs check` holds [`symbols`]
//! against Python [`code`], which it reads and never runs.
//!
//! Everything below [`hook`] works without Python. What a user's symbol file says, for instance:
//!
//! ```
//! use msprof_rs::symbols::Table;
//!
//! let (table, problems) = Table::parse("- {symbol: 'shop:price_of', domain: Shop}\n- {domain: Shop}\n", "shop.yaml");
//! assert_eq!(table.symbols[0].target.function(), "price_of");
//! assert_eq!(problems[0].line, Some(2)); // an entry without a symbol costs only itself
//! ```

pub mod clock;
pub mod code;
pub mod config;
pub mod control;
pub mod database;
pub mod event;
pub mod expr;
pub mod files;
pub mod machine;
pub mod own_file;
pub mod printable;
pub mod ring;
pub mod spool;
pub mod stem;
pub mod symbols;
pub mod trace;

pub mod recorder;

#[cfg(feature = "python")]
mod api;
#[cfg(feature = "python")]
mod forced_unwind;
#[cfg(feature = "python")]
pub mod handlers;
#[cfg(feature = "python")]
pub mod hook;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod reserve;

pub mod cli;
pub mod export;
pub mod model;
pub mod source;
