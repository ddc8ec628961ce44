//! What is written of a mailbox is written once, whatever becomes of the answers.

use std::time::Duration;

use mailyard_policy::{
    alert::{Regarding, What},
    operation::Kind,
};

use super::*;
use crate::holding::tests::{
    Doubtful,
    Fate::{self, MadeInDoubt, NotMadeInDoubt, Refused},
};

fn writing(store: &Arc<Doubtful>, holding: Option<Holding>) -> Writing {
    let fence = store.holding().fence;
    let (operation, at) = (Kind::Incoming, Timestamp::EPOCH);
    let cycle =
        Cycle { operation, start: at, duration: Duration::ZERO, items: 1, outcome: "success", reason: None };
    let regarding = Regarding::Mailbox(fence.mailbox);
    Writing {
        store: store.clone(),
        now: || Timestamp::EPOCH,
        holding,
        fence,
        kept: Kept::default(),
        facts: vec![Fact { regarding, what: What::Recovered(operation), at }],
        test: None,
        cycle: Some(cycle),
        forget_cursor: false,
    }
}

#[tokio::test(start_paused = true)]
async fn facts_and_cycles_are_written_once_whatever_becomes_of_the_answers() {
    let stories: [&[Fate]; 5] = [
        &[],
        &[MadeInDoubt],
        &[NotMadeInDoubt],
        &[Refused, NotMadeInDoubt, Refused, MadeInDoubt],
        &[NotMadeInDoubt, NotMadeInDoubt, MadeInDoubt],
    ];
    for fates in stories {
        for deaf in [0, 3] {
            for held in [true, false] {
                let store = Doubtful::new(fates, deaf);
                let holding = held.then(|| store.holding());
                let held = writing(&store, holding).run().await;
                assert_eq!(held, Some(store.holding()), "{fates:?}");
                assert_eq!(store.written(), (1, 1), "{fates:?}");
            }
        }
    }
}
