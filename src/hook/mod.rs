//! Puts spans around Python callables: finds them, hooks them, follows each call, evaluates attributes.
//!
//! The rest of the crate sees a [`Registry`] of symbols and the [`Finder`] that applies it as modules come.

mod aliases;
mod args;
mod attributes;
mod call;
mod custom;
mod decorated;
mod dynamo;
mod evaluate;
mod failure;
mod follow;
mod hooked;
mod imports;
#[cfg(Py_3_12)]
mod in_place;
#[cfg(Py_3_13)]
mod inlined;
mod install;
mod interrupt;
mod limits;
mod operators;
mod pending;
mod place;
mod receiver;
mod reference;
mod registry;
mod stack;
mod system;
mod text;
mod thread_name;
mod unfinished;
mod unmet;
mod value;
mod walk;
mod wrapper;

pub(crate) use args::Args;
pub(crate) use call::{Call, append_error, with_buffer};
pub(crate) use custom::quietly;
pub(crate) use decorated::time;
pub(crate) use failure::{caught, contained, error};
pub(crate) use follow::{Ending, Follower, returned};
pub(crate) use hooked::Handler;
pub(crate) use imports::{Finder, follow_symbols, symbol_domains, tell_unmet};
pub(crate) use interrupt::{Attempt, Interrupt, message};
pub(crate) use operators::text as text_of;
pub(crate) use registry::Registry;
pub(crate) use stack::with_room;
pub(crate) use system::{frame, import, modules};
pub(crate) use text::utf8;
pub(crate) use thread_name::thread_name;
pub(crate) use value::{Content, append as append_value};
pub(crate) use walk::refuse_iterator;
pub(crate) use wrapper::stood_for;
