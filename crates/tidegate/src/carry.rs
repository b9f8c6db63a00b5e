//! What a scan keeps from step to step, and what it works in.

use core::ops::Range;

use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::kernel::room::Room;
use crate::rows::{RowsIn, RowsOut};
use crate::scan::chunk_rows;
use crate::weights::Direction;
use crate::{Element, Mode};

/// The state of one layer and direction between two steps, for the rows of one scan.
///
/// Public in a private module, because [`Element`] is public; nobody else can name it.
#[derive(Clone, Debug, Default)]
#[allow(unreachable_pub, reason = "named by a method of a public trait")]
pub struct Carry<E> {
    /// `h` and where the next one goes, `[rows, h_stride]` each. Rows that are not alive are equal in both.
    states: [Buffer<E>; 2],
    /// Whether `h` is the second of them: by turns, which takes less than moving them.
    turned: bool,
    /// `c`, `[rows, units]`; empty for cells without.
    pub(crate) c: Buffer<E>,
}

impl<E: Element> Carry<E> {
    /// Makes room for `rows` rows.
    pub(crate) fn reserve(&mut self, direction: &Direction<E>, mode: Mode, rows: usize) {
        for h in &mut self.states {
            h.reserve(rows * direction.h_stride());
        }
        self.c.reserve(if mode.has_cell_state() { rows * direction.units() } else { 0 });
    }

    /// `h`.
    #[inline(always)]
    pub(crate) fn h(&self) -> &[E] {
        &self.states[usize::from(self.turned)]
    }

    /// `h`, where the next one goes, and `c`.
    #[inline(always)]
    pub(crate) fn parts(&mut self) -> (&mut [E], &mut [E], &mut [E]) {
        let [first, second] = &mut self.states;
        let (h, next) = if self.turned { (second, first) } else { (first, second) };
        (h, next, &mut self.c)
    }

    /// Whether the states were [`turn`](Self::turn)ed an odd number of times.
    #[inline(always)]
    pub(crate) fn turned(&self) -> bool {
        self.turned
    }

    /// Makes the next `h` the present one.
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        self.turned = !self.turned;
    }

    /// Takes over the states of `other`, of the same shape.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        for (to, from) in self.states.iter_mut().zip(&other.states) {
            to.copy_from_slice(from);
        }
        self.turned = other.turned;
        self.c.copy_from_slice(&other.c);
    }

    /// Takes over the `c` of `blocks` from `other`, of the same shape.
    pub(crate) fn copy_cells(
        &mut self,
        other: &Self,
        direction: &Direction<E>,
        rows: usize,
        blocks: Range<usize>,
    ) {
        let (units, lanes) = (direction.units(), direction.w_hh.lanes);
        if !self.c.is_empty() {
            for row in 0..rows {
                let at = row * units + blocks.start * lanes..row * units + blocks.end * lanes;
                self.c[at.clone()].copy_from_slice(&other.c[at]);
            }
        }
    }

    /// Sets all states to zero.
    pub(crate) fn clear(&mut self) {
        for buffer in self.states.iter_mut().chain([&mut self.c]) {
            buffer.fill(E::ZERO);
        }
    }

    /// Reads the states of `rows` from step `t` of `h` and `c`; where these are absent, zero.
    pub(crate) fn load(
        &mut self,
        direction: &Direction<E>,
        t: usize,
        rows: Range<usize>,
        h: Option<RowsIn<'_, E>>,
        c: Option<RowsIn<'_, E>>,
    ) {
        self.clear();
        for (at, b) in rows.enumerate() {
            if let Some(h) = h {
                let row = at * direction.h_stride();
                self.states.iter_mut().for_each(|to| h.read(t, b, &mut to[row..]));
            }
            if let Some(c) = c {
                c.read(t, b, &mut self.c[at * direction.units()..]);
            }
        }
    }

    /// Writes the states of `rows` and `units` as step `t` of `h` and `c`.
    ///
    /// # Safety
    /// No other thread may access these rows and units of `h` and `c` at the same time.
    #[allow(unsafe_code, reason = "passes the caller's promise on")]
    pub(crate) unsafe fn store(
        &self,
        direction: &Direction<E>,
        t: usize,
        rows: Range<usize>,
        units: Range<usize>,
        h: &RowsOut<'_, E>,
        c: Option<&RowsOut<'_, E>>,
    ) {
        let c = c.map(|c| c.columns(units.start, units.len()));
        // The units of a state with projection are all one thread's.
        let (first, h) = match direction.w_hr {
            Some(_) => (0, *h),
            None => (units.start, h.columns(units.start, units.len())),
        };
        for (at, b) in rows.enumerate() {
            // SAFETY: the caller's.
            unsafe {
                h.write(t, b, &self.h()[at * direction.h_stride() + first..]);
                if let Some(c) = c {
                    c.write(t, b, &self.c[at * direction.units() + units.start..]);
                }
            }
        }
    }
}

/// Buffers of one scan that hold nothing between calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch<E> {
    /// Input rows of a chunk of steps, `[chunk rows, I]`.
    pub(crate) x: Buffer<E>,
    /// Their gate sums, `[chunk rows, blocks * G * lanes]`.
    pub(crate) sums: Buffer<E>,
    /// `h` before projection, `[rows, units]`; empty without.
    pub(crate) unprojected: Buffer<E>,
    /// For blocks of weights that are not packed.
    pub(crate) room: Room<E>,
}

impl<E: Element> Scratch<E> {
    /// Makes room for a scan of `batch` of which `rows` are computed.
    pub(crate) fn reserve(&mut self, direction: &Direction<E>, batch: &Batch<'_>, rows: usize) {
        let chunk = chunk_rows(direction, batch, rows);
        self.x.reserve(chunk * direction.w_ih.inputs);
        self.sums.reserve(chunk * direction.w_ih.width());
        let projected = direction.w_hr.is_some();
        self.unprojected.reserve(if projected { rows * direction.units() } else { 0 });
    }
}
