//! One look at everything that is told, and what of it a row misses.

use std::collections::{BTreeSet, HashMap};

use mailyard_policy::{Nature, Reason, reason::Scope};
use mailyard_tests::Outcome;
use mailyard_wire::{
    admin::{
        Alert, AlertScope, AlertState, ExplainMailboxRequest, ExplainMailboxResponse, ListAlertsRequest,
        ListProfilesRequest, MailboxOperation, MailboxState, OperationState, Profile,
    },
    name,
    records::{
        Direction, Email, EmailState, ListEmailsRequest, ListQuarantinedItemsRequest, QuarantinedItem,
    },
};
use serde_json::Value;

use crate::{
    rows::{On, Told},
    world::{Place, World},
};

/// Rows of a page.
const PAGE: i32 = 1000;

/// What is told at a moment.
pub struct Look {
    pub emails: Vec<Email>,
    profiles: HashMap<String, Profile>,
    alerts: Vec<Alert>,
    pub aside: Vec<QuarantinedItem>,
    metrics: String,
    log: Vec<Value>,
}

impl Look {
    pub async fn take(world: &World) -> Outcome<Self> {
        let (server, page_size) = (&world.server, PAGE);
        let parent = || server.parent.clone();
        let mut emails: Vec<Email> = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListEmailsRequest { parent: parent(), page_size, page_token, ..Default::default() };
            let answer = server.call(server.emails().list_emails(request)).await?;
            emails.extend(answer.emails);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let request = ListProfilesRequest { parent: parent(), page_size, ..Default::default() };
        let profiles = server.call(server.profiles().list_profiles(request)).await?.profiles;
        let request = ListAlertsRequest { parent: parent(), page_size, ..Default::default() };
        let alerts = server.call(server.alerts().list_alerts(request)).await?.alerts;
        let request = ListQuarantinedItemsRequest { parent: parent(), page_size, ..Default::default() };
        let aside = server.call(server.emails().list_quarantined_items(request)).await?.items;
        Ok(Self {
            emails,
            profiles: profiles.into_iter().map(|one| (one.display_name.clone(), one)).collect(),
            alerts,
            aside,
            metrics: world.metrics().await?,
            log: world.log()?,
        })
    }

    /// Messages that came to a mailbox.
    pub fn tracked(&self, place: &Place) -> u32 {
        let came = |email: &&Email| {
            email.direction() == Direction::Incoming && email.mailboxes.contains(&place.mailbox)
        };
        self.emails.iter().filter(came).count() as u32
    }

    fn sending(&self, place: &Place) -> Option<&Email> {
        let is_its =
            |email: &&Email| email.direction() == Direction::Outgoing && email.mailbox == place.mailbox;
        self.emails.iter().find(is_its)
    }

    fn alerts_of(&self, place: &Place) -> impl Iterator<Item = &Alert> {
        let of = self.alerts.iter().filter(|alert| alert.profile == place.profile);
        of.filter(|alert| alert.reason != Reason::MailboxConnected.code())
    }

    /// True if it was told that a test of the mailbox ended well.
    pub fn is_connected(&self, place: &Place) -> bool {
        let code = Reason::MailboxConnected.code();
        self.alerts.iter().any(|alert| alert.reason == code && alert.regarding == place.mailbox)
    }

    /// The reasons that figures of a profile name.
    fn counted(&self, figure: &str, place: &Place) -> BTreeSet<&str> {
        let begin = format!("{figure}_total{{profile=\"{}\",", place.profile);
        let lines = self.metrics.lines().filter(|line| line.starts_with(&begin));
        lines.filter_map(|line| line.split("reason=\"").nth(1)?.split('"').next()).collect()
    }

