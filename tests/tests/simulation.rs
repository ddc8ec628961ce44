//! The whole cluster by seeds: nothing is lost, nothing is done twice, everything comes back, and each mistake that is
//! made on purpose is found.

use std::time::Duration;

use mailyard_tests::simulation::{Kind, Mutation, Options, Report, run};

/// Seeds of a run of the tests; a recorded run has more, by `MAILYARD_SEEDS`.
const SEEDS: u64 = 300;
/// Runs that a mistake may stay hidden in.
const MOST: u64 = 400;

/// Runs seeds on as many threads as there are processors.
fn runs(seeds: impl IntoIterator<Item = u64>, options: &Options) -> Vec<(u64, Report)> {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut reports: Vec<(u64, Report)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|first| {
                let own = seeds.iter().skip(first).step_by(threads);
                scope.spawn(move || own.map(|seed| (*seed, run(*seed, options))).collect::<Vec<_>>())
            })
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    });
    reports.sort_by_key(|(seed, _)| *seed);
    reports
}

#[test]
fn nothing_is_lost_nothing_is_done_twice_and_everything_comes_back() {
    let mut total = Report::default();
    let seeds = std::env::var("MAILYARD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for (seed, report) in runs(0..seeds, &Options::default()) {
        assert!(report.violations.is_empty(), "seed {seed}:\n{report}");
        total.add(&report);
    }
    println!("{seeds} seeds of an hour\n{total}");
    // What the run is about has happened: else it proves nothing.
    assert!(total.stale_commits > 0 && total.deposed > 0 && total.in_doubt > 0, "{total}");
    assert!(total.declared_dead > 0 && total.moved > 0 && total.revoked > 0 && total.frozen > 0, "{total}");
    assert_eq!(total.faults.len(), Kind::ALL.len(), "{total}");
}

#[test]
fn every_mistake_is_found() {
    for mutation in Mutation::ALL {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let found = (0..MOST).find(|seed| !run(*seed, &options).violations.is_empty());
        println!("{mutation:?}: found by seed {found:?}");
        assert!(found.is_some(), "{mutation:?} is not found by {MOST} seeds");
    }
}

#[test]
fn a_seed_repeats_itself() {
    let options = Options { long: Duration::from_mins(10), ..Options::default() };
    assert_eq!(run(7, &options), run(7, &options));
    assert_ne!(run(7, &options).trace, run(8, &options).trace);
}
