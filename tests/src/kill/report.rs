//! What is true after the last kill, as x of y.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use mailyard::control::Control;
use mailyard_ctl::server::Server;
use mailyard_wire::records::{Direction, Email, EmailState, ListEmailsRequest};

use super::{
    traffic::Traffic,
    window::{Hits, Window, is_traffic},
};
use crate::Outcome;

/// What is true after the last kill.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills at random moments,
    pub random_kills: usize,
    /// and the windows that they hit.
    pub random: Hits,
    /// Kills that were aimed,
    pub aimed_kills: usize,
    /// and the windows that they hit.
    pub aimed: Hits,
    /// How long mail flowed.
    pub flowed: Duration,
    /// Mails that were delivered to the Inboxes from outside.
    pub delivered: u64,
    /// Items that lie in the Inboxes, with the copies of what was sent.
    pub arrived: usize,
    /// Of those: tracked.
    pub tracked: usize,
    /// Records beyond the first of the same message.
    pub tracked_twice: usize,
    /// Emails that were enqueued.
    pub enqueued: usize,
    /// Of those: accepted by the simulator once.
    pub accepted_once: usize,
    /// Accepted more than once.
    pub accepted_twice: usize,
    /// Not accepted, and shown to a person.
    pub needs_person: usize,
    /// Neither accepted nor shown to a person.
    pub lost: usize,
    /// Sent by our word, and never accepted.
    pub claimed_sent: usize,
    /// How long everything took to come to rest after the last kill.
    pub rested: Duration,
    /// The exit code of the server that was stopped at last.
    pub exit_code: Option<i32>,
}

impl Report {
    pub(super) fn traffic(&mut self, traffic: &Traffic, flowed: Duration) {
        self.flowed = flowed;
        self.delivered = traffic.delivered();
        self.enqueued = traffic.enqueued().len();
    }

    /// Waits until nothing stands in sending and every arrived mail is tracked, and counts.
    pub(super) async fn rest(
        &mut self,
        server: &Server,
        control: &Control,
        traffic: &Traffic,
        at_most: Duration,
    ) -> Outcome {
        let begun = tokio::time::Instant::now();
        loop {
            let emails = emails(server).await?;
            let arrived = arrived(control, traffic.addresses()).await?;
            self.count(&emails, &arrived);
            let unsettled = emails.iter().any(|email| {
                matches!(email.state(), EmailState::Draft | EmailState::PendingSend | EmailState::Sending)
            });
            let rests = !unsettled && self.tracked == self.arrived;
            if rests || begun.elapsed() > at_most {
                self.rested = begun.elapsed();
                self.settle(&emails, control, traffic).await?;
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn count(&mut self, emails: &[Email], arrived: &[(String, String)]) {
        let mut records: HashMap<&str, usize> = HashMap::new();
        let mut sighted: HashSet<(&str, &str)> = HashSet::new();
        for email in emails.iter().filter(|email| email.direction() == Direction::Incoming) {
            *records.entry(&email.internet_message_id).or_default() += 1;
            sighted
                .extend(email.mailboxes.iter().map(|at| (at.as_str(), email.internet_message_id.as_str())));
        }
        self.arrived = arrived.len();
        self.tracked =
            arrived.iter().filter(|(at, id)| sighted.contains(&(at.as_str(), id.as_str()))).count();
        self.tracked_twice = records.values().map(|count| count - 1).sum();
    }

    async fn settle(&mut self, emails: &[Email], control: &Control, traffic: &Traffic) -> Outcome {
        let mut submitted: HashMap<String, usize> = HashMap::new();
        for submission in control.get("/submissions").await?.as_array().into_iter().flatten() {
            let key = submission["send_key"].as_str().unwrap_or_default();
            *submitted.entry(key.to_owned()).or_default() += 1;
        }
        let states: HashMap<&str, EmailState> =
            emails.iter().map(|email| (email.uid.as_str(), email.state())).collect();
        for id in traffic.enqueued() {
            let state = states.get(id.as_str()).copied();
            match (submitted.get(&id).copied().unwrap_or_default(), state) {
                (1, _) => self.accepted_once += 1,
                (0, Some(EmailState::NeedsPerson)) => self.needs_person += 1,
                (0, state) => {
                    self.lost += 1;
                    self.claimed_sent += usize::from(state == Some(EmailState::Sent));
                }
                (_, _) => self.accepted_twice += 1,
            }
        }
        Ok(())
    }

    /// Nothing was lost, nothing was done twice, and each window was hit by a kill that was aimed at it.
    ///
    /// # Errors
    /// What is not so.
    pub fn verdict(&self) -> Result<(), String> {
        let checks = [
            (self.arrived > 0 && self.tracked == self.arrived, "every mail is tracked"),
            (self.tracked_twice == 0, "no mail is tracked twice"),
            (self.enqueued > 0 && self.lost == 0, "no enqueued mail is lost"),
            (self.accepted_twice == 0, "no mail is sent twice"),
            (self.claimed_sent == 0, "nothing is called sent that was not"),
            (self.exit_code == Some(0), "the server ends well when it is asked to"),
            (
                self.aimed_kills == 0 || Window::ALL.iter().all(|window| self.aimed.of(*window) > 0),
                "every window is hit",
            ),
        ];
        let wrong: Vec<&str> = checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("not so: {}\n{self}", wrong.join("; "))) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.flowed.as_secs_f64() / 60.0;
        writeln!(out, "kills: {} at random moments, {} aimed", self.random_kills, self.aimed_kills)?;
        for window in Window::ALL {
            let (random, aimed) = (self.random.of(window), self.aimed.of(window));
            writeln!(
                out,
                "  {window}: hit by {random} of {} random kills, {aimed} of {} aimed ones",
                self.random_kills,
                self.aimed.kills(window)
            )?;
        }
        writeln!(
            out,
            "mail flowed for {minutes:.1} min: {} delivered ({:.0}/min), {} enqueued ({:.0}/min)",
            self.delivered,
            self.delivered as f64 / minutes,
            self.enqueued,
            self.enqueued as f64 / minutes
        )?;
        writeln!(
            out,
            "tracked: {} of {} that arrived; twice: {}",
            self.tracked, self.arrived, self.tracked_twice
        )?;
        writeln!(
            out,
            "enqueued: {} of {} accepted once; needs a person: {}; twice: {}; lost: {}",
            self.accepted_once, self.enqueued, self.needs_person, self.accepted_twice, self.lost
        )?;
        write!(out, "at rest {:.1} s after the last kill", self.rested.as_secs_f64())
    }
}

/// Items in the Inboxes that are not the server's own tests: whose, and their Message-ID.
async fn arrived(control: &Control, addresses: &[String]) -> Outcome<Vec<(String, String)>> {
    let mut arrived = Vec::new();
    for address in addresses {
        let inbox = control.get(&format!("/mailbox/{address}/inbox")).await?;
        for item in inbox.as_array().into_iter().flatten().filter(|item| is_traffic(item)) {
            let id = item["internet_message_id"].as_str().unwrap_or_default();
            arrived.push((address.clone(), id.to_owned()));
        }
    }
    Ok(arrived)
}

async fn emails(server: &Server) -> Outcome<Vec<Email>> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListEmailsRequest {
            parent: server.parent.clone(),
            page_size: 1000,
            page_token,
            filter: String::new(),
        };
        let page = server.call(server.emails().list_emails(request)).await?;
        all.extend(page.emails);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}
