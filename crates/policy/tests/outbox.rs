//! A sending against the world: servers that consume drafts or do not, answers that never come, holders that die
//! between any two steps. Nothing is sent twice, and what is said to be sent was sent.

use std::time::Duration;

use mailyard_policy::{
    id::Attempt,
    outbox::{Act, Capabilities, Delivery, Draft, Event, Execution, Finding, Fresh, Rules, State, Step},
    reason::Reason,
    time::Timestamp,
};
use proptest::prelude::*;

/// What a server does when its draft is submitted, moved, submitted again.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
#[derive(Clone, Copy, Debug)]
struct Server {
    consumes_draft: bool,
    moved_id_dies: bool,
    /// Probed and known to the holder.
    known: bool,
    /// Sent copies are kept in Sent Items.
    keeps_copy: bool,
}

/// How one request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Executed, and answered.
    Answered,
    /// Executed; the answer never comes.
    AnswerLost,
    /// Executed after a while, which may be after its holder is dead, yet not after its deadline and D; no answer.
    Late,
    /// Not executed, and the client knows.
    Refused(Reason),
    /// Not executed, and the client does not know.
    Lost,
    /// Its holder dies before the request is made.
    HolderDies,
    /// Its holder dies once it was executed.
    HolderDiesAfter,
}

/// Exchange, seen from outside: one mailbox's drafts by id, what was sent, what will be executed late.
#[derive(Debug)]
struct World {
    server: Server,
    drafts: Vec<(String, Place)>,
    sent: u32,
    late: Vec<(Timestamp, String)>,
    ids: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Drafts,
    Private,
}

impl World {
    fn make_draft(&mut self) -> Draft {
        self.ids += 1;
        let item_id = format!("item:{} %", self.ids);
        self.drafts.push((item_id.clone(), Place::Drafts));
        Draft { item_id, change_key: "CQ==".to_owned() }
    }

    fn submit(&mut self, id: &str) -> bool {
        let Some(at) = self.drafts.iter().position(|(known, _)| known == id) else { return false };
        self.sent += 1;
        if self.server.consumes_draft {
            self.drafts.remove(at);
        }
        true
    }

    fn take(&mut self, id: &str) -> Finding {
        if let Some(at) = self.drafts.iter().position(|(known, _)| known == id) {
            self.ids += 1;
            let moved = format!("item:{} %", self.ids);
            self.drafts[at].1 = Place::Private;
            if self.server.moved_id_dies {
                self.drafts[at].0.clone_from(&moved);
                return Finding::Taken(Draft { item_id: moved, change_key: "CR==".to_owned() });
            }
            return Finding::Taken(Draft { item_id: id.to_owned(), change_key: "CR==".to_owned() });
        }
        if let Some((private, _)) = self.drafts.iter().find(|(_, place)| *place == Place::Private) {
            return Finding::Taken(Draft { item_id: private.clone(), change_key: "CR==".to_owned() });
        }
        if self.sent > 0 && self.server.keeps_copy { Finding::Sent } else { Finding::Nowhere }
    }

    fn pass(&mut self, now: Timestamp) {
        let due: Vec<_> = self.late.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, id) in due {
            // The server took the draft up when the request came: taking it away meanwhile stops nothing.
            if !self.submit(&id) {
                self.sent += 1;
            }
        }
    }
}

struct Play {
    world: World,
    stored: Delivery,
    rules: Rules,
    now: Timestamp,
    past: Vec<Event>,
    kinds: Vec<&'static str>,
}

