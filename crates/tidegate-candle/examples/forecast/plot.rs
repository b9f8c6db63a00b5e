//! Learning curves and forecasts as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::series::{Examples, Series};

const COLORS: [RGBColor; 3] = [RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115)];

/// The error of each network after every epoch, and the linear model's as a line.
pub(crate) fn curves(
    path: &Path,
    series: &Series,
    curves: &[(String, Vec<f64>)],
    linear: f64,
) -> Result<()> {
    let epochs = curves.iter().map(|(_, curve)| curve.len()).max().unwrap_or(1);
    let least = curves.iter().flat_map(|(_, curve)| curve).fold(linear, |a, &b| a.min(b));
    let root = SVGBackend::new(path, (800, 400)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(format!("{}: error of the forecast", series.name), ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(1..epochs, (least / 1.5..2.0).log_scale())?;
        chart.configure_mesh().x_desc("epoch").y_desc("error / standard deviation").draw()?;
        let lines = curves.iter().map(|(name, curve)| (name.as_str(), curve.clone()));
        let all = std::iter::once(("linear", vec![linear; epochs])).chain(lines);
        for ((name, curve), color) in all.zip(COLORS) {
            let points = curve.into_iter().enumerate().map(|(k, error)| (k + 1, error));
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// The first forecasts of each model over the series.
pub(crate) fn forecasts(
    path: &Path,
    series: &Series,
    examples: &Examples,
    models: &[(String, Vec<f32>)],
) -> Result<()> {
    let shown = examples.count().min(250);
    let root = SVGBackend::new(path, (1000, 400)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        root.fill(&WHITE)?;
        let title = format!("{}, {} steps ahead", series.name, series.ahead);
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0..shown, -3.0f32..3.0)?;
        chart.configure_mesh().x_desc("step").y_desc("standard deviations").draw()?;
        let truth: Vec<f32> = (0..shown).map(|k| examples.target(k)).collect();
        let all = std::iter::once(("series", truth, BLACK.stroke_width(3))).chain(
            models.iter().zip(COLORS).map(|((name, y), color)| {
                (name.as_str(), y[..shown].to_vec(), color.stroke_width(1))
            }),
        );
        for (name, values, style) in all {
            let color = style.color;
            chart
                .draw_series(LineSeries::new(values.into_iter().enumerate(), style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        }
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
        Ok(root.present()?)
    };
    draw().map_err(|error| anyhow!("{}: {error}", path.display()))
}
