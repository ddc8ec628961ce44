//! What a coordinator and a worker make of each other: the cases that no accident brings about soon.

use std::time::Duration;

use mailyard_policy::{
    BootTime, Reason, Timestamp,
    id::{Attempt, Epoch, Incarnation, Nonce, ShardId, Term, Volume, WorkerId},
    membership::{
        Desired, Grant, Hello, Leadership, Process, SessionId, Shard, Survey, ToLeader, ToMember,
        WorkerState,
        leader::{self, Answer, Ask, Leader},
        member::{self, Member, Renewal},
    },
};

const LEADERSHIP: Leadership = Leadership { term: Term(5), nonce: Nonce::new(1) };
const SESSION: SessionId = SessionId(1);

fn at(millis: u64) -> BootTime {
    BootTime::from_millis(millis)
}

fn hello() -> Hello {
    Hello {
        worker: WorkerId("one".to_owned()),
        incarnation: Incarnation::new(7),
        volume: Volume::new(3),
        build: "1".to_owned(),
        protocol: (1, 1),
        capacity: 1,
        max_term: Term(0),
    }
}

/// The attempt of the last question, and the question.
fn asked(effects: &[leader::Effect]) -> Option<(Attempt, Ask)> {
    effects.iter().rev().find_map(|effect| match effect {
        leader::Effect::Ask(attempt, ask) => Some((*attempt, ask.clone())),
        _ => None,
    })
}

/// A coordinator that leads and has begun to look.
fn leading() -> (Leader, Vec<leader::Effect>) {
    let mut leader = Leader::new(leader::Rules::default(), at(0));
    let effects = leader.step(leader::Event::Tick, at(0));
    let (attempt, _) = asked(&effects).unwrap_or_else(|| panic!("{effects:?}"));
    let answer = leader::Event::Answered(attempt, Answer::Leads(Some(LEADERSHIP)));
    let effects = leader.step(answer, at(10));
    (leader, effects)
}

fn refusal(effects: &[leader::Effect]) -> Option<Reason> {
    effects.iter().find_map(|effect| match effect {
        leader::Effect::Say(_, ToMember::Refused { reason, .. }) => Some(*reason),
        _ => None,
    })
}

#[test]
fn who_is_not_taken_is_told_why() {
    let heard = |hello| leader::Event::Heard(SESSION, ToLeader::Hello(hello));
    let mut idle = Leader::new(leader::Rules::default(), at(0));
    assert_eq!(refusal(&idle.step(heard(hello()), at(0))), Some(Reason::ClusterNoLeader));

    let (mut leader, _) = leading();
    let newer = Hello { protocol: (2, 3), ..hello() };
    assert_eq!(refusal(&leader.step(heard(newer), at(20))), Some(Reason::WorkerProtocol));
    for reason in [Reason::WorkerIdTaken, Reason::WorkerUnreachable] {
        let effects = leader.step(heard(hello()), at(20));
        let (attempt, ask) = asked(&effects).unwrap_or_else(|| panic!("{effects:?}"));
        assert_eq!(ask, Ask::Register(LEADERSHIP, hello()));
        let answer = leader::Event::Answered(attempt, Answer::Refused(reason, "it is".to_owned()));
        assert_eq!(refusal(&leader.step(answer, at(30))), Some(reason));
    }
    // It has heard of a later leader.
    let later = Hello { max_term: Term(6), ..hello() };
    let effects = leader.step(heard(later), at(40));
    assert_eq!(refusal(&effects), Some(Reason::ClusterNoLeader));
    assert!(effects.contains(&leader::Effect::Leads(None)) && leader.leadership().is_none());
}

#[test]
fn the_answer_to_an_earlier_question_ends_no_later_round() {
    let (mut leader, effects) = leading();
    let (look, _) = asked(&effects).unwrap_or_else(|| panic!("{effects:?}"));
    let unknown = |attempt| leader::Event::Answered(attempt, Answer::Unknown);
    leader.step(unknown(look), at(20));
    let effects = leader.step(leader::Event::Tick, at(1100));
    let again = effects.iter().filter(|effect| matches!(effect, leader::Effect::Ask(_, Ask::Look(_))));
    assert_eq!(again.count(), 1, "{effects:?}");
    // Late, and of the round before: nothing follows.
    let survey = Answer::Stands(Box::default());
    assert_eq!(leader.step(leader::Event::Answered(look, survey), at(1200)), []);
}

