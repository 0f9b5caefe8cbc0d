//! Files on disk: atomic writes, tensors, JSON, manifests.
