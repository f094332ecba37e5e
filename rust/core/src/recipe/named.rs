//! Declares the enums whose values a recipe may name.

/// An enum that a key of a recipe names, with the list of its names.
macro_rules! named {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[doc = $doc:literal])+ $variant:ident $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub enum $name { $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// The words that recipes have for them.
            pub const NAMES: &[&str] = &[$($word,)*];
        }
    };
}
