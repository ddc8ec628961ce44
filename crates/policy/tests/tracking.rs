//! What one email is: one record whatever mailbox it is seen in, and never two.

use std::time::Duration;

use mailyard_policy::{
    Reason, Timestamp,
    id::MailboxId,
    tracking::{
        Fate, Head, Identity, Known, MessageKey, Patience, Portion, Portions, Restart, Selection, identify,
        portions, restart, select,
    },
};
use proptest::prelude::*;

#[test]
fn the_same_message_id_in_other_clothes_is_the_same_key() {
    let key = MessageKey::of_message_id("<a.B+c@Example.ORG>");
    assert!(key.is_some());
    for other in [
        "<a.B+c@example.org>",
        "  <a.B+c@example.org>\r\n",
        "<a.B+c@exam\r\n ple.org>",
        "a.B+c@example.org",
        "(x) <a.B+c@example.org> (y)",
    ] {
        assert_eq!(MessageKey::of_message_id(other), key, "{other:?}");
    }
    for other in ["<a.b+c@example.org>", "<a.B+c@example.com>", "<a@B+c@example.org>"] {
        assert_ne!(MessageKey::of_message_id(other), key, "{other:?}");
    }
    let endless = format!("<{}@example.org>", "x".repeat(2000));
    for unusable in ["", "<>", "< >", "<@>", "<a@>", "<@b>", "no-at", "<a\u{0}@b>", endless.as_str()] {
        assert_eq!(MessageKey::of_message_id(unusable), None, "{unusable:?}");
    }
}

#[test]
fn the_key_never_changes() {
    let key = MessageKey::of_message_id("<1@example.org>").map(|key| key.to_string());
    assert_eq!(key.as_deref(), Some("a1e9cbe855098ff43f7324e884761e1420e1facd36c24cb4f85f2fbbb3eaaf99"));
    let content = MessageKey::of_content(MailboxId::new(1), &head("a@b.example", 5), 100, &[7; 32]);
    assert_eq!(content.to_string(), "12e5d7e8c6fc8673dfdacd145ec0ece74ec317340a1875ddbfaa2bb2985911b9");
    assert_eq!(content.to_string().parse(), Ok(content));
}

fn head(from: &str, sent: i64) -> Head {
    Head { from: from.to_owned(), sent: Some(Timestamp::from_millis(sent)), ..Head::default() }
}

fn known(discriminator: u32, from: &str, sent: i64) -> Known {
    Known { discriminator, from: from.to_owned(), sent: Some(Timestamp::from_millis(sent)) }
}

#[test]
fn a_message_id_used_twice_makes_two_records_and_each_is_found_again() {
    let cases = [
        (vec![], head("a@b", 1), Identity::New(0)),
        (vec![known(0, "a@b", 1)], head("A@B", 1), Identity::Same(0)),
        (vec![known(0, "a@b", 1)], head("a@b", 2), Identity::New(1)),
        (vec![known(0, "a@b", 1)], head("c@d", 1), Identity::New(1)),
        (vec![known(0, "a@b", 1), known(1, "c@d", 1)], head("c@d", 1), Identity::Same(1)),
        (vec![known(0, "a@b", 1), known(4, "c@d", 1)], head("e@f", 1), Identity::New(5)),
        (vec![known(0, "a@b", 1)], Head { sent: None, ..head("a@b", 1) }, Identity::New(1)),
    ];
    for (known, head, expected) in cases {
        assert_eq!(identify(&known, &head), expected, "{head:?} among {known:?}");
    }
}

#[test]
fn mail_from_before_the_start_and_our_own_tests_are_left_alone() {
    let at = |millis| Timestamp::from_millis(millis);
    for (received, own_test, expected) in [
        (Some(at(99)), false, Selection::TooOld),
        (Some(at(100)), false, Selection::Track),
        (Some(at(101)), false, Selection::Track),
        (None, false, Selection::Track),
        (Some(at(101)), true, Selection::OwnTest),
    ] {
        assert_eq!(select(at(100), received, own_test), expected, "{received:?} {own_test}");
    }
}

proptest! {
    /// Presenting messages again, in any order, finds each its own record and makes no new one.
    #[test]
    fn messages_presented_again_make_no_new_record(
        messages in prop::collection::vec((0u8..3, 0i64..3), 1..12),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut stored: Vec<Known> = Vec::new();
        let mut present = |from: u8, sent: i64| {
            let head = head(&format!("{from}@example.org"), sent);
            let identity = identify(&stored, &head);
            if let Identity::New(discriminator) = identity {
                stored.push(Known { discriminator, from: head.from, sent: head.sent });
            }
            match identity { Identity::Same(number) | Identity::New(number) => number }
        };
        let first: Vec<u32> = messages.iter().map(|(from, sent)| present(*from, *sent)).collect();
        for index in again {
            let at = index.index(messages.len());
            prop_assert_eq!(present(messages[at].0, messages[at].1), first[at]);
        }
        let distinct: std::collections::BTreeSet<_> = messages.iter().collect();
        prop_assert_eq!(stored.len(), distinct.len());
    }

    #[test]
    fn every_item_is_in_one_portion_and_no_portion_is_too_large(
        sizes in prop::collection::vec(prop_oneof![0u64..40_000, 200_000u64..300_000, 60_000_000u64..80_000_000], 0..80),
    ) {
        let rules = Portions::default();
        let mut seen = vec![0; sizes.len()];
        for portion in portions(&rules, &sizes) {
            match portion {
                Portion::Together(places) => {
                    prop_assert!(!places.is_empty() && places.len() <= rules.items);
                    prop_assert!(places.iter().map(|at| sizes[*at]).sum::<u64>() <= rules.bytes);
                    prop_assert!(places.is_sorted());
                    for at in places {
 seen[at] += 1;
 }
                }
                Portion::Alone(at) => {
                    prop_assert!(sizes[at] > rules.alone_above && sizes[at] <= rules.largest);
                    seen[at] += 1;
                }
                Portion::TooLarge(at) => {
                    prop_assert!(sizes[at] > rules.largest);
                    seen[at] += 1;
                }
            }
        }
        prop_assert!(seen.iter().all(|times| *times == 1));
    }
}

#[test]
fn another_start_date_holds_at_once_and_an_earlier_one_from_the_beginning() {
    let at = Timestamp::from_millis;
    for (start, wished, expected) in [
        (None, None, Restart::No),
        (None, Some(100), Restart::No),
        (Some(100), None, Restart::No),
        (Some(100), Some(100), Restart::No),
        (Some(100), Some(101), Restart::Later(at(101))),
        (Some(100), Some(99), Restart::Anew(at(99))),
    ] {
        assert_eq!(restart(start.map(at), wished.map(at)), expected, "{start:?} {wished:?}");
    }
}

#[test]
fn an_item_is_given_up_after_enough_attempts_and_a_day() {
    let patience = Patience::default();
    let (soon, late) = (Duration::from_hours(1), Duration::from_hours(25));
    let passing = Reason::ItemTransientError;
    for (reason, before, waited, fate) in [
        (Reason::ItemNotFound, 9, late, Fate::Gone),
        (Reason::ItemNotAttempted, 9, late, Fate::Untouched),
        (passing, 0, soon, Fate::Again),
        (passing, 0, late, Fate::Again),
        (passing, 400, soon, Fate::Again),
        (passing, 3, late, Fate::Again),
        (passing, 4, late, Fate::GivenUp),
        (Reason::ItemCorrupt, 0, Duration::ZERO, Fate::GivenUp),
    ] {
        assert_eq!(patience.after_failure(reason, before, waited), fate, "{reason} {before} {waited:?}");
    }
}
