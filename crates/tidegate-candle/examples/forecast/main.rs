//! Trains a GRU and an LSTM to forecast two chaotic series, and compares them with a linear autoregression that sees the same
//! past.
//!
//! ```text
//! cargo run --release -p tidegate-candle --example forecast
//! cargo run --release -p tidegate-candle --example forecast -- --quick
//! ```
//!
//! Each model gets the last 32 values and forecasts one some steps ahead. Errors are those on the last part of a series, which
//! no model has seen, as parts of the series' standard deviation. Exit status 1 if a network does not do clearly better
//! than the linear model. The learning curves and the forecasts are drawn as SVG, and the parameters saved, in the folder of
//! `--output`.

mod linear;
mod network;
mod plot;
mod series;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tidegate_candle::Mode;

use linear::Linear;
use network::{Network, Training};
use series::{Series, Windows};

/// Values that a forecast is made from.
const ORDER: usize = 32;

/// What a network's error must be less than, in parts of the linear model's.
const CLEARLY: f64 = 0.5;

#[derive(Parser)]
#[command(about = "Forecasts chaotic series with recurrent networks")]
struct Arguments {
    /// Train for a shorter time, about 10 seconds.
    #[arg(long)]
    quick: bool,
    /// Where plots and parameters go.
    #[arg(long, default_value = "target/forecast")]
    output: PathBuf,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("{}", arguments.output.display()))?;
    let epochs = if arguments.quick { 12 } else { 60 };
    let mut learned = true;
    println!("error, as a part of the standard deviation, of forecasts of values not seen:");
    for series in [series::mackey_glass(4000), series::lorenz(4000)] {
        learned &= forecast(&series, epochs, &arguments.output)?;
    }
    if !learned {
        eprintln!("forecast: a network has not learned to beat {CLEARLY} of the linear error");
    }
    println!("plots and parameters are in {}", arguments.output.display());
    Ok(if learned { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Trains all models on one series; whether both networks do clearly better than the linear one.
fn forecast(series: &Series, epochs: usize, folder: &Path) -> Result<bool> {
    let windows = Windows::of(series, ORDER);
    let linear = Linear::fit(&windows.train);
    let linear_forecast: Vec<f32> =
        windows.test.inputs().map(|past| linear.forecast(past)).collect();
    let of_linear = windows.test.error(&linear_forecast);
    let mut plots = vec![("linear".to_string(), linear_forecast)];
    let (mut curves, mut learned) = (Vec::new(), true);
    let mut errors =
        format!("{:13} {} steps ahead: linear {of_linear:.4}", series.name, series.ahead);
    for mode in [Mode::Gru, Mode::Lstm] {
        let name = format!("{} {}", series.name, mode.name());
        let Training { network, curve } = Network::train(&name, mode, &windows, epochs)?;
        let got = network.forecast(&windows.test)?;
        let error = windows.test.error(&got);
        let file = folder.join(format!("{}.safetensors", name.replace(' ', "-").to_lowercase()));
        network.save(&file)?;
        anyhow::ensure!(
            Network::load(mode, &file)?.forecast(&windows.test)? == got,
            "{}: what was saved forecasts otherwise",
            file.display()
        );
        errors += &format!(", {} {error:.4} ({:.2} of it)", mode.name(), error / of_linear);
        learned &= error < CLEARLY * of_linear;
        curves.push((mode.name().to_string(), curve));
        plots.push((mode.name().to_string(), got));
    }
    println!("{errors}");
    let slug = series.name.to_lowercase();
    plot::curves(&folder.join(format!("{slug}-learning.svg")), series, &curves, of_linear)?;
    plot::forecasts(&folder.join(format!("{slug}-forecast.svg")), series, &windows.test, &plots)?;
    Ok(learned)
}
