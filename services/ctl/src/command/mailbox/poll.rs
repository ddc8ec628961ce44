//! Polling now, and waiting until it is done.

use std::{collections::BTreeSet, time::Duration};

use mailyard_wire::admin::{self, MailboxState, PollMailboxesRequest};

use super::{get, list};
use crate::{
    ctl::Ctl, exit::Exit, failure::Failure, object::Object, selection::Selected, server::Server,
    values::mailboxes, wait,
};

/// So many mailboxes are asked for one by one; more are listed.
const FEW: usize = 20;
const PAUSE_OF_FEW: Duration = Duration::from_millis(200);
const PAUSE_OF_MANY: Duration = Duration::from_secs(1);

pub(super) async fn run(ctl: &mut Ctl, selected: &Selected, wait: bool) -> Result<Exit, Failure> {
    let selection = Some(selected.read(&mut ctl.screen)?);
    let server = ctl.server().await?;
    let request = PollMailboxesRequest { parent: server.parent.clone(), selection };
    let asked = server.call(server.mailboxes().poll_mailboxes(request)).await?.mailboxes;
    let (count, object) = (asked.len() as u64, Object::new().number("asked", asked.len() as u64));
    if !wait {
        let text = format!("asked for a poll of {}", mailboxes(count));
        ctl.done(&object, &text, Some(&format!("mailbox poll {} --wait", selected.arguments())))?;
        return Ok(Exit::Success);
    }
    ctl.screen.goes_on("the polls go on");
    let polled = until_done(ctl, server, asked).await?;
    ctl.screen.goes_on("");
    let failing = polled.into_iter().filter(|mailbox| mailbox.state() == MailboxState::Failing);
    let failing: Vec<String> = failing.map(|mailbox| mailbox.address).collect();
    let text = match failing.len() as u64 {
        0 => format!("polled {}", mailboxes(count)),
        some => format!("polled {}; failing: {}", mailboxes(count), mailboxes(some)),
    };
    let next = (!failing.is_empty()).then_some("mailbox list --filter 'state = failing'");
    ctl.done(&object.texts("failing", failing), &text, next)?;
    Ok(Exit::Success)
}

async fn until_done(
    ctl: &mut Ctl,
    server: Server,
    asked: Vec<String>,
) -> Result<Vec<admin::Mailbox>, Failure> {
    let pause = if asked.len() <= FEW { PAUSE_OF_FEW } else { PAUSE_OF_MANY };
    let total = asked.len() as u64;
    let mut left: BTreeSet<String> = asked.into_iter().collect();
    let mut done = Vec::new();
    let mut told = total;
    wait::until(ctl, server, pause, async |ctl, server| {
        for mailbox in look(server, &left).await? {
            if mailbox.polls_pending == 0 && left.remove(&mailbox.name) {
                done.push(mailbox);
            }
        }
        let waiting = left.len() as u64;
        if waiting * 10 / total.max(1) != told * 10 / total.max(1) {
            told = waiting;
            ctl.screen.progress(&format!("{} of {total} polled", total - waiting));
        }
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    Ok(done)
}

/// How those that are waited for fare.
async fn look(server: &Server, left: &BTreeSet<String>) -> Result<Vec<admin::Mailbox>, Failure> {
    if left.len() > FEW {
        // Not with the filter of the selection: who is polled may match it no longer.
        return list(server, "").await;
    }
    let mut found = Vec::new();
    for name in left {
        found.push(get(server, name.clone()).await?);
    }
    Ok(found)
}
