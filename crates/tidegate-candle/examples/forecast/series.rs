//! Two chaotic series, and windows of them.

/// A series of mean 0 and standard deviation 1.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f32>,
    /// Steps from the last value seen to the one to forecast.
    pub(crate) ahead: usize,
}

/// The Mackey-Glass equation (1977) with a delay of 17, which makes it chaotic:
/// `dx/dt = 0.2 x(t-17) / (1 + x(t-17)^10) - 0.1 x`, one value per unit of time.
pub(crate) fn mackey_glass(count: usize) -> Series {
    const STEPS: usize = 10; // of Euler's method per unit of time
    const DELAY: usize = 17 * STEPS;
    const SKIP: usize = 500; // until the beginning is forgotten
    let mut x = vec![1.2; DELAY + 1];
    for k in DELAY..DELAY + (SKIP + count) * STEPS {
        let late: f64 = x[k - DELAY];
        let rate = 0.2 * late / (1.0 + late.powi(10)) - 0.1 * x[k];
        x.push(x[k] + rate / STEPS as f64);
    }
    let values = x[DELAY + SKIP * STEPS..].iter().step_by(STEPS).take(count);
    Series { name: "Mackey-Glass", values: standardised(values.copied().collect()), ahead: 12 }
}

/// The first coordinate of Lorenz' equations (1963) with his parameters 10, 28 and 8/3, every 0.05 units of time.
pub(crate) fn lorenz(count: usize) -> Series {
    const STEPS: usize = 10; // of the fourth-order Runge-Kutta method per value
    const SKIP: usize = 200;
    let rate = |[x, y, z]: [f64; 3]| [10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z];
    let add = |a: [f64; 3], b: [f64; 3], h: f64| [0, 1, 2].map(|k| a[k] + h * b[k]);
    let (mut at, h) = ([1.0, 1.0, 20.0], 0.05 / STEPS as f64);
    let mut values = Vec::new();
    for _ in 0..SKIP + count {
        for _ in 0..STEPS {
            let a = rate(at);
            let b = rate(add(at, a, h / 2.0));
            let c = rate(add(at, b, h / 2.0));
            let d = rate(add(at, c, h));
            at = [0, 1, 2].map(|k| at[k] + h / 6.0 * (a[k] + 2.0 * b[k] + 2.0 * c[k] + d[k]));
        }
        values.push(at[0]);
    }
    Series { name: "Lorenz", values: standardised(values.split_off(SKIP)), ahead: 6 }
}

fn standardised(values: Vec<f64>) -> Vec<f32> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    values.iter().map(|v| ((v - mean) / variance.sqrt()) as f32).collect()
}

/// Examples: some values of a series and the one to forecast from them.
pub(crate) struct Examples {
    order: usize,
    ahead: usize,
    values: Vec<f32>,
}

/// The first three quarters of a series to learn from, the rest to test with.
pub(crate) struct Windows {
    pub(crate) train: Examples,
    pub(crate) test: Examples,
}

impl Windows {
    pub(crate) fn of(series: &Series, order: usize) -> Self {
        let (first, last) = series.values.split_at(series.values.len() * 3 / 4);
        let ahead = series.ahead;
        let examples = |values: &[f32]| Examples { order, ahead, values: values.to_vec() };
        Self { train: examples(first), test: examples(last) }
    }
}

impl Examples {
    pub(crate) fn count(&self) -> usize {
        self.values.len() + 1 - self.order - self.ahead
    }

    /// The values of example `k`, oldest first.
    pub(crate) fn input(&self, k: usize) -> &[f32] {
        &self.values[k..k + self.order]
    }

    pub(crate) fn inputs(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.count()).map(|k| self.input(k))
    }

    /// What is to be forecast from the values of example `k`.
    pub(crate) fn target(&self, k: usize) -> f32 {
        self.values[k + self.order - 1 + self.ahead]
    }

    /// Root of the mean square error of a forecast of every example.
    pub(crate) fn error(&self, forecasts: &[f32]) -> f64 {
        assert_eq!(forecasts.len(), self.count());
        let square = |(k, y): (usize, &f32)| f64::from(y - self.target(k)).powi(2);
        let sum: f64 = forecasts.iter().enumerate().map(square).sum();
        (sum / self.count() as f64).sqrt()
    }
}
