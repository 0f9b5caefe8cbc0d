//! Dealing a dataset to nodes.
