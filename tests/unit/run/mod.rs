//! What every stage shares: manifests.

mod manifest;
