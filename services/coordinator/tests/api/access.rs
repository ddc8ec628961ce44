//! Who may call: nothing of a request counts before its caller is known.

use bytes::{Buf as _, BufMut as _, Bytes};
use mailyard_policy::Reason;
use mailyard_wire::{privilege::PRIVILEGES, status::Refusal};
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::house::House;

/// Messages as bytes, whatever they mean.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn call(
    house: &House,
    path: &str,
    token: Option<&str>,
    message: &'static [u8],
) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(house.channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(Bytes::from_static(message));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path = path.parse().unwrap();
    Ok(grpc.unary(request, path, Raw).await?.into_inner())
}

fn reason(answer: Result<Bytes, Status>) -> (Code, String) {
    let refusal = Refusal::from(&answer.expect_err("this should have been refused"));
    (refusal.code, refusal.reason.unwrap_or_default())
}

#[tokio::test]
async fn every_method_asks_who_calls_before_it_reads_what_is_called() {
    const NONSENSE: &[u8] = &[0xff; 40];
    let house = House::new().await;
    assert!(PRIVILEGES.len() > 25);
    for (path, _) in PRIVILEGES {
        for token in [None, Some("wrong"), Some("")] {
            let refused = reason(call(&house, path, token, NONSENSE).await);
            assert_eq!(refused, (Code::Unauthenticated, "TOKEN_INVALID".to_owned()), "{path} {token:?}");
        }
        let refused = reason(call(&house, path, Some(&house.token), NONSENSE).await);
        assert_eq!(refused, (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{path}");
        // Every method is there, and an empty request is not taken for a wish.
        let (code, reason) = reason(call(&house, path, Some(&house.token), b"").await);
        assert_eq!((code, reason.parse()), (Code::InvalidArgument, Ok(Reason::FieldInvalid)), "{path}");
    }
    for path in
        ["/mailyard.admin.v1.ProfileService/DropEverything", "/mailyard.cluster.v1.SessionService/Session"]
    {
        assert_eq!(reason(call(&house, path, None, b"").await).1, "TOKEN_INVALID", "{path}");
        let refused = reason(call(&house, path, Some(&house.token), b"").await);
        assert_eq!(refused, (Code::Unimplemented, "RPC_UNKNOWN".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn anybody_may_ask_for_health_and_it_follows_readiness() {
    let house = House::new().await;
    let (serving, not_serving) = (Bytes::from_static(&[8, 1]), Bytes::from_static(&[8, 2]));
    let check = async || call(&house, "/grpc.health.v1.Health/Check", None, b"").await.unwrap();
    crate::house::until("it serves", async || check().await == serving).await;
    house.readiness.set("store", Err("gone".to_owned()));
    crate::house::until("it does not serve", async || check().await == not_serving).await;
    let unknown = call(&house, "/grpc.health.v1.Health/Check", None, b"\x0a\x01x").await;
    assert_eq!(unknown.expect_err("no such service").code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_needs_a_token_and_lists_what_is_public() {
    let house = House::new().await;
    let asked = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request })
    };
    let mut client = ServerReflectionClient::new(house.channel.clone());
    let refused = client.server_reflection_info(asked()).await.expect_err("no token");
    assert_eq!(Refusal::from(&refused).reason.as_deref(), Some("TOKEN_INVALID"));
    let mut request = Request::new(asked());
    request.metadata_mut().insert("authorization", format!("Bearer {}", house.token).parse().unwrap());
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let mut services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    services.sort();
    insta::assert_snapshot!(services.join("\n"));
}

#[tokio::test]
async fn a_client_that_is_too_loud_is_told_so() {
    let house = House::new().await;
    let mut mailboxes = house.mailboxes().max_encoding_message_size(usize::MAX);
    let csv = vec![b'x'; mailyard_wire::LARGEST_MESSAGE + 1];
    let request = mailyard_wire::admin::ImportMailboxesRequest { csv, ..Default::default() };
    let refused = mailboxes.import_mailboxes(request).await.expect_err("too large");
    let refused = Refusal::from(&refused);
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (Code::InvalidArgument, "the message is larger than 64 MiB")
    );
}
