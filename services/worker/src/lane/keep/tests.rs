//! What a lane tells is told once, whatever becomes of the answers.

use mailyard_policy::{
    Reason, Timestamp,
    alert::{Regarding, What},
    breaker::{Answer, Breaker, Event, Road, Rules},
    id::MailboxId,
};

use super::*;
use crate::holding::tests::{
    Doubtful,
    Fate::{self, MadeInDoubt, NotMadeInDoubt, Refused},
};

fn kept(breaker: &Breaker) -> Lane {
    Lane { breaker: breaker.to_string(), open: breaker.open(), throttle: String::new() }
}

#[tokio::test(start_paused = true)]
async fn facts_of_a_lane_are_written_once_whatever_becomes_of_the_answers() {
    let stories: [&[Fate]; 5] = [
        &[],
        &[MadeInDoubt],
        &[NotMadeInDoubt],
        &[Refused, NotMadeInDoubt, Refused, MadeInDoubt],
        &[NotMadeInDoubt, NotMadeInDoubt, MadeInDoubt],
    ];
    let place = (ProfileId::new(1), 0, Epoch(1));
    let (rules, at) = (Rules { faults: 1, mailboxes: 1, ..Rules::default() }, Timestamp::from_millis(9));
    for fates in stories {
        for deaf in [0, 3] {
            let store = Doubtful::new(fates, deaf);
            let mut breaker = Breaker::new(Timestamp::EPOCH);
            store.put_lane(kept(&breaker));
            let (mailbox, answer) = (MailboxId::new(1), Answer::Fault(Reason::ExchangeUnavailable));
            breaker.step(&rules, Event::Ended { mailbox, begun: at, answer }, at);
            assert_eq!(breaker.open(), Some(Reason::ExchangeUnavailable));
            let what = What::BreakerOpened(Road::Both, Reason::ExchangeUnavailable);
            let fact = Fact { regarding: Regarding::Profile(place.0), what, at };
            let mut refusals = 0;
            while let Err(error) = write(&*store, place, &kept(&breaker), &[fact]).await {
                assert!(matches!(error, Error::Unavailable(_)), "{fates:?}: {error}");
                refusals += 1;
            }
            let not_made = fates.iter().filter(|fate| **fate != MadeInDoubt).count();
            assert_eq!(refusals, not_made, "{fates:?}");
            assert_eq!(store.kept_lane(), (Some(kept(&breaker)), vec![fact]), "{fates:?}");
        }
    }
}
