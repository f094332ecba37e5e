//! The contents of an output directory: its names, the manifest, shards, ledger, quarantine, data
//! card and stored log-probs, and their check.

pub mod card;
#[cfg(test)]
mod columns;
mod counts;
mod files;
pub mod fingerprint;
pub(crate) mod layout;
pub mod ledger;
pub mod manifest;
#[cfg(test)]
pub(crate) mod manifest_schema;
pub mod out_folder;
pub mod product;
pub mod quarantine;
pub mod shard;
pub(crate) mod sidecar;
pub mod table;
pub mod verify;
