//! How much of an attribute's value is kept.

/// The longest text and the most items of a container; what is longer is cut, and the cut is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In characters.
    pub text_length: usize,
    /// Of each container, also of those in others.
    pub max_items: usize,
}

impl Limits {
    /// Nothing can be set higher: an event must fit into its thread's ring.
    pub const HIGHEST: usize = 65_536;

    /// As much as a person would still read.
    pub const DEFAULT: Self = Self { text_length: 256, max_items: 1024 };
}