#[test]
fn what_stands_is_told_once_and_again_to_who_is_behind() {
    let (mut leader, effects) = leading();
    let (look, _) = asked(&effects).unwrap_or_else(|| panic!("{effects:?}"));
    let effects = leader.step(leader::Event::Heard(SESSION, ToLeader::Hello(hello())), at(20));
    let (register, _) = asked(&effects).unwrap_or_else(|| panic!("{effects:?}"));
    leader.step(leader::Event::Answered(register, Answer::Done), at(30));
    let shard = ShardId::all().next().unwrap_or_else(|| panic!("there are shards"));
    let (epoch, nonce) = (Epoch(9), Nonce::new(9));
    let owned =
        Shard { shard, epoch, nonce, owner: Some(hello().incarnation), revoking: false, reserved: None };
    let lease_until = Timestamp::from_millis(60_000);
    let (worker, incarnation) = (hello().worker, hello().incarnation);
    let process = Process { worker, incarnation, state: WorkerState::Live, lease_until };
    let survey = Survey {
        now: Timestamp::from_millis(30_000),
        workers: vec![process],
        shards: vec![owned],
        ..Survey::default()
    };
    let stands = |attempt| leader::Event::Answered(attempt, Answer::Stands(Box::new(survey.clone())));
    let told = |effects: &[leader::Effect]| {
        effects.iter().filter(|effect| matches!(effect, leader::Effect::Say(_, ToMember::Desired(_)))).count()
    };
    assert_eq!(told(&leader.step(stands(look), at(40))), 1);
    let effects = leader.step(leader::Event::Tick, at(1100));
    let look = effects.iter().find_map(|effect| match effect {
        leader::Effect::Ask(attempt, Ask::Look(_)) => Some(*attempt),
        _ => None,
    });
    let look = look.unwrap_or_else(|| panic!("{effects:?}"));
    assert_eq!(told(&leader.step(stands(look), at(1110))), 0, "it was told so");
    let beat = |version| {
        let progress = mailyard_policy::membership::Progress::default();
        leader::Event::Heard(SESSION, ToLeader::Beat { sequence: 1, version, progress })
    };
    assert_eq!(told(&leader.step(beat(0), at(1200))), 1, "it did not hear of it");
    assert_eq!(told(&leader.step(beat(1), at(1300))), 0);
}

/// A member that was welcomed at this moment, having asked at zero.
fn welcomed(now: BootTime) -> Member {
    let mut member = Member::new(member::Rules::default(), hello(), at(0));
    member.step(member::Event::Tick, at(0));
    let welcome = ToMember::Welcome { term: Term(5), protocol: 1 };
    member.step(member::Event::Heard(SESSION, welcome), now);
    member
}

fn desired(version: u64, grants: Vec<Grant>) -> member::Event {
    member::Event::Heard(SESSION, ToMember::Desired(Desired { term: Term(5), version, grants }))
}

fn grant(epoch: u64, revoking: bool) -> Grant {
    let shard = ShardId::all().next().unwrap_or_else(|| panic!("there are shards"));
    Grant { shard, epoch: Epoch(epoch), nonce: Nonce::new(epoch.into()), revoking }
}

#[test]
fn what_is_asked_back_is_drained_before_it_is_released_and_told_until_it_is() {
    let mut member = welcomed(at(100));
    let shard = grant(1, false).shard;
    assert_eq!(member.step(desired(1, vec![grant(1, false)]), at(200)), [member::Effect::Claim]);
    let drain = member.step(desired(2, vec![grant(1, true)]), at(300));
    assert_eq!(drain, [member::Effect::Drain(shard, Epoch(1))]);
    assert_eq!(member.step(desired(3, vec![grant(1, true)]), at(400)), [], "it drains already");
    let release = member::Effect::Release(shard, Epoch(1));
    assert_eq!(member.step(member::Event::Drained(Epoch(1)), at(500)), std::slice::from_ref(&release));
    member.step(member::Event::Released(Epoch(1), false), at(600));
    assert!(member.step(member::Event::Tick, at(1700)).contains(&release));
    member.step(member::Event::Released(Epoch(1), true), at(1800));
    assert_eq!(member.held().count(), 0);
    // Given back while it was asked for: only another grant is another right.
    assert_eq!(member.step(desired(4, vec![grant(2, false)]), at(1900)), [member::Effect::Claim]);
}

