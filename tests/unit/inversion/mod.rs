//! The engines that turn teachers into images: plain and fused.

mod class_shares;
mod engines;
mod ensemble;
mod kernels;
mod others;
mod start;
mod store;
