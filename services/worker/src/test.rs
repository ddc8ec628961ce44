//! Test & enable of one mailbox: what each operation needs is tried once.

use std::time::Duration;

use mailyard_exchange::{
    codec::{Folder, WellKnown},
    probe_sending,
};
use mailyard_policy::{
    Reason,
    breaker::Answer,
    id::OutgoingId,
    mailbox::Tested,
    operation::{Direction, Kind},
    outbox::Capabilities,
};

use crate::turn::{Trouble, Turn, answer_of};

/// What a test found out.
#[derive(Debug)]
pub struct Findings {
    /// For each operation that was tested: how it ended.
    pub tested: [Option<Tested>; 3],
    /// What was learnt of the server's sending; `None`: nothing, or it was known.
    pub capabilities: Option<Capabilities>,
    /// What is learnt of the server of each direction: the breakers are told of it.
    pub answers: [Option<Answer>; 2],
}

/// Tests these operations, in the order of [`Kind::ALL`]; with `probe` it is also found out how sending behaves.
///
/// # Errors
/// [`Trouble`] of our own side; what fails at Exchange is a finding.
pub async fn test(turn: &mut Turn, kinds: [bool; 3], probe: bool) -> Result<Findings, Trouble> {
    let mut findings = Findings { tested: [None; 3], capabilities: None, answers: [None; 2] };
    if kinds[Kind::Incoming as usize] {
        let result = match turn.held[Direction::Incoming as usize] {
            Some(reason) => Err(reason.into()),
            None => findings.learn(Direction::Incoming, incoming(turn).await)?,
        };
        findings.note(Kind::Incoming, result);
    }
    if kinds[Kind::Outgoing as usize] {
        let result = match turn.held[Direction::Outgoing as usize].or_else(|| findings.refused_account()) {
            Some(reason) => Err(reason.into()),
            None => {
                let result = outgoing(turn, probe).await;
                let result = result.map(|capabilities| findings.capabilities = capabilities);
                findings.learn(Direction::Outgoing, result)?
            }
        };
        findings.note(Kind::Outgoing, result);
    }
    Ok(findings)
}

/// Why something does not work, and how long the server asked to wait.
struct Fails {
    reason: Reason,
    hint: Option<Duration>,
}

/// What is not tried fails as what was tried before.
impl From<Reason> for Fails {
    fn from(reason: Reason) -> Self {
        Self { reason, hint: None }
    }
}

impl Findings {
    /// The mailbox's own account was refused: it is not tried once more.
    fn refused_account(&self) -> Option<Reason> {
        self.tested.iter().flatten().find_map(|tested| match tested {
            Tested::Fails { reason, .. } if reason.is_account_fault() => Some(*reason),
            Tested::Fails { .. } | Tested::Works => None,
        })
    }

    /// The server of a direction was asked.
    fn learn(
        &mut self,
        direction: Direction,
        asked: Result<(), Trouble>,
    ) -> Result<Result<(), Fails>, Trouble> {
        let (answer, result) = match asked {
            Ok(()) => (Answer::Answered, Ok(())),
            Err(Trouble::Exchange(failure)) => {
                (answer_of(failure.reason), Err(Fails { reason: failure.reason, hint: failure.back_off }))
            }
            Err(other) => return Err(other),
        };
        self.answers[direction as usize] = Some(answer);
        Ok(result)
    }

    fn note(&mut self, kind: Kind, result: Result<(), Fails>) {
        self.tested[kind as usize] = Some(match result {
            Ok(()) => Tested::Works,
            Err(Fails { reason, hint }) => Tested::Fails { reason, hint },
        });
    }
}

async fn incoming(turn: &Turn) -> Result<(), Trouble> {
    turn.incoming()?.get_folder(&Folder::WellKnown(WellKnown::Inbox)).await?;
    Ok(())
}

/// The drafts can be reached; once per server it is also found out how sending behaves there.
async fn outgoing(turn: &Turn, probe: bool) -> Result<Option<Capabilities>, Trouble> {
    let mailbox = turn.outgoing()?.under(turn.warrant(None));
    mailbox.get_folder(&Folder::WellKnown(WellKnown::Drafts)).await?;
    if !probe {
        return Ok(None);
    }
    turn.may_act()?;
    let id = OutgoingId::new(turn.shared.new_id());
    turn.shared.store.know_test(turn.mailbox, id, turn.shared.now()).await?;
    let root = Folder::WellKnown(WellKnown::MsgFolderRoot);
    let aside = Folder::Id(mailbox.ensure_folder(&root, crate::send::ASIDE).await?.value);
    match probe_sending(&mailbox, &id.to_string(), &aside).await {
        Ok(capabilities) => Ok(Some(capabilities)),
        // The question stays open; it is asked again with the next test. The mailbox itself can send.
        Err(failure) if failure.may_pass() && !failure.reason.is_server_fault() => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}
