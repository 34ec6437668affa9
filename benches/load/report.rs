//! The report in Markdown: limits first, then one table per measure.

use std::fmt::Write;

use crate::pooler::{Contestant, Kind};
use crate::results::Results;
use crate::stats::{maximum, median, minimum, ratios};
use crate::workload::{Limit, Measure, limit};

/// The whole report.
pub(crate) fn markdown(machine: &str, contestants: &[Contestant], results: &Results) -> String {
    let mut text = format!("## Machine\n\n{machine}\n");
    let targets = targets(contestants, results);
    // Limits are multiples of PgBouncer's figures.
    if !targets.is_empty() && contestants.first().is_some_and(|first| first.kind == Kind::PgBouncer) {
        text += "## To be reached\n\n\
                 | workload | measure | pooler | its figure | PgBouncer's | ratio [rounds] | limit | |\n\
                 |---|---|---|---|---|---|---|---|\n";
        text += &targets;
        text.push('\n');
    }
    text += "## All figures\n\nMedian (minimum) of the rounds; behind each pooler the median of the rounds' ratios to \
             the first one's figure in the same round, and the lowest and highest of them.\n\n";
    for measure in Measure::ALL {
        text += &table(measure, contestants, results);
    }
    list(&mut text, "Remarks", &results.remarks);
    list(&mut text, "Failures", &results.failures);
    text
}

/// One row for each figure that has a limit.
fn targets(contestants: &[Contestant], results: &Results) -> String {
    let mut rows = String::new();
    for workload in &results.workloads {
        for measure in Measure::ALL {
            for (number, contestant) in contestants.iter().enumerate().skip(1) {
                let Some(limit) = limit(workload, measure, contestant.kind) else { continue };
                let ours = results.values(workload, number, measure);
                if ours.is_empty() {
                    continue;
                }
                let ratios = ratios_of(results, workload, number, measure);
                let (bound, verdict) = judge(limit, &ours, &ratios);
                rows += &format!(
                    "| {workload} | {} | {} | {} | {} | {} | {bound} | {verdict} |\n",
                    measure.title(),
                    contestant.name,
                    figure(measure, &ours),
                    figure(measure, &results.values(workload, 0, measure)),
                    interval(&ratios),
                );
            }
        }
    }
    rows
}

/// The limit as text, and whether it is kept; unsure where some rounds lie on its other side.
fn judge(limit: Limit, values: &[f64], ratios: &[f64]) -> (String, &'static str) {
    let (bound, series, text) = match limit {
        Limit::Ratio(bound) => (bound, ratios, format!("≤ {bound:.2} ×")),
        Limit::Value(bound) => (bound, values, format!("≤ {bound:.1}")),
    };
    let verdict = match (series.is_empty(), median(series) <= bound) {
        (true, _) => "nothing to compare with",
        (_, true) if maximum(series) <= bound => "met",
        (_, true) => "met, not in every round",
        (_, false) if minimum(series) > bound => "**missed**",
        (_, false) => "**missed**, not in every round",
    };
    (text, verdict)
}

/// One measure: a row per workload, two columns per pooler.
fn table(measure: Measure, contestants: &[Contestant], results: &Results) -> String {
    let measured = |workload: &&String| !results.values(workload, 0, measure).is_empty();
    let workloads: Vec<&String> = results.workloads.iter().filter(measured).collect();
    if workloads.is_empty() {
        return String::new();
    }
    let mut text = format!("### {}\n\n| workload |", measure.title());
    for (number, contestant) in contestants.iter().enumerate() {
        text += &format!(" {} |{}", contestant.name, if number > 0 { " ratio [rounds] |" } else { "" });
    }
    text += &format!("\n|---|{}\n", "---|".repeat(contestants.len() * 2 - 1));
    for workload in workloads {
        text += &format!("| {workload} |");
        for number in 0..contestants.len() {
            text += &format!(" {} |", figure(measure, &results.values(workload, number, measure)));
            if number > 0 {
                text += &format!(" {} |", interval(&ratios_of(results, workload, number, measure)));
            }
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

fn ratios_of(results: &Results, workload: &str, number: usize, measure: Measure) -> Vec<f64> {
    ratios(&results.series(workload, number, measure), &results.series(workload, 0, measure))
}

/// `median (minimum)`, or only the value where there is one.
fn figure(measure: Measure, values: &[f64]) -> String {
    let decimals = measure.decimals();
    match values {
        [] => "–".to_owned(),
        [only] => format!("{only:.decimals$}"),
        _ => format!("{:.decimals$} ({:.decimals$})", median(values), minimum(values)),
    }
}

/// `median [lowest–highest]`, or only the value where there is one.
fn interval(ratios: &[f64]) -> String {
    match ratios {
        [] => "–".to_owned(),
        [only] => format!("{only:.2}"),
        _ => format!("{:.2} [{:.2}–{:.2}]", median(ratios), minimum(ratios), maximum(ratios)),
    }
}

fn list(text: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    let _ = write!(text, "## {title}\n\n"); // a string takes everything
    for item in items {
        let _ = writeln!(text, "- {}", item.trim_end().replace('\n', "\n  "));
    }
    text.push('\n');
}
