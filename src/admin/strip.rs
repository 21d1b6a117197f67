//! The last 24 hours as a picture: polls, those that failed, and changes. It is shown on light and dark.

use plotters::{prelude::*, style::RGBColor};

use crate::pulse::Bucket;

const WIDTH: u32 = 480;
const HEIGHT: u32 = 48;
const POLLS: RGBColor = RGBColor(140, 150, 165);
const FAILED: RGBColor = RGBColor(214, 69, 65);
const CHANGES: RGBColor = RGBColor(46, 134, 222);

/// SVG: a bar for each bucket, polls below (failed ones red), changes above.
pub fn draw(buckets: &[Bucket]) -> String {
    let mut svg = String::new();
    // Nothing that is drawn here can fail but the writing to a string, which does not.
    let _ = paint(buckets, &mut svg);
    let total = |of: fn(&Bucket) -> u32| buckets.iter().map(|bucket| u64::from(of(bucket))).sum::<u64>();
    let title = format!(
        "<title>The last 24 hours: {} polls, {} failed, {} changes</title>",
        total(|b| b.polls),
        total(|b| b.failed),
        total(|b| b.changes)
    );
    // A wider place stretches it; else it would keep its shape in the middle.
    svg.replacen('>', &format!(" preserveAspectRatio=\"none\">{title}"), 1)
}

fn paint(buckets: &[Bucket], svg: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    let (changes, polls) = root.split_vertically(HEIGHT / 2);
    let most = |of: fn(&Bucket) -> u32| buckets.iter().map(of).max().unwrap_or_default().max(1);
    let count = i32::try_from(buckets.len()).unwrap_or(i32::MAX).max(1);
    // One empty column, so that neighbours do not touch.
    for (area, all) in [
        (&changes, vec![(CHANGES, most(|b| b.changes), bars(buckets, |b| b.changes))]),
        (
            &polls,
            vec![
                (POLLS, most(|b| b.polls), bars(buckets, |b| b.polls)),
                (FAILED, most(|b| b.polls), bars(buckets, |b| b.failed)),
            ],
        ),
    ] {
        for (colour, top, bars) in all {
            let mut chart = ChartBuilder::on(area).build_cartesian_2d(0..count * 4, 0..top)?;
            let bar = |(at, value): (i32, u32)| Rectangle::new([(at * 4, 0), (at * 4 + 3, value)], colour.filled());
            chart.draw_series(bars.into_iter().filter(|(_, value)| *value > 0).map(bar))?;
        }
    }
    root.present()
}

fn bars(buckets: &[Bucket], of: fn(&Bucket) -> u32) -> Vec<(i32, u32)> {
    (0..).zip(buckets.iter().map(of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_where_something_happened() {
        let mut buckets = vec![Bucket::default(); 24];
        buckets[3] = Bucket { polls: 10, failed: 2, changes: 0 };
        buckets[20] = Bucket { polls: 5, failed: 0, changes: 7 };
        let svg = draw(&buckets);
        assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert!(
            svg.contains(
                " preserveAspectRatio=\"none\"><title>The last 24 hours: 15 polls, 2 failed, 7 changes</title>"
            )
        );
        assert!(!draw(&[]).is_empty());
    }
}
