//! The open alerts and the ratio machines of one leadership, and one look at what happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mailyard_policy::{
    Reason, Timestamp,
    alert::{
        Alert as BookAlert, Book, Key, Level, Regarding,
        ratio::{self, Counts},
    },
    id::{AlertId, Org, ProfileId},
    operation::Health,
};
use mailyard_store::{
    Result,
    fleet::Leadership,
    notices::{Alert, Booking, Notice, RatioState},
    people::{HealthCount, Profile},
};

use super::Arguments;
use crate::{lanes::lanes, mail::RatioNotice};

/// Facts of one booking.
const FACTS: u32 = 500;

/// What is known under one leadership.
pub struct Desk {
    lead: Leadership,
    book: Book,
    /// What the book does not know of an alert: where it belongs.
    places: HashMap<AlertId, Place>,
    ratios: BTreeMap<ProfileId, ratio::State>,
    /// Lanes that could not be read when they were looked at last.
    unreadable: BTreeSet<(ProfileId, u16)>,
}

#[derive(Clone)]
struct Place {
    org: Org,
    profile: Option<ProfileId>,
}

/// A profile whose share is to be told.
struct Told<'a> {
    profile: &'a Profile,
    counts: Counts,
    effects: ratio::Effects,
}

impl Desk {
    pub(super) fn lead(&self) -> Leadership {
        self.lead
    }

    /// Books what happened since the last look. On an error everything is to be read anew.
    pub(super) async fn look(
        arguments: &Arguments,
        lead: Leadership,
        desk: Option<Box<Self>>,
    ) -> Result<Box<Self>> {
        let mut desk = match desk {
            Some(desk) => desk,
            None => Box::new(Self::read(arguments, lead).await?),
        };
        while desk.book_facts(arguments).await? {}
        desk.book_ratios(arguments).await?;
        desk.tell_figures(arguments);
        Ok(desk)
    }

    async fn read(arguments: &Arguments, lead: Leadership) -> Result<Self> {
        let open = arguments.store.open_alerts().await?;
        let places = open
            .iter()
            .map(|alert| (alert.id, Place { org: alert.org.clone(), profile: alert.profile }))
            .collect();
        let book = Book::new(open.iter().map(|alert| BookAlert {
            id: alert.id,
            key: Key { regarding: alert.regarding, reason: alert.reason },
            level: alert.level,
            count: alert.count,
            operations: alert.operations,
            first: alert.first_time,
            last: alert.last_time,
            resolved: None,
        }));
        let ratios = arguments.store.ratio_states().await?;
        // A state that cannot be read begins anew: its alert stands in the book.
        let ratios =
            ratios.into_iter().map(|kept| (kept.profile, kept.state.parse().unwrap_or_default())).collect();
        Ok(Self { lead, book, places, ratios, unreadable: BTreeSet::new() })
    }

    /// True if there may be more.
    async fn book_facts(&mut self, arguments: &Arguments) -> Result<bool> {
        let unbooked = arguments.store.unbooked(FACTS).await?;
        if unbooked.is_empty() {
            return Ok(false);
        }
        let full = unbooked.len() == FACTS as usize;
        let mut changed: BTreeMap<AlertId, BookAlert> = BTreeMap::new();
        let mut facts = Vec::with_capacity(unbooked.len());
        for fact in unbooked {
            facts.push(fact.number);
            let happened = match fact.fact {
                Ok(happened) => happened,
                Err(detail) => {
                    tracing::error!(
                        fact = fact.number,
                        detail,
                        "a fact cannot be understood: it is passed over"
                    );
                    arguments.metrics.unreadable_row("fact");
                    continue;
                }
            };
            for alert in self.book.step(happened, new_alert_id()) {
                self.place(arguments, &alert, &fact.org).await?;
                changed.insert(alert.id, alert);
            }
        }
        let alerts = changed.values().map(|alert| self.written(alert, String::new(), None)).collect();
        let booking = Booking { facts, alerts, ..Booking::default() };
        arguments.store.book(&self.lead, &booking).await?;
        self.forget_resolved(changed.values());
        Ok(full)
    }

    async fn place(&mut self, arguments: &Arguments, alert: &BookAlert, org: &Org) -> Result<()> {
        if self.places.contains_key(&alert.id) {
            return Ok(());
        }
        let profile = match alert.key.regarding {
            Regarding::Profile(id) => Some(id),
            Regarding::Mailbox(id) => {
                arguments.store.mailbox(id).await?.and_then(|mailbox| mailbox.set.profile)
            }
            Regarding::Email(id) => match arguments.store.email(id).await? {
                Some(email) => {
                    let sender = arguments.store.mailbox_at(&email.org, &email.mailbox).await?;
                    sender.and_then(|mailbox| mailbox.set.profile)
                }
                None => None,
            },
        };
        self.places.insert(alert.id, Place { org: org.clone(), profile });
        Ok(())
    }

