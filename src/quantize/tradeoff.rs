//! Accuracy against speed: which layers to keep in FP32 so that the drop stays within a limit.
//!
//! 1. *Expand*: the most harmful layers per microsecond that INT8 saves go back to FP32, twice as many each
//!    time, until the drop holds; then the smallest number that holds is found by halving.
//! 2. *Refine*: of the layers taken back, those that INT8 makes faster by most are tried in INT8 again.
//!
//! This file only decides what to try next: a candidate is made and judged by whoever calls, and what was
//! judged before (a run that goes on) is not judged again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{QuantizeError, Score};

/// A layer that may be kept in FP32, and what that brings and costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Name of the node.
    pub node: String,
    /// By how much the loss falls when it alone is FP32: see [`Score::loss`].
    pub harm: f64,
    /// Microseconds of one inference that INT8 saves on it.
    pub saved_us: f64,
}

impl Candidate {
    /// Loss that goes away for each microsecond that is given up. What INT8 hardly speeds up counts as a
    /// tenth of a microsecond.
    fn harm_per_us(&self) -> f64 {
        const LEAST_US: f64 = 0.1;
        self.harm / self.saved_us.max(LEAST_US)
    }
}

/// One set of layers in FP32, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Names of the layers in FP32, sorted.
    pub fp32_layers: Vec<String>,
    /// Microseconds of an inference that this gives up, by the times of the layers.
    pub given_up_us: f64,
    /// Percentage points lost: see [`Score::drop`].
    pub drop: f64,
    /// All that was found.
    pub score: Score,
}

/// Why the search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The drop holds with as few layers in FP32 as were found to be needed.
    WithinLimit,
    /// No set of layers that was tried holds it.
    OutOfReach,
    /// The time budget is used up.
    TimeBudget,
}

/// What the search needs from outside.
pub trait Kitchen {
    /// What the model with these layers in FP32 is worth.
    ///
    /// # Errors
    /// It can't be made or judged, or the user stopped.
    fn judge(&mut self, fp32_layers: &BTreeSet<String>) -> Result<Score, QuantizeError>;
    /// Another point was judged, to be put on disk: all so far, which is the best, and whether it is the
    /// last one that made it so.
    ///
    /// # Errors
    /// It can't be written.
    fn judged(&mut self, points: &[Point], best: usize, is_new_best: bool) -> Result<(), QuantizeError>;
    /// Whether no more candidate may be judged.
    fn out_of_time(&self) -> bool;
}

/// The search over sets of layers.
struct Search<'a, K> {
    candidates: Vec<&'a Candidate>,
    limit: f64,
    kitchen: &'a mut K,
    points: Vec<Point>,
    best: Option<usize>,
}

/// All points in the order in which they were judged, the one to take, and why the search ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Tradeoff {
    /// The points.
    pub points: Vec<Point>,
    /// Index of the best.
    pub best: usize,
    /// Why it ended.
    pub ended: Ended,
}

/// Searches until the drop is within `limit` percentage points.
///
/// # Errors
/// Those of the kitchen, or there is nothing to judge.
pub fn trade_off<K: Kitchen>(
    candidates: &[Candidate],
    limit: f64,
    kitchen: &mut K,
) -> Result<Tradeoff, QuantizeError> {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by(|a, b| b.harm_per_us().total_cmp(&a.harm_per_us()).then_with(|| a.node.cmp(&b.node)));
    let mut search = Search { candidates: order, limit, kitchen, points: Vec::new(), best: None };
    let ended = search.run()?;
    let best = search.best.ok_or(QuantizeError::NoImages)?;
    Ok(Tradeoff { points: search.points, best, ended })
}

