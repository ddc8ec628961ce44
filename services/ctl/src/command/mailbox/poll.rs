//! Polling now, and waiting until it is done.

use std::{collections::BTreeSet, time::Duration};

use mailyard_wire::admin::{self, MailboxState, PollMailboxesRequest, PollMailboxesResponse, RefusedMailbox};

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
    let PollMailboxesResponse { mailboxes: asked, refused } =
        server.call(server.mailboxes().poll_mailboxes(request)).await?;
    let count = asked.len() as u64;
    let end = Exit::unless(!refused.is_empty());
    let object =
        Object::new().number("asked", count).objects("refused", refused.iter().map(refusal).collect());
    let (refused, why) = told(&refused);
    if !wait {
        let text = format!("asked for a poll of {}{refused}", mailboxes(count));
        let next = why.unwrap_or_else(|| format!("mailbox poll {} --wait", selected.arguments()));
        ctl.done(&object, &text, Some(&next))?;
        return Ok(end);
    }
    ctl.screen.goes_on("the polls go on");
    let polled = until_done(ctl, server, asked).await?;
    ctl.screen.goes_on("");
    let failing = polled.into_iter().filter(|mailbox| mailbox.state() == MailboxState::Failing);
    let failing: Vec<String> = failing.map(|mailbox| mailbox.address).collect();
    let text = match failing.len() as u64 {
        0 => format!("polled {}{refused}", mailboxes(count)),
        some => format!("polled {}; failing: {}{refused}", mailboxes(count), mailboxes(some)),
    };
    let failed = (!failing.is_empty()).then(|| "mailbox list --filter 'state = failing'".to_owned());
    ctl.done(&object.texts("failing", failing), &text, failed.or(why).as_deref())?;
    Ok(end)
}

fn refusal(refused: &RefusedMailbox) -> Object {
    Object::new().text("address", &refused.address).text("reason", &refused.reason)
}

/// The first mailbox that cannot be polled, how many more there are, and the command that says what its reason means.
fn told(refused: &[RefusedMailbox]) -> (String, Option<String>) {
    let Some(first) = refused.first() else { return (String::new(), None) };
    let more = match refused.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let text = format!("; not polled: {} ({}){more}", first.address, first.reason);
    (text, Some(format!("explain {}", first.reason)))
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
    let mut shown = total;
    wait::until(ctl, server, pause, async |ctl, server| {
        for mailbox in look(server, &left).await? {
            if mailbox.polls_pending == 0 && left.remove(&mailbox.name) {
                done.push(mailbox);
            }
        }
        let waiting = left.len() as u64;
        if waiting * 10 / total.max(1) != shown * 10 / total.max(1) {
            shown = waiting;
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
