//! Products and elementary functions, each written once for all instruction sets.

mod ahead;
pub(crate) mod alone;
mod cells;
mod chains;
mod columns;
pub(crate) mod math;
mod matrix;
pub(crate) mod outer;
pub(crate) mod pack;
pub(crate) mod room;
pub(crate) mod step;
pub(crate) mod step_back;
mod step_tile;
pub(crate) mod stored;
pub(crate) mod sums;
mod tile;
mod walk;
mod works;
