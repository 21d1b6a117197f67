//! What a server says of itself (gRPC Server Reflection, v1 and v1alpha): the files that define a service, each with what it
//! imports.

use std::collections::{BTreeMap, BTreeSet};

use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, MethodDescriptor, prost::Message, prost_types::FileDescriptorProto};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use super::{channel::Channel, failure, find};
use crate::{
    http::budget::Share,
    source::{Error, ErrorKind, http::excerpt},
};

/// The same messages under two names: v1alpha is what v1 was before it was named.
const VERSIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Files of one service; the largest public APIs have some hundred.
const FILES_MAX: usize = 2000;
/// What a descriptor takes in memory, of its bytes.
const DECODED_TIMES: u64 = 8;
/// Imports below imports.
const ROUNDS_MAX: usize = 64;

/// Asks for a method and all that its messages need.
pub(super) async fn method(
    channel: &mut Channel,
    service: &str,
    method: &str,
    origin: &str,
    share: &mut Share,
) -> Result<MethodDescriptor, Error> {
    let [first, second] = VERSIONS;
    let pool = match pool(channel, service, origin, first, share).await {
        Err(Error { kind: ErrorKind::Grpc { code: Code::Unimplemented, .. }, .. }) => {
            pool(channel, service, origin, second, share).await?
        }
        other => other?,
    };
    find(&pool, service, method).map_err(|why| ErrorKind::Request(format!("{origin}: {why}")).into())
}

async fn pool(
    channel: &mut Channel,
    service: &str,
    origin: &str,
    path: &'static str,
    share: &mut Share,
) -> Result<DescriptorPool, Error> {
    let mut files: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
    let mut wanted = vec![MessageRequest::FileContainingSymbol(service.to_owned())];
    for _ in 0..ROUNDS_MAX {
        for file in ask(channel, path, wanted, origin, share).await? {
            files.entry(file.name().to_owned()).or_insert(file);
        }
        let imports = files.values().flat_map(|file| &file.dependency);
        let missing: BTreeSet<&String> = imports.filter(|name| !files.contains_key(*name)).collect();
        if missing.is_empty() || files.len() > FILES_MAX {
            break;
        }
        wanted = missing.into_iter().map(|name| MessageRequest::FileByFilename(name.clone())).collect();
    }
    let mut pool = DescriptorPool::new();
    let made = pool.add_file_descriptor_protos(files.into_values());
    made.map_err(|e| ErrorKind::Request(format!("{origin} describes itself wrongly by reflection: {e}")))?;
    Ok(pool)
}

/// Asks several things in one call; the answers come in their order.
async fn ask(
    channel: &mut Channel,
    path: &'static str,
    wanted: Vec<MessageRequest>,
    origin: &str,
    share: &mut Share,
) -> Result<Vec<FileDescriptorProto>, Error> {
    let failed = |status: Status| failure(status, origin);
    let request = |wanted| ServerReflectionRequest { host: String::new(), message_request: Some(wanted) };
    let requests = futures_util::stream::iter(wanted.into_iter().map(request).collect::<Vec<_>>());
    let codec: ProstCodec<ServerReflectionRequest, ServerReflectionResponse> = ProstCodec::default();
    let mut grpc = channel.grpc().await.map_err(ErrorKind::Http)?;
    let call = grpc.streaming(tonic::Request::new(requests), PathAndQuery::from_static(path), codec);
    let mut answers = call.await.map_err(failed)?.into_inner();
    let mut files = Vec::new();
    while let Some(answer) = answers.message().await.map_err(failed)? {
        let described = match answer.message_response {
            Some(MessageResponse::FileDescriptorResponse(described)) => described.file_descriptor_proto,
            Some(MessageResponse::ErrorResponse(error)) => {
                let (code, message) = (Code::from(error.error_code), excerpt(&error.error_message));
                return Err(ErrorKind::Grpc { origin: origin.to_owned(), code, message }.into());
            }
            _ => Vec::new(),
        };
        for bytes in described {
            let wrong = |e| ErrorKind::Request(format!("{origin} describes itself wrongly by reflection: {e}"));
            files.push(FileDescriptorProto::decode(bytes.as_slice()).map_err(wrong)?);
            let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if !share.take(bytes.saturating_mul(DECODED_TIMES)) {
                return Err(ErrorKind::Http(crate::http::Error::Memory { origin: origin.to_owned() }).into());
            }
            if files.len() > FILES_MAX {
                return Err(ErrorKind::Request(format!("{origin} describes itself in over {FILES_MAX} files")).into());
            }
        }
    }
    Ok(files)
}