    /// Where the row's reason is missing, or something else stands; empty: everywhere is the same.
    pub fn misses(&self, place: &Place, explained: &ExplainMailboxResponse) -> Vec<String> {
        let mut misses = Vec::new();
        if !self.is_in_grpc(place, explained) {
            misses.push(format!("gRPC ({})", self.describe(place, explained)));
        }
        if !self.is_in_alerts(place) {
            let alerts: Vec<_> =
                self.alerts_of(place).map(|alert| (&alert.reason, &alert.regarding)).collect();
            misses.push(format!("alerts {alerts:?}"));
        }
        if !self.is_in_figures(place) {
            let figures = ["mailyard_failures", "mailyard_message_failures"];
            misses.push(format!("metrics {:?}", figures.map(|figure| self.counted(figure, place))));
        }
        if !self.is_in_log(place, explained) {
            misses.push("log".to_owned());
        }
        misses
    }

    fn is_in_grpc(&self, place: &Place, explained: &ExplainMailboxResponse) -> bool {
        let mailbox = explained.mailbox.clone().unwrap_or_default();
        let operations = operations(explained);
        let fails = mailbox.state() == MailboxState::Failing;
        let counts = operations.iter().any(|one| one.failures > 0 || one.state() == OperationState::Disabled);
        let in_cycle = |code: &str| explained.cycles.iter().any(|cycle| cycle.reason == code);
        let held_back =
            self.profiles.get(&place.profile).map(|one| one.held_back_reason.as_str()).unwrap_or_default();
        let sending = self.sending(place);
        let sends =
            |state, code: &str| sending.is_some_and(|email| email.state() == state && email.reason == code);
        let well = !fails && !counts && held_back.is_empty();
        match place.row.told {
            Told::Mailbox(code) => {
                fails && counts && held_back.is_empty() && operations.iter().any(|one| one.reason == code)
            }
            Told::Server(code) => held_back == code && in_cycle(code) && !counts,
            Told::Slowed(code) => in_cycle(code) && well,
            Told::Item(code) => {
                let is_it = |item: &QuarantinedItem| item.mailbox == place.mailbox && item.reason == code;
                well && self.aside.iter().filter(|item| is_it(item)).count() as u32 >= place.row.mails()
            }
            Told::Email(code) => sends(EmailState::Failed, code) && well,
            Told::Waits(code) => sends(EmailState::PendingSend, code) && well,
            Told::Warned(_) => self.tracked(place) == place.row.mails() && well,
            Told::Nothing if place.row.on == On::Sending => sends(EmailState::Sent, "") && well,
            Told::Nothing => {
                let silent = operations.iter().all(|one| one.reason.is_empty());
                self.tracked(place) == place.row.mails() && silent && well
            }
        }
    }

    fn is_in_alerts(&self, place: &Place) -> bool {
        let sending = self.sending(place).map(|email| email.uid.clone()).unwrap_or_default();
        let (regarding, scope) = match place.row.told {
            Told::Mailbox(_) => (place.mailbox.as_str(), AlertScope::Mailbox),
            Told::Server(_) => (place.profile.as_str(), AlertScope::Profile),
            Told::Item(_) => (place.mailbox.as_str(), AlertScope::Item),
            Told::Email(_) => (sending.as_str(), AlertScope::Item),
            Told::Slowed(_) | Told::Waits(_) | Told::Warned(_) | Told::Nothing => {
                return self.alerts_of(place).next().is_none();
            }
        };
        let mut alerts = self.alerts_of(place).peekable();
        alerts.peek().is_some()
            && alerts.all(|alert| {
                Some(alert.reason.as_str()) == place.row.told.code()
                    && alert.state() == AlertState::Open
                    && alert.regarding == regarding
                    && alert.scope() == scope
            })
    }

    fn is_in_figures(&self, place: &Place) -> bool {
        let turns = self.counted("mailyard_failures", place);
        let messages = self.counted("mailyard_message_failures", place);
        let only = |code: &str, of: &BTreeSet<&str>| of.len() == 1 && of.contains(code);
        match place.row.told {
            // Its connections were cut first, so that there is a handshake.
            Told::Server(code) if place.row.on == On::Ntlm => turns.contains(code),
            Told::Mailbox(code) | Told::Server(code) | Told::Slowed(code) => only(code, &turns),
            Told::Item(code) | Told::Email(code) | Told::Waits(code) => {
                turns.is_empty() && only(code, &messages)
            }
            Told::Warned(_) => turns.is_empty() && messages.is_empty(),
            // What is survived may have cost a turn.
            Told::Nothing => true,
        }
    }

