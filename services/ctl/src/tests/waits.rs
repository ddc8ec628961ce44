//! Waits, watches and servers that are away.

use std::{future::pending, sync::Arc};

use mailyard_host::data_dir::DataDir;
use mailyard_wire::{admin::LongState, reason::Reason, records::EmailState, status};
use tonic::Status;

use super::{canned, fake::Close, world::World};
use crate::Exit;

#[tokio::test]
async fn a_cut_watch_goes_on_behind_what_came() {
    let world = World::start();
    let all = canned::watched();
    let draining = status::refusal(Reason::ServerDraining, "", "it stops");
    world.fake.state().watches.extend([
        (all[..2].to_vec(), Close::Fails(draining)),
        (Vec::new(), Close::StaysOpen),
        (all[2..4].to_vec(), Close::Ends),
        (all[4..].to_vec(), Close::StaysOpen),
    ]);
    // The second watch is cut with its connection.
    let cut = async {
        world.fake.watched.notified().await;
        world.fake.watched.notified().await;
        world.restart();
    };
    let (outcome, ()) = tokio::join!(world.run("mailbox test-enable --all --wait"), cut);
    let skipped: Vec<String> = world.heard().into_iter().filter(|call| call.starts_with("watch")).collect();
    insta::assert_snapshot!(format!("{outcome}\n{}", skipped.join("\n")));
}

#[tokio::test]
async fn a_watch_ends_as_the_operation_does() {
    let world = World::start();
    let last = |operation| {
        vec![mailyard_wire::admin::WatchOperationResponse { operation: Some(operation), results: Vec::new() }]
    };
    for (operation, exit) in [
        (canned::operation(LongState::Done, 4, 0, 0), Exit::Success),
        (canned::operation(LongState::Done, 3, 1, 0), Exit::SomeFailed),
        (canned::operation(LongState::Done, 3, 0, 1), Exit::SomeFailed),
        (canned::operation(LongState::Canceled, 1, 0, 0), Exit::SomeFailed),
    ] {
        world.fake.state().watches.push_back((last(operation), Close::Ends));
        assert_eq!(world.run("operation watch x").await.exit, exit);
    }
    let lost = status::refusal(Reason::ResourceNotFound, "", "there is no such operation");
    world.fake.fail("watch_operation", lost);
    assert_eq!(world.run("operation watch x").await.exit, Exit::NotFound);
}

#[tokio::test]
async fn what_is_left_early_says_so() {
    let world = World::start();
    let some = || canned::watched()[..2].to_vec();
    let gone = status::refusal(Reason::ResourceNotFound, "", "it is gone");
    let closes = [Close::StaysOpen, Close::Fails(gone), Close::StaysOpen];
    world.fake.state().watches.extend(closes.map(|close| (some(), close)));
    let line = "operation watch x";
    let watched = Arc::clone(&world.fake.watched);
    let interrupted = world.run_with(line, "", false, async move { watched.notified().await }).await;
    let again = "error: interrupted\n  the operation continues: mailyard --data DIR operation watch x\n";
    assert!(interrupted.err.ends_with(again), "{interrupted}");
    let on_terminal = world.run_with(line, "", true, pending()).await;
    let begin = "\r\u{1b}[K0 of 4 tested (0 %)\r\u{1b}[K2 of 4 tested (50 %), 1 failed\nerror: it is gone ";
    assert!(on_terminal.err.starts_with(begin), "{on_terminal}");
    let late = world.run("operation watch x --timeout 1ms").await;
    assert!(late.err.starts_with("error: the time given by --timeout is over\n"), "{late}");
    assert_eq!([interrupted, on_terminal, late].map(|outcome| outcome.exit.code()), [130, 3, 7]);
}

