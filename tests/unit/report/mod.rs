//! What people look at: tables, plots, image grids, TensorBoard events.

mod grid;
mod plot;
mod table;
mod tensorboard;
