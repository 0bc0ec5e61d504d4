//! A module's file: what is in it, and what is changed in it on its way into an image. Nothing here knows of other modules.

pub mod file;
pub mod info;
#[cfg(test)]
pub mod made;
pub mod map;
pub(crate) mod modinfo;
mod relocations;
mod sections;
pub mod strip;
pub mod symbols;
