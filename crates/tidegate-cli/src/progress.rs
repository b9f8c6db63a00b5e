//! Progress of long work on a terminal.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::text;

/// Work shorter than this shows nothing: a bar that flashes by tells nobody anything. A guess at
/// what is not noticed.
const PATIENCE: Duration = Duration::from_millis(700);

/// A bar with rate and time left on standard error; nothing there in a pipe, with `--quiet` or for
/// short work.
pub(crate) struct Progress {
    start: Instant,
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For work that begins now.
    pub(crate) fn new(quiet: bool) -> Self {
        let wanted = !quiet && std::io::stderr().is_terminal();
        Self { start: Instant::now(), wanted, bar: None }
    }

    /// Records that `done` of `total` steps, or what `noun` says, are done.
    pub(crate) fn update(&mut self, done: usize, total: usize, noun: &'static str) {
        if !self.wanted || self.start.elapsed() < PATIENCE {
            return;
        }
        let elapsed = self.start.elapsed();
        let bar = self.bar.get_or_insert_with(|| self::bar(total as u64, noun, elapsed));
        bar.set_position(done as u64);
    }

    /// Shows that something of `steps` steps runs whose end cannot be told.
    pub(crate) fn spin(&mut self, steps: usize) {
        if self.wanted {
            let style =
                ProgressStyle::with_template("{spinner} {human_len} steps, {elapsed} so far");
            let bar =
                ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    /// Clears the line and gives the time since the beginning.
    pub(crate) fn finish(self) -> Duration {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.start.elapsed()
    }
}

fn bar(total: u64, noun: &'static str, elapsed: Duration) -> ProgressBar {
    let template = "{bar:30} {percent:>3}%  {human_pos} of {human_len} {msg}  {rate}  {left} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // The rate since the beginning: indicatif's own would take the steps before the bar appeared
    // for steps of no time.
    let style = style
        .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{}/s", text::count(rate(state.pos(), state.elapsed()) as usize));
        })
        .with_key("left", |state: &ProgressState, text: &mut dyn Write| {
            let steps = state.len().unwrap_or(0).saturating_sub(state.pos());
            let _ =
                write!(text, "{}", HumanDuration(left(steps, rate(state.pos(), state.elapsed()))));
        });
    let target = ProgressDrawTarget::stderr();
    let bar = ProgressBar::with_draw_target(Some(total), target);
    bar.with_style(style).with_elapsed(elapsed).with_message(noun)
}

/// Steps per second.
fn rate(done: u64, elapsed: Duration) -> f64 {
    done as f64 / elapsed.as_secs_f64().max(1e-9)
}

/// The time that `steps` take.
fn left(steps: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(steps as f64 / rate.max(1e-9)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_are_those_since_the_beginning() {
        let rate = rate(500, Duration::from_secs(2));
        assert_eq!((rate, left(1000, rate)), (250.0, Duration::from_secs(4)));
        assert_eq!(left(10, 0.0), left(10, 1e-9));
    }

    #[test]
    fn nothing_is_drawn_before_it_is_wanted() {
        let mut progress = Progress::new(true);
        progress.update(5, 10, "steps");
        progress.spin(10);
        assert!(progress.bar.is_none());
    }
}
