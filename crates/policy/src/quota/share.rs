//! Water-filling.

use std::collections::BTreeMap;

use crate::id::Incarnation;

/// Max-min fair shares of a budget: nobody has less than another but for want of demand. Each has at least one if
/// there are enough. What nobody wants is divided evenly on top, so that it can be used at once.
pub(super) fn share(budget: u32, wanted: &[(Incarnation, u32)]) -> BTreeMap<Incarnation, u32> {
    let mut shares: BTreeMap<Incarnation, u32> = wanted.iter().map(|(worker, _)| (*worker, 0)).collect();
    let floor: Vec<(Incarnation, u32)> = wanted.iter().map(|(worker, _)| (*worker, 1)).collect();
    let all: Vec<(Incarnation, u32)> = wanted.iter().map(|(worker, _)| (*worker, budget)).collect();
    let mut left = budget;
    for caps in [&floor[..], wanted, &all[..]] {
        left = fill(left, caps, &mut shares);
    }
    shares
}

/// Raises the lowest as far as the caps and the rest allow. Returns what is left.
fn fill(mut left: u32, caps: &[(Incarnation, u32)], shares: &mut BTreeMap<Incarnation, u32>) -> u32 {
    let mut caps = caps.to_vec();
    caps.sort();
    while left > 0 {
        let below = || caps.iter().filter(|(worker, cap)| shares[worker] < *cap);
        let Some(lowest) = below().map(|(worker, _)| shares[worker]).min() else { return left };
        let lifted: Vec<Incarnation> =
            below().filter(|(worker, _)| shares[worker] == lowest).map(|(worker, _)| *worker).collect();
        for worker in lifted.into_iter().take(left as usize) {
            *shares.entry(worker).or_default() += 1;
            left -= 1;
        }
    }
    left
}
