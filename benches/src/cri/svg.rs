//! The figures as bars (SVG 1.1): one block for each figure, with a scale of its own.

use std::fmt::Write as _;

use super::figures::{Figure, Figures};
use super::report::number;

const WIDTH: usize = 860;
const LABELS: usize = 170;
const BAR: usize = 14;
const GAP: usize = 30;
/// Room for the figure beside the longest bar.
const ROOM: usize = 150;
const COLOURS: [&str; 4] = ["#2b6cb0", "#c05621", "#6b7280", "#9f7aea"];

/// All figures, one below the other.
pub fn bars(figures: &Figures, title: &str) -> String {
    let block = |figure: &Figure| GAP + figure.series.len() * (BAR + 4);
    let height = 50 + figures.all.iter().map(block).sum::<usize>();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"16\">{}</text>\n",
        escaped(title)
    );
    let mut y = 40;
    for figure in &figures.all {
        one(figures, figure, y, &mut text);
        y += block(figure);
    }
    text.push_str("</svg>\n");
    text
}

fn one(figures: &Figures, figure: &Figure, y: usize, text: &mut String) {
    let what = escaped(&format!("{} [{}]", figure.what, figure.unit));
    let _ = writeln!(text, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{what}</text>", y + 16);
    let medians = figure.series.values().map(|series| series.percentile(50));
    let most = medians.fold(f64::MIN_POSITIVE, f64::max);
    for (row, (endpoint, series)) in figure.series.iter().enumerate() {
        let median = series.percentile(50);
        let top = y + GAP - 8 + row * (BAR + 4);
        let length = (median / most * (WIDTH - LABELS - ROOM) as f64).max(1.0);
        let colour = COLOURS[endpoint % COLOURS.len()];
        let name = escaped(&figures.endpoints[*endpoint]);
        let base = top + BAR - 3;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{base}\">{}</text>",
            LABELS - 8,
            LABELS as f64 + length + 6.0,
            number(median)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_largest_figure() {
        let mut figures = Figures::new(vec!["a<b".into(), "c".into()]);
        figures.add("up", "ms", 0, 10.0);
        figures.add("up", "ms", 1, 40.0);
        let text = bars(&figures, "t & u");
        assert!(text.contains("a&lt;b") && text.contains("t &amp; u"), "{text}");
        assert!(text.contains("width=\"135.0\"") && text.contains("width=\"540.0\""), "{text}");
    }
}
