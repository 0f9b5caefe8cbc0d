//! Command line: arguments, run, exit code.
