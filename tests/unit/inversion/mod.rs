//! The engines that turn teachers into images: plain and fused.

mod engines;
mod kernels;
mod others;
mod store;
