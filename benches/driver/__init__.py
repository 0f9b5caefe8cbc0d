"""Drives the Rust and the Python side of the benchmarks in alternation. Standard library only."""
