//! A worker's process: the member that decides, and what carries out its decisions. What a mailbox's actor does is
//! played: it polls at its phase, commits what it found, and asks the store again after an unknown outcome.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use mailyard_policy::{
    BootTime,
    id::{Epoch, Nonce, ShardId},
    membership::{
        Progress, SessionId, ToLeader, ToMember,
        member::{Effect, Event, Member, Renewal},
    },
};

use super::{
    Mutation, Options,
    store::{Claimed, Fence, Mailbox, Outcome},
};

/// Something that a worker asks of the store.
#[derive(Clone, Debug)]
pub enum Request {
    Renew(BootTime),
    Depart,
    Release(ShardId, Epoch),
    Claim(Vec<Mailbox>),
    Standing,
    Commit(Fence, Range<u64>),
    Reload(Fence),
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Renewed(Renewal),
    Done,
    Claimed(Vec<Claimed>),
    Standing(Vec<(Mailbox, Nonce)>),
    Committed(Outcome<u64>),
    Reloaded(Outcome<(u64, u64)>),
    /// It was not heard of in time: it may have happened, or may yet.
    Unknown,
}

/// What a process does to the world around it.
#[derive(Debug)]
pub enum Act {
    Ask(u64, Request),
    Poll(u64, Mailbox),
    Open(SessionId, usize, ToLeader),
    Say(SessionId, ToLeader),
    Close(SessionId),
    /// The process ends in order.
    Exit,
    /// It comes back as another process.
    Restart,
}

/// What a mailbox is at.
#[derive(Clone, Debug)]
enum Work {
    Waits,
    Polls { number: u64, since: BootTime },
    Commits,
    Reloads { mails: Range<u64>, again: Option<BootTime> },
}

#[derive(Clone, Debug)]
struct Held {
    fence: Fence,
    cursor: u64,
    due: BootTime,
    work: Work,
}

/// A process.
pub struct Process {
    options: Options,
    member: Member,
    mailboxes: BTreeMap<Mailbox, Held>,
    calls: BTreeMap<u64, Request>,
    numbers: u64,
    draining: Vec<Epoch>,
    claim: BootTime,
    compare: BootTime,
    beat: BootTime,
    turns_done: u64,
    pub lost: bool,
}

/// Between two looks for something to claim, and between two comparisons of what is held with what is claimed.
const CLAIMED: Duration = Duration::from_secs(2);
const COMPARED: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(1);