#[test]
fn who_was_declared_dead_does_nothing_more() {
    let mut member = welcomed(at(100));
    let effects = member.step(member::Event::Renewed(at(100), Renewal::Dead), at(200));
    assert!(effects.contains(&member::Effect::Lost));
    assert_eq!(member.step(desired(1, vec![grant(1, false)]), at(300)), []);
    assert_eq!(member.step(member::Event::Tick, at(60_000)), []);
    assert!(member.lease().reads_until(at(300)).is_none());
}

#[test]
fn a_lease_counts_from_the_question_and_ends_without_an_answer() {
    let member = welcomed(at(5000));
    let end = 30_000 * 98 / 100 - 500;
    assert_eq!(member.lease().reads_until(at(end - 1)), Some(at(end)));
    assert!(member.lease().reads_until(at(end)).is_none());
}

#[test]
fn a_silent_coordinator_is_left_for_the_next_one() {
    let rules = member::Rules { coordinators: 2, ..member::Rules::default() };
    let mut member = Member::new(rules, hello(), at(0));
    let opened = |effects: &[member::Effect]| {
        effects.iter().find_map(|effect| match effect {
            member::Effect::Open { coordinator, .. } => Some(*coordinator),
            _ => None,
        })
    };
    assert_eq!(opened(&member.step(member::Event::Tick, at(0))), Some(0));
    assert_eq!(opened(&member.step(member::Event::Tick, at(9999))), None);
    assert_eq!(member.step(member::Event::Tick, at(10_000)), [member::Effect::Close(SESSION)]);
    let later = at(10_000) + Duration::from_millis(200);
    assert_eq!(opened(&member.step(member::Event::Tick, later)), Some(1));
}

#[test]
fn who_leaves_tells_the_store_first_and_goes_when_nothing_is_left() {
    let mut member = welcomed(at(100));
    member.step(desired(1, vec![grant(1, false)]), at(200));
    assert_eq!(member.step(member::Event::Leave, at(300)), [member::Effect::Depart]);
    member.step(member::Event::Departed(false), at(400));
    assert!(member.step(member::Event::Tick, at(1500)).contains(&member::Effect::Depart));
    let shard = grant(1, false).shard;
    let drain = member.step(member::Event::Departed(true), at(1600));
    assert_eq!(drain, [member::Effect::Drain(shard, Epoch(1))]);
    member.step(member::Event::Drained(Epoch(1)), at(1700));
    let effects = member.step(member::Event::Released(Epoch(1), true), at(1800));
    assert!(effects.contains(&member::Effect::Gone), "{effects:?}");
}

#[test]
fn what_was_dropped_at_the_end_of_a_lease_is_waited_for_before_its_shard_is_given_back() {
    let shard = grant(1, false).shard;
    let release = member::Effect::Release(shard, Epoch(1));
    for lapse in [member::Event::ClockJumped, member::Event::Tick] {
        let mut member = welcomed(at(100));
        member.step(desired(1, vec![grant(1, false)]), at(200));
        let lapsed = if lapse == member::Event::ClockJumped { 300 } else { 30_000 };
        let ack = ToMember::BeatAck { term: Term(5), sequence: 1 };
        member.step(member::Event::Heard(SESSION, ack), at(lapsed - lapsed / 15));
        member.step(lapse, at(lapsed));
        member.step(member::Event::Renewed(at(lapsed), Renewal::Accepted), at(lapsed + 10));
        member.step(desired(2, vec![grant(1, true)]), at(lapsed + 20));
        assert_eq!(member.step(member::Event::Drained(Epoch(1)), at(lapsed + 30)), []);
        assert!(!member.step(member::Event::Tick, at(lapsed + 19_999)).contains(&release));
        assert!(member.step(member::Event::Tick, at(lapsed + 20_000)).contains(&release));
    }
}
