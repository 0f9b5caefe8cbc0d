//! One file a binary.