impl<K: Kitchen> Search<'_, K> {
    fn run(&mut self) -> Result<Ended, QuantizeError> {
        if self.try_first(0)? {
            return Ok(Ended::WithinLimit);
        }
        // One layer stays in INT8: a model without any is the parent.
        let most = self.candidates.len().saturating_sub(1);
        let (mut fails, mut holds) = (0, None);
        let mut count = 1;
        while holds.is_none() && fails < most {
            if self.kitchen.out_of_time() {
                return Ok(Ended::TimeBudget);
            }
            let tried = count.min(most);
            if self.try_first(tried)? {
                holds = Some(tried)
            } else {
                fails = tried
            }
            count *= 2;
        }
        let Some(mut holds) = holds else { return Ok(Ended::OutOfReach) };
        while holds - fails > 1 {
            if self.kitchen.out_of_time() {
                return Ok(Ended::TimeBudget);
            }
            let middle = fails + (holds - fails) / 2;
            if self.try_first(middle)? { holds = middle } else { fails = middle }
        }
        self.refine(holds)
    }

    /// Puts back into INT8 what turns out not to be needed, the layers that save most first.
    fn refine(&mut self, count: usize) -> Result<Ended, QuantizeError> {
        let mut kept: BTreeSet<String> = self.first(count);
        let mut order: Vec<&Candidate> = self.candidates[..count].to_vec();
        order.sort_by(|a, b| b.saved_us.total_cmp(&a.saved_us).then_with(|| a.node.cmp(&b.node)));
        for candidate in order {
            if self.kitchen.out_of_time() {
                return Ok(Ended::TimeBudget);
            }
            let mut fewer = kept.clone();
            fewer.remove(&candidate.node);
            if candidate.saved_us > 0.0 && self.holds(fewer.clone())? {
                kept = fewer;
            }
        }
        Ok(Ended::WithinLimit)
    }

    fn first(&self, count: usize) -> BTreeSet<String> {
        self.candidates[..count].iter().map(|c| c.node.clone()).collect()
    }

    fn try_first(&mut self, count: usize) -> Result<bool, QuantizeError> {
        self.holds(self.first(count))
    }

    /// Judges a set of layers; gives whether the drop is within the limit.
    fn holds(&mut self, layers: BTreeSet<String>) -> Result<bool, QuantizeError> {
        let names: Vec<String> = layers.iter().cloned().collect();
        if let Some(known) = self.points.iter().find(|p| p.fp32_layers == names) {
            return Ok(known.drop <= self.limit);
        }
        let score = self.kitchen.judge(&layers)?;
        let given_up_us =
            self.candidates.iter().filter(|c| layers.contains(&c.node)).map(|c| c.saved_us).sum();
        let drop = score.drop().unwrap_or(f64::INFINITY);
        self.points.push(Point { fp32_layers: names, given_up_us, drop, score });
        let new = self.points.len() - 1;
        let best = self.best.filter(|best| !self.is_better(new, *best)).unwrap_or(new);
        self.best = Some(best);
        self.kitchen.judged(&self.points, best, best == new)?;
        Ok(drop <= self.limit)
    }

    /// Within the limit the faster one is better; outside of it the one that loses less.
    fn is_better(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.points[a], &self.points[b]);
        match (a.drop <= self.limit, b.drop <= self.limit) {
            (true, true) => a.given_up_us < b.given_up_us,
            (false, false) => a.drop < b.drop,
            (a_holds, _) => a_holds,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::quantize::Top1;

    /// The drop is the sum of what the layers in INT8 cost, in points.
    struct Fake {
        costs: Vec<(&'static str, usize)>,
        judged: Vec<Vec<String>>,
        found: Vec<Vec<String>>,
        most: usize,
    }

    impl Fake {
        fn new(costs: &[(&'static str, usize)]) -> Fake {
            Fake { costs: costs.to_vec(), judged: Vec::new(), found: Vec::new(), most: usize::MAX }
        }
    }

    impl Kitchen for Fake {
        fn judge(&mut self, fp32: &BTreeSet<String>) -> Result<Score, QuantizeError> {
            self.judged.push(fp32.iter().cloned().collect());
            let lost: usize = self.costs.iter().filter(|(n, _)| !fp32.contains(*n)).map(|(_, c)| c).sum();
            let top1 = Some(Top1 { labelled: 100, parent: 90, optimized: 90 - lost });
            Ok(Score { images: 100, loss: lost as f64, agreement: Some(1.0), top1 })
        }
        fn judged(&mut self, points: &[Point], best: usize, is_new: bool) -> Result<(), QuantizeError> {
            self.found.extend(is_new.then(|| points[best].fp32_layers.clone()));
            Ok(())
        }
        fn out_of_time(&self) -> bool {
            self.judged.len() >= self.most
        }
    }

    fn candidate(node: &str, harm: f64, saved_us: f64) -> Candidate {
        Candidate { node: node.into(), harm, saved_us }
    }

    #[test]
    fn a_model_within_the_limit_stays_as_it_is() {
        let mut fake = Fake::new(&[("a", 1), ("b", 0)]);
        let result = trade_off(&[candidate("a", 1.0, 1.0)], 1.0, &mut fake).unwrap();
        assert_eq!((result.ended, result.points.len()), (Ended::WithinLimit, 1));
        assert!(result.points[result.best].fp32_layers.is_empty());
    }

    #[test]
    fn the_most_harmful_per_microsecond_goes_first_and_what_was_not_needed_comes_back() {
        let candidates = [
            candidate("slow", 3.0, 100.0),
            candidate("cheap", 1.0, 1.0),
            candidate("bad", 5.0, 10.0),
            candidate("good", 0.0, 50.0),
        ];
        let mut fake = Fake::new(&[("slow", 4), ("cheap", 0), ("bad", 5), ("good", 0)]);
        let result = trade_off(&candidates, 4.0, &mut fake).unwrap();
        assert_eq!(fake.judged[1], ["cheap"]);
        assert_eq!(fake.judged[2], ["bad", "cheap"]);
        assert_eq!(result.points[result.best].fp32_layers, ["bad"], "{:?}", result.points);
        assert_eq!(result.ended, Ended::WithinLimit);
        assert_eq!(fake.found.last().unwrap(), &["bad"]);
    }

    #[test]
    fn what_is_out_of_reach_gives_the_smallest_drop() {
        let mut fake = Fake::new(&[("a", 3), ("rest", 2)]);
        let candidates = [candidate("a", 1.0, 1.0), candidate("b", 0.5, 1.0)];
        let result = trade_off(&candidates, 1.0, &mut fake).unwrap();
        assert_eq!(result.ended, Ended::OutOfReach);
        assert_eq!(result.points[result.best].drop, 2.0);
    }

    #[test]
    fn the_time_budget_ends_the_search_with_the_best_so_far() {
        let candidates: Vec<Candidate> = ["a", "b", "c", "d", "e"].map(|n| candidate(n, 1.0, 1.0)).into();
        let mut fake = Fake::new(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]);
        fake.most = 2;
        let result = trade_off(&candidates, 0.0, &mut fake).unwrap();
        assert_eq!((result.ended, fake.judged.len()), (Ended::TimeBudget, 2));
        assert_eq!(result.points[result.best].fp32_layers, ["a"]);
    }
}
