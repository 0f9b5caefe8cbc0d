//! SGD over several ranks takes the steps of one process: against the training loop, against each
//! other, and byte by byte.

mod course;
mod steps;
mod support;
