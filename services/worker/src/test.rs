//! Test & enable of one mailbox: what each operation needs is tried once.

use mailyard_exchange::{
    Failure,
    codec::{Folder, WellKnown},
    probe_sending,
};
use mailyard_policy::{id::OutgoingId, mailbox::Tested, operation::Kind, outbox::Capabilities};

use crate::turn::{Trouble, Turn};

/// What a test found out.
#[derive(Debug)]
pub struct Findings {
    /// For each operation that was tested: how it ended.
    pub tested: [Option<Tested>; 3],
    /// What was learnt of the server's sending; `None`: nothing, or it was known.
    pub capabilities: Option<Capabilities>,
    /// A failure of the server among the results: the breaker is told of it.
    pub failure: Option<Failure>,
}

/// Tests these operations, in the order of [`Kind::ALL`]; with `probe` it is also found out how sending behaves.
///
/// # Errors
/// [`Trouble`] of our own side; what fails at Exchange is a finding.
pub async fn test(turn: &mut Turn, kinds: [bool; 3], probe: bool) -> Result<Findings, Trouble> {
    let mut findings = Findings { tested: [None; 3], capabilities: None, failure: None };
    if kinds[Kind::Incoming as usize] {
        let result = incoming(turn).await;
        findings.note(Kind::Incoming, result)?;
    }
    if kinds[Kind::Outgoing as usize] {
        if let Some(refused) = findings.refused_account() {
            findings.note(Kind::Outgoing, Err(refused.into()))?;
            return Ok(findings);
        }
        let result = outgoing(turn, probe).await;
        let result = result.map(|capabilities| findings.capabilities = capabilities);
        findings.note(Kind::Outgoing, result)?;
    }
    Ok(findings)
}

impl Findings {
    /// The mailbox's own account was refused: it is not tried once more.
    fn refused_account(&self) -> Option<Failure> {
        self.failure.clone().filter(|failure| failure.reason.is_account_fault())
    }

    fn note(&mut self, kind: Kind, result: Result<(), Trouble>) -> Result<(), Trouble> {
        self.tested[kind as usize] = Some(match result {
            Ok(()) => Tested::Works,
            Err(Trouble::Exchange(failure)) => {
                let tested = Tested::Fails { reason: failure.reason, hint: failure.back_off };
                self.failure = Some(failure);
                tested
            }
            Err(other) => return Err(other),
        });
        Ok(())
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
