//! A mailbox against who follows its changes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

proptest! {
    /// A client that follows the pages knows exactly what is in the folder, whatever happens between them.
    #[test]
    fn who_follows_the_changes_knows_the_folder(
        steps in prop::collection::vec((0u8..6, any::<prop::sample::Index>()), 1..200),
        limit in 1usize..7,
    ) {
        let mut contents = Contents::default();
        let mut known: BTreeSet<u64> = BTreeSet::new();
        let mut state = (0, 0);
        let mut follow = |contents: &Contents, known: &mut BTreeSet<u64>| {
            let page = contents.changes(INBOX, state, limit);
            for told in &page.told {
                match told {
                    Told::Create(number) | Told::Update(number) | Told::ReadFlag(number) => known.insert(*number),
                    Told::Delete(number) => known.remove(number),
                };
            }
            state = (page.base, page.position);
            page.last
        };
        for (what, which) in steps {
            let numbers: Vec<u64> = contents.items_of(INBOX).iter().map(|item| item.number).collect();
            let some = (!numbers.is_empty()).then(|| numbers[which.index(numbers.len())]);
            match (what, some) {
                (0 | 1, _) => {
                    contents.add(INBOX, Arc::default(), 0, [0; 16]);
                }
                (2, Some(number)) => contents.saved(number, 0, false),
                (3, Some(number)) => {
                    contents.remove(number, 0);
                }
                (4, Some(number)) => {
                    contents.shift(number, SENT_ITEMS, 0, false);
                }
                _ => {
                    follow(&contents, &mut known);
                }
            }
        }
        while !follow(&contents, &mut known) {}
        follow(&contents, &mut known);
        let there: BTreeSet<u64> = contents.items_of(INBOX).iter().map(|item| item.number).collect();
        prop_assert_eq!(known, there);
    }
}
