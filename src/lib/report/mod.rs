//! What people look at: tables, image grids, plots.
