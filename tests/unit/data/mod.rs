//! Datasets end to end, through the public interface: real formats written here by hand, damaged
//! ones, limits, downloads, augmentation.

mod archives;
mod augment;
mod cifar;
mod cifar_python;
mod damage;
mod digits;
mod download;
mod folders;
mod idx;
mod images;
mod real;
mod shaping;
