//! Links the C++ passes over memory. Their sources, and what declares them to Rust, lie beside what
//! calls them, in the folders of `src/lib`.