impl Play {
    fn new(server: Server) -> Self {
        Self {
            world: World { server, drafts: vec![], sent: 0, late: vec![], ids: 0 },
            stored: Delivery::pending(None),
            rules: Rules { attempts: 3, ..Rules::default() },
            now: Timestamp::from_millis(1_772_366_400_000),
            past: Vec::new(),
            kinds: Vec::new(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        let Server { consumes_draft, moved_id_dies, known, .. } = self.world.server;
        Capabilities {
            consumes_draft: known.then_some(consumes_draft),
            checks_change_key: None,
            moved_id_dies: known.then_some(moved_id_dies),
        }
    }

    /// Every result also comes again later, and changes nothing that it does not belong to.
    fn event(&mut self, event: Event) {
        let next = self.stored.step(&self.rules, self.capabilities(), &event, self.now);
        if event != Event::Begin {
            let again = next.step(&self.rules, self.capabilities(), &event, self.now);
            assert_eq!(again, next, "{event:?} twice is {event:?} once");
            self.past.push(event);
        }
        let text = next.to_string();
        assert_eq!(text.parse::<Delivery>().as_ref(), Ok(&next), "{text} reads back");
        self.stored = next;
    }

    fn stray(&mut self, ago: usize) {
        let Some(event) = self.past.len().checked_sub(1 + ago).map(|at| self.past[at].clone()) else {
            return;
        };
        let next = self.stored.step(&self.rules, self.capabilities(), &event, self.now);
        assert_eq!(next, self.stored, "{event:?} came late and changes nothing");
    }

    /// One round of one holder: it finds what is stored and does what the machine says until it waits or dies.
    fn round(&mut self, fates: &mut impl Iterator<Item = Fate>) {
        let mut fresh = Fresh::No;
        for _ in 0..12 {
            self.world.pass(self.now);
            match self.stored.act(&self.rules, fresh, self.now) {
                Act::Nothing => return,
                Act::Wait(until) => {
                    assert!(until.since(self.now) <= Duration::from_mins(15), "waits {until}");
                    return;
                }
                Act::Begin => {
                    self.event(Event::Begin);
                    fresh = Fresh::Yes;
                    continue;
                }
                act => {
                    let fate = fates.next().unwrap_or(Fate::Answered);
                    if !self.perform(&act, fate) {
                        self.kinds.push("died");
                        return;
                    }
                }
            }
            fresh = Fresh::Yes;
        }
    }

    /// False: the holder is dead.
    fn perform(&mut self, act: &Act, fate: Fate) -> bool {
        if fate == Fate::HolderDies {
            return false;
        }
        match act {
            Act::MakeDraft { attempt, look_first } => {
                let found = self
                    .world
                    .drafts
                    .iter()
                    .find(|(_, place)| *place == Place::Drafts)
                    .filter(|_| *look_first);
                let event = match (fate, found.cloned()) {
                    (Fate::Refused(reason), _) => Event::DraftFailed(*attempt, reason, None),
                    (Fate::Lost, _) => Event::DraftFailed(*attempt, Reason::ProfileConnectionLost, None),
                    (Fate::AnswerLost | Fate::Late, _) => {
                        self.world.make_draft();
                        Event::DraftFailed(*attempt, Reason::ProfileDeadlineExceeded, None)
                    }
                    (_, Some((item_id, _))) => {
                        Event::DraftMade(*attempt, Draft { item_id, change_key: "CQ==".to_owned() })
                    }
                    (_, None) => Event::DraftMade(*attempt, self.world.make_draft()),
                };
                if fate == Fate::HolderDiesAfter {
                    return false;
                }
                self.event(event);
            }
            Act::Submit { attempt, draft, deadline } => return self.submit(*attempt, draft, *deadline, fate),
            Act::TakeOrFind { attempt, draft } => {
                self.kinds.push("looked");
                let event = match fate {
                    Fate::Refused(reason) => {
                        Event::LookFailed(*attempt, reason, Some(Duration::from_hours(30)))
                    }
                    Fate::Lost => Event::LookFailed(*attempt, Reason::ProfileConnectionLost, None),
                    _ => Event::Found(*attempt, self.world.take(&draft.item_id)),
                };
                if matches!(fate, Fate::AnswerLost | Fate::Late) {
                    self.event(Event::LookFailed(*attempt, Reason::ProfileDeadlineExceeded, None));
                } else if fate == Fate::HolderDiesAfter {
                    return false;
                } else {
                    self.event(event);
                }
            }
            Act::Nothing | Act::Wait(_) | Act::Begin => {}
        }
        true
    }

    fn submit(&mut self, attempt: Attempt, draft: &Draft, deadline: Timestamp, fate: Fate) -> bool {
        let maybe = Event::SubmitFailed(attempt, Execution::Maybe, Reason::ProfileDeadlineExceeded, None);
        match fate {
            Fate::Refused(reason) => self.event(Event::SubmitFailed(attempt, Execution::Not, reason, None)),
            Fate::Lost => self.event(maybe),
            Fate::Late => {
                let latest = deadline + self.rules.request_deadline;
                self.world.late.push((latest - Duration::from_millis(1), draft.item_id.clone()));
                self.event(maybe);
            }
            Fate::Answered | Fate::AnswerLost | Fate::HolderDiesAfter | Fate::HolderDies => {
                let accepted = self.world.submit(&draft.item_id);
                match fate {
                    Fate::HolderDiesAfter => return false,
                    Fate::AnswerLost => self.event(maybe),
                    _ if accepted => self.event(Event::Submitted(attempt)),
                    _ => {
                        self.event(Event::SubmitFailed(attempt, Execution::Not, Reason::ItemNotFound, None));
                    }
                }
            }
        }
        true
    }

    fn check(&self) {
        assert!(self.world.sent <= 1, "sent {} times: {}", self.world.sent, self.stored);
        match self.stored.state {
            State::Sent => assert_eq!(self.world.sent, 1, "said to be sent and was not: {}", self.stored),
            State::Failed | State::Canceled | State::Expired => {
                assert_eq!(self.world.sent, 0, "given up and yet sent: {}", self.stored);
            }
            State::Draft | State::PendingSend | State::Sending | State::NeedsPerson => {}
        }
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Answered),
        2 => Just(Fate::AnswerLost),
        1 => Just(Fate::Late),
        1 => Just(Fate::Refused(Reason::ExchangeServerBusy)),
        1 => Just(Fate::Refused(Reason::ItemTransientError)),
        1 => Just(Fate::Refused(Reason::ProfileConnectFailed)),
        1 => Just(Fate::Lost),
        2 => Just(Fate::HolderDies),
        2 => Just(Fate::HolderDiesAfter),
    ]
}

fn servers() -> impl Strategy<Value = Server> {
    any::<[bool; 4]>().prop_map(|[consumes_draft, moved_id_dies, known, keeps_copy]| Server {
        consumes_draft,
        moved_id_dies,
        known,
        keeps_copy,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_sent_twice_and_everything_ends(
        server in servers(),
        fates in prop::collection::vec(fates(), 0..14),
        waits in prop::collection::vec(1u64..400, 60),
        strays in prop::collection::vec(0usize..4, 60),
    ) {
        let mut play = Play::new(server);
        let mut fates = fates.into_iter();
        for (wait, stray) in waits.into_iter().zip(strays) {
            play.round(&mut fates);
            play.check();
            play.now = play.now + Duration::from_secs(wait);
            play.world.pass(play.now);
            play.stray(stray + 1);
        }
        play.now = play.now + Duration::from_hours(2);
        for _ in 0..20 {
            play.round(&mut fates);
            play.check();
            play.now = play.now + Duration::from_mins(15);
        }
        prop_assert!(play.stored.state.is_final(), "it never ends: {}", play.stored);
    }
}

#[test]
fn on_exchange_as_probed_only_a_lost_copy_needs_a_person() {
    let exchange = Server { consumes_draft: true, moved_id_dies: true, known: true, keeps_copy: true };
    for fate in [Fate::AnswerLost, Fate::Late, Fate::Lost, Fate::HolderDies, Fate::HolderDiesAfter] {
        let mut play = Play::new(exchange);
        let mut fates = [Fate::Answered, fate].into_iter();
        for _ in 0..30 {
            play.round(&mut fates);
            play.now = play.now + Duration::from_secs(30);
        }
        play.check();
        assert_eq!((play.stored.state, play.world.sent), (State::Sent, 1), "{fate:?}: {}", play.stored);
    }
}

#[test]
fn a_server_of_which_nothing_is_known_gets_no_second_submission() {
    for known in [false, true] {
        let lax = Server { consumes_draft: false, moved_id_dies: false, known, keeps_copy: false };
        let mut play = Play::new(lax);
        let mut fates = [Fate::Answered, Fate::AnswerLost].into_iter();
        for _ in 0..40 {
            play.round(&mut fates);
            play.now = play.now + Duration::from_mins(1);
        }
        assert_eq!((play.stored.state, play.world.sent), (State::NeedsPerson, 1), "{}", play.stored);
        assert_eq!(play.stored.reason, Some(Reason::EmailOutcomeUnknown));
    }
}

#[test]
fn a_cancel_can_win_whenever_it_waits_to_be_sent() {
    let mut play =
        Play::new(Server { consumes_draft: true, moved_id_dies: true, known: true, keeps_copy: true });
    let refused = [Fate::Answered, Fate::Refused(Reason::ExchangeServerBusy)];
    play.round(&mut refused.into_iter());
    assert_eq!(play.stored.state, State::PendingSend, "{}", play.stored);
    assert!(matches!(play.stored.step, Step::Drafted(_)), "{}", play.stored);
}

#[test]
fn what_is_wrong_with_the_email_fails_it_and_what_is_wrong_with_the_server_does_not() {
    let exchange = Server { consumes_draft: true, moved_id_dies: true, known: true, keeps_copy: true };
    let cases = [
        (Reason::EmailRecipientInvalid, 1, State::Failed),
        (Reason::ItemTransientError, 2, State::PendingSend),
        (Reason::ItemTransientError, 3, State::Failed),
        (Reason::ProfileConnectFailed, 9, State::PendingSend),
        (Reason::ExchangeServerBusy, 9, State::PendingSend),
        (Reason::MailboxUnavailable, 9, State::PendingSend),
    ];
    for (reason, times, state) in cases {
        let mut play = Play::new(exchange);
        for _ in 0..times {
            play.round(
                &mut [Fate::Refused(reason)].into_iter().chain(std::iter::repeat(Fate::Refused(reason))),
            );
            play.now = play.now + Duration::from_mins(10);
        }
        assert_eq!(play.stored.state, state, "{reason} × {times}: {}", play.stored);
    }
}

#[test]
fn what_is_too_late_is_not_sent() {
    let mut play =
        Play::new(Server { consumes_draft: true, moved_id_dies: true, known: true, keeps_copy: true });
    play.stored = Delivery::pending(Some(play.now + Duration::from_mins(1)));
    play.round(&mut std::iter::repeat(Fate::Refused(Reason::ExchangeServerBusy)));
    play.now = play.now + Duration::from_hours(1);
    play.round(&mut std::iter::empty());
    assert_eq!((play.stored.state, play.stored.reason), (State::Expired, Some(Reason::EmailExpired)));
    play.check();
}
