//! The contract that every backend fulfils, run against SQLite, PostgreSQL, and PostgreSQL behind PgBouncer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "contract/accounts.rs"]
mod accounts;
#[path = "contract/bodies.rs"]
mod bodies;
#[path = "contract/commits.rs"]
mod commits;
#[path = "contract/doubt.rs"]
mod doubt;
#[path = "contract/fleet.rs"]
mod fleet;
#[path = "contract/model.rs"]
mod model;
#[path = "contract/notices.rs"]
mod notices;
#[path = "contract/opening.rs"]
mod opening;
#[path = "contract/outgoing.rs"]
mod outgoing;
#[path = "contract/people.rs"]
mod people;
#[path = "contract/private.rs"]
mod private;
#[path = "contract/runs.rs"]
mod runs;
#[path = "contract/world.rs"]
mod world;

use std::sync::Arc;

use mailyard_store::{MasterKey, SqliteStore, Store};

/// A new, empty store, and what keeps it alive.
async fn sqlite() -> Option<(Arc<dyn Store>, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
    let store = SqliteStore::open(&dir.path().join("mailyard.db"), key).await.unwrap();
    Some((Arc::new(store), dir))
}

/// The same on a private server; `None`: there is none.
async fn postgres() -> Option<(Arc<dyn Store>, ())> {
    let database = private::Database::new().await?;
    Some((Arc::new(database.open(false).await.unwrap()), ()))
}

/// The same behind a pooler that gives each transaction another connection.
async fn pgbouncer() -> Option<(Arc<dyn Store>, ())> {
    let database = private::Database::pooled().await?;
    Some((Arc::new(database.open(true).await.unwrap()), ()))
}

macro_rules! contract {
    ($backend:ident: $($module:ident :: $case:ident;)+) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some((store, _kept)) = super::$backend().await {
                        super::$module::$case(store).await;
                    }
                }
            )+
        }
    };
}

macro_rules! on {
    ($($backend:ident),+) => {
        $(every_case! { $backend })+
    };
}

macro_rules! every_case {
    ($backend:ident) => {
        contract! {
            $backend:
            fleet::one_leads_at_a_time;
            fleet::a_deposed_leader_changes_nothing;
            fleet::leases_end_and_the_dead_stay_dead;
            fleet::grants_are_compared_with_what_was_seen;
            fleet::shards_are_revoked_and_released_by_their_owner;
            fleet::the_sole_holder_begins_at_once;
            commits::claims_page_and_end;
            commits::of_two_claimers_the_later_grant_writes;
            commits::a_stale_fence_writes_nothing;
            commits::mail_state_and_cycle_are_written_together_or_not_at_all;
            commits::a_transaction_may_be_large;
            commits::a_place_is_kept_with_its_attempts;
            commits::a_released_shard_is_claimed_with_what_was_kept;
            commits::an_unknown_outcome_is_read_again;
            commits::a_mailbox_that_moves_is_taken_from_its_holder;
            commits::a_claim_made_again_takes_the_mailbox_from_the_former_one;
            commits::another_profile_takes_a_mailbox_from_its_holder_even_in_the_same_shard;
            commits::mailboxes_without_a_profile_hide_nobodys_wishes;
            commits::seen_items_are_added_once;
            commits::one_mail_in_fifty_mailboxes_is_one_record;
            commits::another_mail_with_the_same_id_is_told_apart;
            commits::an_item_is_tracked_once;
            commits::items_fail_move_and_come_back;
            commits::the_quarantine_is_paged;
            commits::wishes_reach_the_holder_until_applied;
            commits::the_last_cycles_are_kept;
            commits::lanes_are_kept_by_the_last_grant;
            commits::known_tests_are_told;
            bodies::the_same_body_is_stored_once;
            bodies::bodies_of_every_size_come_back;
            bodies::a_large_body_is_adopted_and_an_unused_one_swept;
            bodies::an_upload_that_lacks_bytes_is_refused;
            outgoing::a_request_key_makes_one_email;
            outgoing::a_cancel_and_a_step_never_both_win;
            outgoing::sendings_are_due_for_who_can_send;
            outgoing::a_doubt_is_settled_by_a_person;
            outgoing::a_copy_is_linked_with_its_sending;
            outgoing::events_have_gapless_positions;
            people::settings_are_changed_against_their_revision;
            people::profile_names_are_unique_ignoring_case;
            people::the_last_test_of_a_profile_is_kept_whole;
            people::a_profile_becomes_the_default_with_its_own_writing_or_not_at_all;
            people::profiles_come_back_as_they_were_set;
            people::an_import_is_all_or_nothing_and_names_the_row;
            people::an_address_change_asks_for_approval_anew;
            people::approval_is_decided_for_all_or_none;
            people::lists_are_filtered;
            people::emails_are_filtered;
            people::pages_are_stable_under_writes;
            people::bad_filters_and_tokens_are_refused;
            people::secrets_come_back_and_change;
            accounts::a_password_comes_back_for_its_account_only;
            accounts::who_has_no_account_is_barred_where_it_needs_one;
            accounts::a_profile_that_leaves_signing_in_to_mailboxes_has_no_secret;
            runs::a_test_is_handed_out_and_ends;
            runs::what_cannot_be_tested_is_skipped_at_once;
            runs::a_test_of_a_selection_has_each_mailbox_once;
            runs::operations_are_listed_by_organization_page_by_page;
            runs::held_profiles_wait;
            runs::canceling_takes_tests_back;
            runs::two_tests_of_one_mailbox_follow_each_other;
            runs::a_mailbox_that_loses_its_profile_keeps_nobody_waiting;
            notices::facts_are_booked_once;
            notices::alerts_are_listed_and_forgotten;
            notices::a_mail_is_tried_until_it_is_accepted_or_given_up;
            model::fenced_commits_follow_the_model;
            model::health_counts_are_always_what_a_recount_says;
        }
    };
}

on! { sqlite, postgres, pgbouncer }
