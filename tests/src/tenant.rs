//! A tenant on a server that runs: what an administrator does first, through the public API.

use mailyard_ctl::server::Server;
use mailyard_exchange_sim::Ready;
use mailyard_wire::admin::{
    Approval, Authentication, CreateProfileRequest, Credentials, DecideApprovalRequest,
    ImportMailboxesRequest, Profile, Selection, TestAndEnableRequest, WatchOperationRequest,
};

use crate::Outcome;

/// A profile for the simulator, and all of its mailboxes: approved, tested and enabled.
///
/// # Errors
/// A call is refused, or a mailbox does not work.
pub async fn set_up(server: &Server, ready: &Ready) -> Outcome {
    let parent = server.parent.clone();
    let profile = Profile {
        display_name: "Simulated".to_owned(),
        incoming_url: ready.ews_url.clone(),
        outgoing_url: ready.ews_url.clone(),
        credentials: Some(Credentials {
            authentication: Authentication::Basic.into(),
            user: ready.user.clone(),
            password: ready.password.clone(),
            ..Credentials::default()
        }),
        ca_pem: Some(std::fs::read_to_string(&ready.ca_file)?),
        ..Profile::default()
    };
    let request = CreateProfileRequest { parent: parent.clone(), profile: Some(profile), set_default: true };
    server.call(server.profiles().create_profile(request)).await?;
    let mut csv = "address,display_name,kind,profile,incoming,outgoing,act\n".to_owned();
    for address in std::fs::read_to_string(&ready.addresses_file)?.lines() {
        csv.push_str(&format!("{address},,user,,sss,sss,none\n"));
    }
    let request =
        ImportMailboxesRequest { parent: parent.clone(), csv: csv.into_bytes(), validate_only: false };
    server.call(server.mailboxes().import_mailboxes(request)).await?;
    let all = Selection { addresses: Vec::new(), filter: Some(String::new()) };
    let request = DecideApprovalRequest {
        parent: parent.clone(),
        selection: Some(all.clone()),
        approval: Approval::Approved.into(),
    };
    server.call(server.mailboxes().decide_approval(request)).await?;
    let request = TestAndEnableRequest { parent, selection: Some(all) };
    let mut operation = server.call(server.mailboxes().test_and_enable(request)).await?;
    let request = WatchOperationRequest { name: operation.name.clone(), skip_results: 0 };
    let mut watch = server.call(server.operations().watch_operation(request)).await?;
    while let Some(change) = watch.message().await? {
        operation = change.operation.unwrap_or(operation);
    }
    if operation.succeeded == operation.total { Ok(()) } else { Err(format!("{operation:?}").into()) }
}
