//! Accounts that mailboxes sign in as themselves.

use std::sync::Arc;

use mailyard_policy::{
    Reason,
    id::{MailboxId, OperationId, Revision},
    operation::Direction,
    profile::{Account, CredentialSource, Credentials},
};
use mailyard_store::{
    Store,
    holder::Wanted,
    people::{AccountChange, Approval, Mailbox, Profile, Secrets, Selection, TestResult},
    query::Filter,
};
use secrecy::ExposeSecret as _;

use crate::world::{World, at, page, profile, refused};

/// The profile of the world leaves signing in to its mailboxes, or does not any more.
async fn leave_to_mailboxes(world: &World, credential_source: CredentialSource) -> Profile {
    let before = world.store.profile(world.profile).await.unwrap().unwrap();
    let user = match credential_source {
        CredentialSource::Profile => "svc@contoso.example".to_owned(),
        CredentialSource::Mailbox => String::new(),
    };
    let credentials = Credentials { user, ..before.credentials.clone() };
    let changed = Profile { credential_source, credentials, ..before };
    world.store.update_profile(&changed, &Secrets::default(), false).await.unwrap()
}

async fn change(world: &World, id: MailboxId, account: &AccountChange) -> Mailbox {
    let before = world.store.mailbox(id).await.unwrap().unwrap();
    world.store.update_mailbox(&before.set, account, before.revision).await.unwrap()
}

fn set(user: &str, password: &str) -> AccountChange {
    AccountChange::Set { user: user.to_owned(), password: password.into() }
}

async fn wanted(world: &World, id: MailboxId) -> Wanted {
    let all = world.store.unapplied(world.incarnation, 10).await.unwrap();
    all.into_iter().find(|(found, _)| *found == id).expect("it waits to be applied").1
}

pub async fn a_password_comes_back_for_its_account_only(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 2).await;
    let [id, other] = [claimed[0].fence.mailbox, claimed[1].fence.mailbox];
    let first = change(&world, id, &set("CONTOSO\\anna", "Grünkohl-1")).await;
    let account = first.account.clone().expect("it was set");
    assert_eq!((account.user.as_str(), account.secret_revision), ("CONTOSO\\anna", first.revision));
    let read = async |id, account: &Account| {
        store.account_secret(id, account).await.map(|secret| secret.expose_secret().to_owned())
    };
    assert_eq!(read(id, &account).await.unwrap(), "Grünkohl-1");
    assert_eq!(wanted(&world, id).await.account, Some(account.clone()));
    assert_eq!(change(&world, id, &AccountChange::Keep).await.account, Some(account.clone()));
    // Nobody else's, and no other's of the same mailbox.
    let changed = change(&world, id, &set("CONTOSO\\anna", "second")).await.account.expect("it was set");
    let another = Account { user: "CONTOSO\\bert".to_owned(), ..changed.clone() };
    for (id, account) in [(id, &account), (id, &another), (other, &changed)] {
        assert_eq!(refused(read(id, account).await).0, Reason::EtagMismatch, "{account:?}");
    }
    assert_eq!(read(id, &changed).await.unwrap(), "second");
    // After it was forgotten, the same words are another account: whoever has a client of the first one sees it.
    assert_eq!(change(&world, id, &AccountChange::Forget).await.account, None);
    assert_eq!(refused(read(id, &changed).await).0, Reason::EtagMismatch);
    let again = change(&world, id, &set("CONTOSO\\anna", "second")).await.account.expect("it was set");
    assert!(again.secret_revision > changed.secret_revision);
    let listed = store.mailboxes(&world.org, &Filter::All, &page(None, 9)).await.unwrap();
    assert_eq!(listed.iter().map(|mailbox| mailbox.account.clone()).collect::<Vec<_>>(), [Some(again), None]);
    let stale = store.mailbox(other).await.unwrap().unwrap();
    let late = store.update_mailbox(&stale.set, &set("x", "y"), Revision(stale.revision.0 + 1)).await;
    assert_eq!(refused(late).0, Reason::EtagMismatch);
    assert_eq!(store.mailbox(other).await.unwrap().unwrap().account, None);
}

pub async fn who_has_no_account_is_barred_where_it_needs_one(store: Arc<dyn Store>) {
    let (world, claimed) = World::with_mailboxes(store.clone(), 2).await;
    let [id, other] = [claimed[0].fence.mailbox, claimed[1].fence.mailbox];
    let (all, missing) = (Selection::Matching(Filter::All), Some(Reason::MailboxCredentialsMissing));
    leave_to_mailboxes(&world, CredentialSource::Mailbox).await;
    assert_eq!(wanted(&world, id).await.barred, Some(Reason::MailboxNotApproved));
    store.decide_approval(&world.org, &all, Approval::Approved, at(1)).await.unwrap();
    let before = wanted(&world, id).await;
    assert_eq!(before.barred, missing);
    change(&world, id, &set("anna@contoso.example", "p")).await;
    let after = wanted(&world, id).await;
    assert_eq!(after.barred, None);
    assert!(after.revision > before.revision, "its holder is told");
    let begun = store.start_test(&world.org, OperationId::new(500), &all, "all", at(2)).await.unwrap();
    assert_eq!((begun.total, begun.skipped), (2, 1));
    let skipped = store.operation_results(begun.id, 0, 10).await.unwrap().remove(0);
    let outcome = skipped.outcome.expect("it ended");
    assert_eq!((skipped.mailbox, outcome.result, outcome.reasons[0]), (other, TestResult::Skipped, missing));
    // Another answer of the profile is another answer for each of its mailboxes.
    leave_to_mailboxes(&world, CredentialSource::Profile).await;
    let told = wanted(&world, other).await;
    assert_eq!(told.barred, None);
    leave_to_mailboxes(&world, CredentialSource::Mailbox).await;
    let told_again = wanted(&world, other).await;
    assert_eq!(told_again.barred, missing);
    assert!(told_again.revision > told.revision);
}

pub async fn a_profile_that_leaves_signing_in_to_mailboxes_has_no_secret(store: Arc<dyn Store>) {
    let world = World::new(store.clone()).await;
    let secret = |text: &str| Secrets { incoming: Some(text.into()), outgoing: None };
    let made = store.create_profile(&profile(5, "P"), &secret("first"), false).await.unwrap();
    let of_mailboxes = Profile { credential_source: CredentialSource::Mailbox, ..made.clone() };
    let left = store.update_profile(&of_mailboxes, &Secrets::default(), false).await.unwrap();
    assert_eq!(left.credential_source, CredentialSource::Mailbox);
    assert!(!left.credentials.secret_set());
    assert!(store.secret(&left, Direction::Incoming).await.unwrap().is_none());
    assert_eq!(refused(store.secret(&made, Direction::Incoming).await.map(|_| ())).0, Reason::EtagMismatch);
    // The next secret is told from the first one.
    let own = Profile { credential_source: CredentialSource::Profile, ..left };
    let own = store.update_profile(&own, &secret("first"), false).await.unwrap();
    assert!(own.credentials.secret_revision > made.credentials.secret_revision);
    assert_eq!(world.store.profile(own.id).await.unwrap(), Some(own));
}