    fn is_in_log(&self, place: &Place, explained: &ExplainMailboxResponse) -> bool {
        let mailbox = explained.mailbox.as_ref().map(|mailbox| mailbox.uid.as_str()).unwrap_or_default();
        let profile = self.profiles.get(&place.profile).map(|one| one.uid.as_str()).unwrap_or_default();
        let says = |message: &str, of: &str, code: &str| {
            self.log.iter().any(|line| {
                let of = if of == mailbox { line["mailbox"] == of } else { line["profile"] == of };
                of && line["message"] == message && line["reason"] == code
            })
        };
        match place.row.told {
            Told::Mailbox(code) | Told::Slowed(code) => says("a turn failed", mailbox, code),
            Told::Server(code) => {
                says("a turn failed", mailbox, code) && says("the server is left alone", profile, code)
            }
            Told::Item(code) | Told::Email(code) | Told::Waits(code) => {
                says("a message failed", mailbox, code)
            }
            Told::Warned(_) | Told::Nothing => true,
        }
    }

    /// How a mailbox stands, for people.
    pub fn describe(&self, place: &Place, explained: &ExplainMailboxResponse) -> String {
        let state = explained.mailbox.as_ref().map(|mailbox| mailbox.state().as_str_name());
        let operations = operations(explained);
        let operations: Vec<_> =
            operations.iter().map(|one| (one.state().as_str_name(), one.reason.as_str())).collect();
        let open = self.alerts_of(place).filter(|alert| alert.state() == AlertState::Open);
        let open: Vec<&str> = open.map(|alert| alert.reason.as_str()).collect();
        let tracked = self.tracked(place);
        format!("{} {operations:?}, {tracked} tracked, alerts {open:?}", state.unwrap_or_default())
    }

    /// True if nothing is wrong with the mailbox any more, and no alert of its turns is open.
    pub fn is_well(&self, place: &Place, explained: &ExplainMailboxResponse) -> bool {
        let held_back = self.profiles.get(&place.profile).is_some_and(|one| !one.held_back_reason.is_empty());
        let open = self
            .alerts_of(place)
            .any(|alert| alert.state() == AlertState::Open && alert.scope() != AlertScope::Item);
        let mailbox = explained.mailbox.clone().unwrap_or_default();
        let enabled = |one: &MailboxOperation| one.enabled && one.reason.is_empty();
        let works = mailbox.state() == MailboxState::Ok && operations(explained).iter().all(enabled);
        works && !held_back && !open
    }
}

/// The two operations that are synchronized.
fn operations(explained: &ExplainMailboxResponse) -> Vec<MailboxOperation> {
    let of = explained.mailbox.clone().unwrap_or_default().operations.unwrap_or_default();
    of.incoming.into_iter().chain(of.outgoing).collect()
}

/// What the mailbox's holder tells.
pub async fn explain(world: &World, place: &Place) -> Outcome<ExplainMailboxResponse> {
    let name = world.server.name(name::MAILBOXES, &place.mailbox);
    let request = ExplainMailboxRequest { name };
    Ok(world.server.call(world.server.mailboxes().explain_mailbox(request)).await?)
}

/// True if the catalogue says of the reason what the row says of its effect.
pub fn agrees(told: Told) -> bool {
    let Some(code) = told.code() else { return true };
    let Ok(reason) = code.parse::<Reason>() else { return false };
    let (scope, throttled) = (reason.scope(), reason.nature() == Nature::Throttled);
    match told {
        Told::Mailbox(_) => scope == Scope::Mailbox && !throttled,
        Told::Server(_) => scope == Scope::Profile && reason.is_server_fault(),
        Told::Slowed(_) => scope == Scope::Profile && throttled,
        Told::Item(_) | Told::Email(_) => scope == Scope::Item && !throttled,
        Told::Waits(_) => scope == Scope::Item && throttled,
        Told::Warned(_) => scope == Scope::Profile,
        Told::Nothing => true,
    }
}
