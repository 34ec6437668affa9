//! The figures of all rounds, by workload, pooler and round.

use std::collections::BTreeMap;

use crate::workload::Measure;

/// What one pooler yielded in one round.
pub(crate) type Figures = BTreeMap<Measure, f64>;

/// All figures. Where a measurement failed there is none, so that the rounds of different poolers stay aligned.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By workload and pooler, round by round.
    rounds: BTreeMap<(String, usize), Vec<Figures>>,
    /// Workloads in the order in which they were measured.
    pub(crate) workloads: Vec<String>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
    /// Remarks on single figures.
    pub(crate) remarks: Vec<String>,
}

impl Results {
    /// Adds what the pooler with this number yielded in this round.
    pub(crate) fn add(&mut self, workload: &str, pooler: usize, round: usize, figures: Figures) {
        if !self.workloads.iter().any(|known| known == workload) {
            self.workloads.push(workload.to_owned());
        }
        let rounds = self.rounds.entry((workload.to_owned(), pooler)).or_default();
        if rounds.len() <= round {
            rounds.resize_with(round + 1, Figures::new);
        }
        rounds[round].extend(figures);
    }

    /// One measure of a pooler, round by round.
    pub(crate) fn series(&self, workload: &str, pooler: usize, measure: Measure) -> Vec<Option<f64>> {
        let rounds = self.rounds.get(&(workload.to_owned(), pooler)).map_or(&[][..], Vec::as_slice);
        rounds.iter().map(|figures| figures.get(&measure).copied()).collect()
    }

    /// The same without gaps.
    pub(crate) fn values(&self, workload: &str, pooler: usize, measure: Measure) -> Vec<f64> {
        self.series(workload, pooler, measure).into_iter().flatten().collect()
    }
}