#[tokio::test]
async fn waiting_goes_through_states_and_restarts() {
    let world = World::start();
    for (states, exit) in [
        (vec![EmailState::PendingSend, EmailState::Sending, EmailState::Sent], Exit::Success),
        (vec![EmailState::Failed], Exit::SomeFailed),
        (vec![EmailState::NeedsPerson], Exit::SomeFailed),
        (vec![EmailState::Expired], Exit::SomeFailed),
        (vec![EmailState::Canceled], Exit::SomeFailed),
    ] {
        world.fake.state().states = states.into();
        world.fake.fail("get_email", status::refusal(Reason::ClusterNoLeader, "", "nobody leads"));
        let outcome = world.run("email send --from a@m.test --to b@m.test --wait -o json").await;
        assert_eq!(outcome.exit, exit, "{outcome}");
    }
    world.heard();
    world.fake.state().pending = [1, 1, 0, 1, 0].into();
    let outcome = world.run("mailbox poll --all --wait -o json").await;
    assert_eq!(outcome.out, "{\"asked\":2,\"refused\":[],\"failing\":[\"bob@contoso.test\"]}\n");
    let looks = world.heard().iter().filter(|call| call.starts_with("get_mailbox")).count();
    assert_eq!(looks, 5, "ada and bob wait, ada is done, bob waits, bob is done");
    world.fake.state().many = 21;
    let outcome = world.run("mailbox poll --filter 'state = failing' --wait -o json").await;
    assert_eq!(outcome.out, "{\"asked\":21,\"refused\":[],\"failing\":[\"bob@contoso.test\"]}\n");
    let listed = world.heard().iter().filter(|call| call.contains("filter: \"\"")).count();
    assert_eq!(listed, 11, "one list of eleven pages, whatever the selection");
}

#[tokio::test]
async fn a_lost_answer_says_how_to_send_once() {
    let world = World::start();
    world.fake.fail("enqueue_email", Status::unavailable("gone"));
    let outcome = world.run("email send --from a@m.test --to b@m.test --idempotency-key 'my key'").await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("--idempotency-key 'my key'"), "{}", outcome.err);
    world.fake.state().known_key = true;
    let outcome = world.run("email send --from a@m.test --to b@m.test").await;
    assert!(outcome.err.contains("the key was used before"), "{outcome}");
    assert!(world.heard().iter().all(|call| call.contains("idempotency_key: \"")));
}

#[tokio::test]
async fn addresses_are_tried_in_order() {
    let world = World::start();
    let file = world.data.path().join("endpoint.json");
    let text = std::fs::read_to_string(&file).expect("it is published");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
    let with = |urls: &str| text.replace("\"grpc\":[", &format!("\"grpc\":[{urls}"));
    std::fs::write(&file, with(&format!("\"http://plain\",\"https://{closed}\","))).expect("it is ours");
    assert_eq!(world.run("status").await.exit, Exit::Success);
    world.data.publish(vec![format!("https://{closed}")]).expect("it is ours");
    let refused = world.run("status").await;
    let err = refused.err.replace(&closed.to_string(), "CLOSED");
    insta::assert_snapshot!(err, @"
    error: the server on DIR cannot be reached
      why:  https://CLOSED: Connection refused (os error 111)
      fix:  Look whether the server runs, then repeat the command.
    ");
    assert_eq!(refused.exit, Exit::Unavailable);
    // Another authority vouches for the server.
    let other = tempfile::tempdir().expect("a folder");
    let other = DataDir::open(other.path()).expect("it is ours");
    other.identity().expect("it is made");
    let ours = world.data.path().join("tls/ca.pem");
    std::fs::write(
        &file,
        text.replace(&*ours.to_string_lossy(), &other.path().join("tls/ca.pem").to_string_lossy()),
    )
    .expect("it is ours");
    let untrusted = world.run("status").await;
    assert_eq!(untrusted.exit, Exit::Unavailable);
    assert!(untrusted.err.contains("certificate"), "{}", untrusted.err);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let world = World::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", silent.local_addr().expect("it is bound"));
    world.data.publish(vec![url]).expect("it is ours");
    let outcome = world.run("status --timeout 50ms").await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::TimedOut, ""));
}