    fn forget_resolved<'a>(&mut self, alerts: impl Iterator<Item = &'a BookAlert>) {
        for alert in alerts.filter(|alert| alert.resolved.is_some()) {
            self.places.remove(&alert.id);
        }
    }

    /// An alert as it is stored; an empty summary is filled in.
    fn written(&self, alert: &BookAlert, summary: String, notice: Option<String>) -> Alert {
        let place = self.places.get(&alert.id).cloned();
        let place = place.unwrap_or(Place { org: Org::default(), profile: None });
        Alert {
            id: alert.id,
            org: place.org,
            reason: alert.key.reason,
            level: alert.level,
            scope: alert.scope(),
            regarding: alert.key.regarding,
            regarding_name: String::new(),
            profile: place.profile,
            count: alert.count,
            operations: alert.operations,
            summary: if summary.is_empty() { summary_of(alert) } else { summary },
            first_time: alert.first,
            last_time: alert.last,
            resolved_time: alert.resolved,
            notice,
        }
    }

    async fn book_ratios(&mut self, arguments: &Arguments) -> Result<()> {
        let now = (arguments.now)();
        let counts = arguments.store.health_counts().await?;
        let profiles: HashMap<ProfileId, Profile> =
            arguments.store.profiles(None).await?.into_iter().map(|profile| (profile.id, profile)).collect();
        let mut booking = Booking::default();
        for health in counts {
            let Some(profile) = profiles.get(&health.profile) else { continue };
            let label = arguments.metrics.profile(&profile.display_name);
            for (state, count) in [
                (Health::NotEligible, health.not_eligible),
                (Health::Ok, health.ok),
                (Health::Failing, health.failing),
            ] {
                arguments.metrics.mailboxes(&label, state, count as usize);
            }
            let counts = self.counted(arguments, profile, &health).await?;
            let before = self.ratios.get(&profile.id).copied().unwrap_or_default();
            let (after, effects) = before.step(&arguments.rules, counts, now);
            if after != before {
                self.ratios.insert(profile.id, after);
                booking.ratios.push(RatioState { profile: profile.id, state: after.to_string() });
            }
            self.tell(arguments, &Told { profile, counts, effects }, now, &mut booking).await?;
        }
        if booking.ratios.is_empty() && booking.alerts.is_empty() {
            return Ok(());
        }
        arguments.store.book(&self.lead, &booking).await
    }

    /// The breaker of any lane holds the mailboxes of the whole profile back.
    async fn counted(
        &mut self,
        arguments: &Arguments,
        profile: &Profile,
        health: &HealthCount,
    ) -> Result<Counts> {
        let mut held_back = false;
        for (number, lane) in lanes(&*arguments.store, profile).await? {
            let key = (profile.id, number);
            match lane {
                Ok(lane) => {
                    held_back |= lane.is_some_and(|lane| lane.open.is_some());
                    self.unreadable.remove(&key);
                }
                Err(detail) if self.unreadable.insert(key) => {
                    tracing::error!(profile = %profile.id, lane = number, detail, "a lane cannot be understood");
                    arguments.metrics.unreadable_row("lane");
                }
                Err(_) => {}
            }
        }
        Ok(Counts { eligible: health.ok + health.failing, failing: health.failing, held_back })
    }

    async fn tell(
        &mut self,
        arguments: &Arguments,
        told: &Told<'_>,
        now: Timestamp,
        booking: &mut Booking,
    ) -> Result<()> {
        let Told { profile, counts, effects } = told;
        if effects.resolve
            && let Some(alert) = self.book.ratio_normal(profile.id, now)
        {
            booking.alerts.push(self.written(&alert, ratio_summary(*counts), None));
            self.places.remove(&alert.id);
        }
        if !effects.open && !effects.notify {
            return Ok(());
        }
        let alert = self.book.ratio_high(profile.id, now, new_alert_id());
        self.places.insert(alert.id, Place { org: profile.org.clone(), profile: Some(profile.id) });
        let owner = profile.owner_email.as_ref().filter(|_| effects.notify && profile.alert_owner);
        let notice = match owner {
            Some(owner) if arguments.mails => {
                let reasons = arguments.store.failing_reasons(profile.id).await?;
                let (subject, text) = RatioNotice {
                    profile: &profile.display_name,
                    counts: *counts,
                    threshold_percent: arguments.rules.threshold_percent,
                    opened: alert.first,
                    counted: now,
                    reminder: !effects.open,
                    reasons: &reasons,
                }
                .write();
                let (to, number) = (owner.clone(), 0);
                booking.notices.push(Notice { number, alert: alert.id, to, subject, text, attempts: 0 });
                None
            }
            Some(_) => Some(Reason::SmtpNotConfigured.code().to_owned()),
            None => None,
        };
        booking.alerts.push(self.written(&alert, ratio_summary(*counts), notice));
        Ok(())
    }

    fn tell_figures(&self, arguments: &Arguments) {
        for level in [Level::Information, Level::Warning, Level::Error] {
            let open = self.book.open().filter(|alert| alert.level == level).count();
            arguments.metrics.open_alerts(level, open);
        }
    }
}

fn new_alert_id() -> AlertId {
    AlertId::new(mailyard_host::clock::id())
}

fn ratio_summary(counts: Counts) -> String {
    let (failing, eligible) = (counts.failing(), counts.eligible);
    let percent = u128::from(failing) * 100 / u128::from(eligible.max(1));
    let held = if counts.held_back { "; the server is left alone" } else { "" };
    format!("{percent} % of {eligible} mailboxes are failing ({failing} of {eligible}){held}")
}

fn summary_of(alert: &BookAlert) -> String {
    let mut title = alert.key.reason.entry().title.to_owned();
    // A profile whose mail is sent apart may have trouble in one direction only.
    match (alert.key.regarding, alert.operations) {
        (Regarding::Profile(_), [true, false, _]) => title.push_str(", for incoming mail only"),
        (Regarding::Profile(_), [false, true, _]) => title.push_str(", for outgoing mail only"),
        _ => {}
    }
    if alert.count > 1 { format!("{title} ({} times)", alert.count) } else { title }
}
