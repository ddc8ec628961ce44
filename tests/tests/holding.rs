//! Stories of holding: a mailbox that its holder lost is taken up again, a shard that is asked back is given back, and
//! what changes hands takes nothing of its former holder along. A second hand on the file puts the faults in.

use std::time::Duration;

use mailyard_exchange_sim::{Made, Options, Simulator};
use mailyard_host::clock;
use mailyard_policy::{
    id::{self, ProfileId, Revision},
    profile::Credentials,
};
use mailyard_store::{
    people::{AccountChange, Profile, Secrets, Selection},
    query::Filter,
    records::EmailState,
};
use mailyard_tests::{Outcome, Stage, hurried};
use mailyard_worker::settings::Settings;
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

async fn hand(stage: &Stage) -> Outcome<SqliteConnection> {
    Ok(SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&stage.database)).await?)
}

fn made(to: &str) -> Made {
    Made { to: vec![to.to_owned()], ..Made::default() }
}

async fn tracked(stage: &Stage, count: usize) -> Outcome {
    let what = format!("{count} mails are tracked");
    stage.until(&what, || async { Ok(stage.emails().await?.len() == count) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_a_forgotten_claim_took_is_taken_up_again() -> Outcome {
    let stage = Stage::new(2, hurried()).await?;
    stage.test_and_enable().await?;
    let mut hand = hand(&stage).await?;
    for round in 1..=2 {
        hand.execute("UPDATE mailbox SET fence_nonce = randomblob(16)").await?;
        for address in &stage.addresses {
            stage.simulator.deliver(&made(address));
        }
        tracked(&stage, round * stage.addresses.len()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_could_not_be_given_back_is_given_back_later() -> Outcome {
    let stage = Stage::new(2, hurried()).await?;
    stage.test_and_enable().await?;
    let before = stage.store.shards().await?;
    let told = async |mailboxes: u64, what: &str| {
        stage
            .until(what, || async {
                Ok(stage.leader.beating().await.iter().all(|worker| worker.mailboxes == mailboxes))
            })
            .await
    };
    told(2, "it tells of its mailboxes").await?;
    let mut hand = hand(&stage).await?;
    hand.execute(
        "CREATE TABLE refused(n INTEGER); INSERT INTO refused VALUES (0);
         CREATE TRIGGER stuck BEFORE UPDATE OF phase ON shard WHEN NEW.phase = 0 AND (SELECT n FROM refused) = 0
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END;
         UPDATE shard SET phase = 2 WHERE phase = 1",
    )
    .await?;
    told(0, "they have stopped").await?;
    hand.execute("UPDATE refused SET n = 1").await?;
    stage
        .until("it was given back, and granted anew", || async {
            let shards = stage.store.shards().await?;
            Ok(shards.iter().zip(&before).all(|(now, before)| now.epoch > before.epoch && !now.revoking))
        })
        .await?;
    stage.simulator.deliver(&made(&stage.addresses[0]));
    tracked(&stage, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_profile_brings_its_own_lane_even_in_the_same_shard() -> Outcome {
    let stage = Stage::new(2, hurried()).await?;
    stage.test_and_enable().await?;
    let folder = stage.database.with_file_name("other");
    let other = Simulator::start(Options::new(2, 1, folder)).await?;
    assert_eq!(other.addresses(), stage.addresses);
    let mailbox = stage.store.mailbox_at(&stage.org, &stage.addresses[0]).await?.ok_or("no mailbox")?;
    let neighbour = (1..1_000_000)
        .map(ProfileId::new)
        .find(|profile| id::shard(*profile, mailbox.set.id, 1) == mailbox.shard)
        .ok_or("no profile of this shard")?;
    let profile = stage.store.profile(stage.profile).await?.ok_or("no profile")?;
    let ready = other.ready();
    let profile = Profile {
        id: neighbour,
        display_name: "Other".to_owned(),
        incoming_url: Some(ready.ews_url.clone()),
        outgoing_url: Some(ready.ews_url.clone()),
        credentials: Credentials { user: ready.user.clone(), ..Credentials::none() },
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
        create_time: clock::now(),
        revision: Revision(0),
        ..profile
    };
    let secrets = Secrets { incoming: Some(ready.password.clone().into()), outgoing: None };
    stage.store.create_profile(&profile, &secrets, false).await?;
    let set = mailyard_store::people::NewMailbox { profile: Some(neighbour), ..mailbox.set.clone() };
    stage.store.update_mailbox(&set, &AccountChange::Keep, mailbox.revision).await?;
    stage.nudge();
    stage.test_and_enable().await?;
    other.deliver(&made(&stage.addresses[0]));
    tracked(&stage, 1).await
}

/// Commits with a new record are refused.
const REFUSED: &str =
    "CREATE TRIGGER fault BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
/// They fail at their very end, where nobody can say what became of them: this key is looked at only then.
const DOUBTED: &str =
    "CREATE TABLE doubt(n INTEGER PRIMARY KEY, other REFERENCES doubt DEFERRABLE INITIALLY DEFERRED);
     CREATE TRIGGER fault BEFORE INSERT ON record BEGIN INSERT INTO doubt(other) VALUES (-1); END";
/// The same, of commits that tell that an email was sent.
const SENT_DOUBTED: &str =
    "CREATE TABLE doubt(n INTEGER PRIMARY KEY, other REFERENCES doubt DEFERRABLE INITIALLY DEFERRED);
     CREATE TRIGGER fault BEFORE UPDATE OF state ON record WHEN NEW.state = 'sent'
     BEGIN INSERT INTO doubt(other) VALUES (-1); END";

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_commit_failed_is_done_again_from_what_is_stored() -> Outcome {
    for fault in [REFUSED, DOUBTED] {
        let stage = Stage::new(1, hurried()).await?;
        stage.test_and_enable().await?;
        let mut hand = hand(&stage).await?;
        hand.execute(fault).await?;
        let fetched = || stage.simulator.stats()["requests"]["GetItem"].as_u64().unwrap_or_default();
        let before = fetched();
        stage.simulator.deliver(&mailyard_tests::made(&stage.addresses[0], 3));
        let all = Selection::Matching(Filter::All);
        stage
            .until("what could not be written is fetched again", || async {
                stage.store.want_polls(&stage.org, &all).await?;
                stage.nudge();
                Ok(fetched() >= before + 2)
            })
            .await?;
        assert_eq!(stage.emails().await?.len(), 0);
        hand.execute("DROP TRIGGER fault").await?;
        stage.store.want_polls(&stage.org, &all).await?;
        stage.nudge();
        tracked(&stage, 3).await?;
        let mailbox = stage.store.mailbox_at(&stage.org, &stage.addresses[0]).await?.ok_or("no mailbox")?;
        let brought = stage.store.cycles(mailbox.set.id).await?.iter().map(|cycle| cycle.items).sum::<u32>();
        assert_eq!(brought, 3, "and told once");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_whose_end_could_not_be_written_is_looked_for_and_not_sent_again() -> Outcome {
    let settings = Settings { request_deadline: Duration::from_secs(1), ..hurried() };
    let stage = Stage::new(2, settings).await?;
    stage.test_and_enable().await?;
    let (requests, sent) = (
        |operation: &str| stage.simulator.stats()["requests"][operation].as_u64().unwrap_or_default(),
        || stage.simulator.submissions().len(),
    );
    let (moves, probes) = (requests("MoveItem"), sent());
    let mut hand = hand(&stage).await?;
    hand.execute(SENT_DOUBTED).await?;
    let email = stage.enqueue(&stage.addresses[0], &stage.addresses[1], "once").await?;
    stage
        .until("it is sent, and looked for again and again", || async {
            stage.nudge();
            Ok(sent() > probes && requests("MoveItem") >= moves + 2)
        })
        .await?;
    hand.execute("DROP TRIGGER fault").await?;
    stage
        .until("it is known to be sent, and has arrived", || async {
            let emails = stage.emails().await?;
            let known = emails.iter().any(|one| {
                one.id == email && one.state == EmailState::Outgoing(mailyard_policy::outbox::State::Sent)
            });
            Ok(known && emails.len() == 2)
        })
        .await?;
    assert_eq!(sent(), probes + 1, "once");
    Ok(())
}