impl Process {
    pub fn new(member: Member, options: &Options, now: BootTime) -> Self {
        Self {
            options: options.clone(),
            member,
            mailboxes: BTreeMap::new(),
            calls: BTreeMap::new(),
            numbers: 0,
            draining: Vec::new(),
            claim: now,
            compare: now,
            beat: now,
            turns_done: 0,
            lost: false,
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: BootTime) -> Vec<Act> {
        let mut acts = self.step(Event::Tick, now);
        if now >= self.beat {
            self.beat = now + BEAT;
            let overdue = self.mailboxes.values().map(|held| now.since(held.due)).max();
            let progress = Progress {
                oldest_due: overdue.unwrap_or_default(),
                mailboxes: self.mailboxes.len() as u64,
                turns_done: self.turns_done,
                in_flight: 0,
            };
            acts.extend(self.step(Event::Progress(progress), now));
        }
        if now >= self.claim && !self.asks(|request| matches!(request, Request::Claim(_))) {
            self.claim = now + CLAIMED;
            acts.extend(self.ask(Request::Claim(Vec::new())));
        }
        if now >= self.compare && !self.asks(|request| matches!(request, Request::Standing)) {
            self.compare = now + COMPARED;
            acts.extend(self.ask(Request::Standing));
        }
        acts.extend(self.polls(now));
        acts.extend(self.reloads(now));
        acts.extend(self.drained(now));
        acts
    }

    fn asks(&self, like: impl Fn(&Request) -> bool) -> bool {
        self.calls.values().any(like)
    }

    fn ask(&mut self, request: Request) -> Vec<Act> {
        self.numbers += 1;
        self.calls.insert(self.numbers, request.clone());
        vec![Act::Ask(self.numbers, request)]
    }

    fn polls(&mut self, now: BootTime) -> Vec<Act> {
        let mut acts = Vec::new();
        let relies = self.member.lease().reads_until(now).is_some();
        let relies = relies || self.options.mutation == Some(Mutation::NoSelfFence);
        for (mailbox, held) in &mut self.mailboxes {
            if let Work::Polls { since, .. } = held.work {
                let late = now.since(since) >= self.options.leader.lease.request_deadline;
                if late || !relies {
                    held.work = Work::Waits;
                }
            }
            let idle = matches!(held.work, Work::Waits) && !self.draining.contains(&held.fence.epoch);
            if idle && relies && now >= held.due {
                self.numbers += 1;
                held.work = Work::Polls { number: self.numbers, since: now };
                held.due = next_phase(*mailbox, self.options.period, now);
                acts.push(Act::Poll(self.numbers, *mailbox));
            }
        }
        acts
    }

    fn reloads(&mut self, now: BootTime) -> Vec<Act> {
        let due = |held: &mut Held| match &mut held.work {
            Work::Reloads { again, .. } if again.is_some_and(|again| now >= again) => {
                *again = None;
                Some(held.fence)
            }
            _ => None,
        };
        let due: Vec<Fence> = self.mailboxes.values_mut().filter_map(due).collect();
        due.into_iter().flat_map(|fence| self.ask(Request::Reload(fence))).collect()
    }

    /// Tells of grants of which nothing runs here any more.
    fn drained(&mut self, now: BootTime) -> Vec<Act> {
        let busy = |epoch: &Epoch| {
            if self.options.mutation == Some(Mutation::NoDrain) {
                return false;
            }
            let mut of_grant = self.mailboxes.values().filter(|held| held.fence.epoch == *epoch);
            of_grant.any(|held| !matches!(held.work, Work::Waits))
        };
        let (busy, done): (Vec<Epoch>, Vec<Epoch>) = self.draining.iter().partition(|epoch| busy(epoch));
        self.draining = busy;
        self.mailboxes.retain(|_, held| !done.contains(&held.fence.epoch));
        done.into_iter().flat_map(|epoch| self.step(Event::Drained(epoch), now)).collect()
    }

    /// The coordinator said something.
    pub fn heard(&mut self, session: SessionId, message: ToMember, now: BootTime) -> Vec<Act> {
        self.step(Event::Heard(session, message), now)
    }

    /// Something happened to the process.
    pub fn step(&mut self, event: Event, now: BootTime) -> Vec<Act> {
        let effects = self.member.step(event, now);
        effects.into_iter().flat_map(|effect| self.perform(effect, now)).collect()
    }

    fn perform(&mut self, effect: Effect, now: BootTime) -> Vec<Act> {
        match effect {
            Effect::Open { session, coordinator, hello } => {
                vec![Act::Open(session, coordinator, ToLeader::Hello(hello))]
            }
            Effect::Say(session, message) => vec![Act::Say(session, message)],
            Effect::Close(session) => vec![Act::Close(session)],
            Effect::Renew(sent) => self.ask(Request::Renew(sent)),
            Effect::Claim => {
                self.claim = now;
                Vec::new()
            }
            Effect::Drain(_, epoch) => {
                self.draining.push(epoch);
                self.drained(now)
            }
            Effect::Release(shard, epoch) => self.ask(Request::Release(shard, epoch)),
            Effect::Depart => self.ask(Request::Depart),
            Effect::Gone => vec![Act::Exit],
            Effect::Lost => {
                self.lost = true;
                self.mailboxes.clear();
                vec![Act::Restart]
            }
            Effect::Refused(..) => Vec::new(),
        }
    }

    /// The mail server answered a poll: so many mails have come to the mailbox so far.
    pub fn polled(&mut self, number: u64, mailbox: Mailbox, delivered: u64) -> Vec<Act> {
        let Some(held) = self.mailboxes.get_mut(&mailbox) else { return Vec::new() };
        if !matches!(held.work, Work::Polls { number: ours, .. } if ours == number) {
            return Vec::new();
        }
        self.turns_done += 1;
        if delivered == held.cursor {
            held.work = Work::Waits;
            return Vec::new();
        }
        let mails = held.cursor..delivered;
        held.work = Work::Commits;
        let fence = held.fence;
        self.ask(Request::Commit(fence, mails))
    }

    /// The store answered, or did not in time.
    pub fn answered(&mut self, number: u64, reply: Reply, now: BootTime) -> Vec<Act> {
        let Some(request) = self.calls.remove(&number) else { return Vec::new() };
        match (request, reply) {
            (Request::Renew(sent), Reply::Renewed(renewal)) => {
                let sent = if self.options.mutation == Some(Mutation::CountFromReply) { now } else { sent };
                self.step(Event::Renewed(sent, renewal), now)
            }
            (Request::Renew(sent), _) => self.step(Event::Renewed(sent, Renewal::Unknown), now),
            (Request::Depart, reply) => self.step(Event::Departed(matches!(reply, Reply::Done)), now),
            (Request::Release(_, epoch), reply) => {
                self.step(Event::Released(epoch, matches!(reply, Reply::Done)), now)
            }
            (Request::Claim(_), Reply::Claimed(claimed)) => {
                claimed.into_iter().for_each(|claimed| self.hold(claimed, now));
                Vec::new()
            }
            (Request::Standing, Reply::Standing(standing)) => self.compared(&standing),
            (Request::Commit(fence, mails), reply) => self.committed(fence, mails, &reply),
            (Request::Reload(fence), reply) => self.reloaded(fence, &reply, now),
            (Request::Claim(_) | Request::Standing, _) => Vec::new(),
        }
    }

    fn hold(&mut self, claimed: Claimed, now: BootTime) {
        let Claimed { fence, cursor, .. } = claimed;
        let due = next_phase(fence.mailbox, self.options.period, now);
        self.mailboxes.insert(fence.mailbox, Held { fence, cursor, due, work: Work::Waits });
    }

    /// What is claimed and not held is claimed again; what is held and claimed no more is let go.
    fn compared(&mut self, standing: &[(Mailbox, Nonce)]) -> Vec<Act> {
        let ours = |mailbox: &Mailbox, nonce: &Nonce| {
            self.mailboxes.get(mailbox).is_some_and(|held| held.fence.nonce == *nonce)
        };
        let missing: Vec<Mailbox> = standing
            .iter()
            .filter(|(mailbox, nonce)| !ours(mailbox, nonce))
            .map(|(mailbox, _)| *mailbox)
            .collect();
        if missing.is_empty() || self.asks(|request| matches!(request, Request::Claim(_))) {
            return Vec::new();
        }
        self.ask(Request::Claim(missing))
    }

    fn committed(&mut self, fence: Fence, mails: Range<u64>, reply: &Reply) -> Vec<Act> {
        let Some(held) = self.mailboxes.get_mut(&fence.mailbox) else { return Vec::new() };
        if held.fence != fence {
            return Vec::new();
        }
        match reply {
            Reply::Committed(Outcome::Done(version)) => {
                (held.fence.version, held.cursor, held.work) = (*version, mails.end, Work::Waits);
            }
            Reply::Committed(Outcome::Fenced) => {
                self.mailboxes.remove(&fence.mailbox);
            }
            _ => {
                held.work = Work::Reloads { mails, again: None };
                return self.ask(Request::Reload(fence));
            }
        }
        Vec::new()
    }

    fn reloaded(&mut self, fence: Fence, reply: &Reply, now: BootTime) -> Vec<Act> {
        let Some(held) = self.mailboxes.get_mut(&fence.mailbox) else { return Vec::new() };
        let Work::Reloads { mails, again } = &mut held.work else { return Vec::new() };
        if held.fence != fence {
            return Vec::new();
        }
        match reply {
            Reply::Reloaded(Outcome::Done((version, _))) if *version == fence.version => {
                // It did not land yet. If it still does, ours finds another version and reads again.
                let mails = mails.clone();
                held.work = Work::Commits;
                return self.ask(Request::Commit(fence, mails));
            }
            Reply::Reloaded(Outcome::Done((version, cursor))) => {
                (held.fence.version, held.cursor, held.work) = (*version, *cursor, Work::Waits);
            }
            Reply::Reloaded(Outcome::Fenced) => {
                self.mailboxes.remove(&fence.mailbox);
            }
            _ => *again = Some(now + AGAIN),
        }
        Vec::new()
    }
}

/// The next moment of a mailbox's phase.
fn next_phase(mailbox: Mailbox, period: Duration, now: BootTime) -> BootTime {
    let period = period.as_millis() as u64;
    let phase = mailyard_policy::id::hash(&mailbox.to_be_bytes()) % period;
    let now = now.as_millis();
    BootTime::from_millis(now + 1 + (phase + period - (now + 1) % period) % period)
}
