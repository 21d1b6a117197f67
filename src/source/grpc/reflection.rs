//! What a server says of itself (gRPC Server Reflection, v1 and v1alpha): the files that define a service, each with what it
//! imports, and later the types that stand in an `Any`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, MethodDescriptor, prost::Message, prost_types::FileDescriptorProto};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use super::{channel::Channel, find};
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
/// Types of `Any` that are asked for, as long as a description is believed: their names are data.
const TYPES_MAX: usize = 256;
/// How long what a server has said of itself is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(60 * 60);

type File = FileDescriptorProto;

/// A method, and the types that its messages may hold.
#[derive(Debug)]
pub struct Described {
    pub(super) method: MethodDescriptor,
    pub(super) types: DescriptorPool,
    /// Types of `Any` that were asked for.
    asked: BTreeSet<String>,
    /// Where the server is asked; a descriptor set is all that is known.
    path: Option<&'static str>,
    at: Instant,
}

/// What is needed to ask.
pub(super) struct Asking<'a> {
    pub channel: &'a Channel,
    pub origin: &'a str,
    pub share: &'a mut Share,
}

impl Described {
    /// Of a descriptor set.
    pub(super) fn fixed(method: MethodDescriptor) -> Self {
        let types = method.parent_pool().clone();
        Self { method, types, asked: BTreeSet::new(), path: None, at: Instant::now() }
    }

    /// Asks for a method and all that its messages need.
    pub(super) async fn ask(asking: &mut Asking<'_>, service: &str, method: &str) -> Result<Self, Error> {
        let [first, second] = VERSIONS;
        let (path, files) = match asking.symbol(first, service).await {
            Err(Error { kind: ErrorKind::Grpc { code: Code::Unimplemented, .. }, .. }) => {
                (second, asking.symbol(second, service).await?)
            }
            other => (first, other?),
        };
        let mut types = DescriptorPool::new();
        asking.add(path, files, &mut types).await?;
        let found = find(&types, service, method);
        let method = found.map_err(|why| ErrorKind::Request(format!("{}: {why}", asking.origin)))?;
        Ok(Self { method, types, asked: BTreeSet::new(), path: Some(path), at: Instant::now() })
    }

    pub(super) fn is_believed(&self) -> bool {
        self.at.elapsed() < BELIEVED_FOR
    }

    /// Asks for types that were not asked for before; whether one of them is known now.
    pub(super) async fn learn(&mut self, asking: &mut Asking<'_>, names: BTreeSet<String>) -> Result<bool, Error> {
        let Some(path) = self.path else { return Ok(false) };
        let room = TYPES_MAX.saturating_sub(self.asked.len());
        let names: Vec<String> = names.into_iter().filter(|name| !self.asked.contains(name)).take(room).collect();
        self.asked.extend(names.iter().cloned());
        let wanted = names.iter().map(|name| MessageRequest::FileContainingSymbol(name.clone())).collect();
        for files in asking.each(path, wanted).await?.into_iter().flatten() {
            let mut types = self.types.clone();
            match asking.add(path, files, &mut types).await {
                Ok(()) => self.types = types,
                // What contradicts the service's own files stays unknown.
                Err(Error { kind: ErrorKind::Request(_), .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names.iter().any(|name| self.types.get_message_by_name(name).is_some()))
    }
}

impl Asking<'_> {
    /// The file that defines a symbol, and what the server sends with it.
    async fn symbol(&mut self, path: &'static str, name: &str) -> Result<Vec<File>, Error> {
        let mut all = self.all(path, vec![MessageRequest::FileContainingSymbol(name.to_owned())]).await?;
        all.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Adds files with all that they import to what is known.
    async fn add(&mut self, path: &'static str, found: Vec<File>, types: &mut DescriptorPool) -> Result<(), Error> {
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        let mut absent = Vec::new();
        let take = |files: &mut BTreeMap<String, File>, found: Vec<File>| {
            for file in found.into_iter().filter(|file| types.get_file_by_name(file.name()).is_none()) {
                files.entry(file.name().to_owned()).or_insert(file);
            }
        };
        take(&mut files, found);
        for _ in 0..ROUNDS_MAX {
            let imports = files.values().flat_map(|file| &file.dependency);
            let is_new = |name: &&String| !files.contains_key(*name) && types.get_file_by_name(name).is_none();
            let missing: BTreeSet<String> = imports.filter(is_new).cloned().collect();
            if missing.is_empty() {
                break;
            }
            if files.len() + missing.len() > FILES_MAX {
                return Err(self.wrong(format!("describes itself in over {FILES_MAX} files")));
            }
            let wanted = missing.iter().map(|name| MessageRequest::FileByFilename(name.clone())).collect();
            let answers = self.each(path, wanted).await?;
            for (name, answer) in missing.into_iter().zip(answers) {
                take(&mut files, answer.unwrap_or_default());
                if !files.contains_key(&name) {
                    files.insert(name.clone(), own(&name).unwrap_or_else(|| stand_in(&name, &mut absent)));
                }
            }
        }
        types.add_file_descriptor_protos(files.into_values()).map_err(|e| {
            let without = match absent.as_slice() {
                [] => String::new(),
                names => format!(" (it does not know its own {})", excerpt(&names.join(", "))),
            };
            self.wrong(format!(
                "describes itself wrongly by reflection: {e}{without}; write `descriptors` with its descriptor set"
            ))
        })
    }

    /// The files of each thing that is asked for; `None` for what the server does not know.
    async fn each(&mut self, path: &'static str, wanted: Vec<MessageRequest>) -> Result<Vec<Option<Vec<File>>>, Error> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        match self.all(path, wanted.clone()).await {
            Ok(all) if all.len() == wanted.len() => return Ok(all.into_iter().map(Result::ok).collect()),
            Err(error) if !is_unknown(&error) => return Err(error),
            // Some servers end the whole call at a thing that they do not know.
            _ => {}
        }
        let mut found = Vec::new();
        for one in wanted {
            found.push(match self.all(path, vec![one]).await {
                Ok(mut all) => all.pop().and_then(Result::ok),
                Err(error) if is_unknown(&error) => None,
                Err(error) => return Err(error),
            });
        }
        Ok(found)
    }

    /// Asks several things in one call; the answers come in their order.
    async fn all(
        &mut self,
        path: &'static str,
        wanted: Vec<MessageRequest>,
    ) -> Result<Vec<Result<Vec<File>, Error>>, Error> {
        let failed = |status: Status| self.channel.failure(&status);
        let asked = wanted.len();
        let request = |wanted| ServerReflectionRequest { host: String::new(), message_request: Some(wanted) };
        let requests = futures_util::stream::iter(wanted.into_iter().map(request).collect::<Vec<_>>());
        let codec: ProstCodec<ServerReflectionRequest, ServerReflectionResponse> = ProstCodec::default();
        let mut grpc = self.channel.grpc().await?;
        let call = grpc.streaming(tonic::Request::new(requests), PathAndQuery::from_static(path), codec);
        let mut answers = call.await.map_err(failed)?.into_inner();
        let (mut found, mut count) = (Vec::new(), 0);
        while found.len() < asked
            && let Some(answer) = answers.message().await.map_err(failed)?
        {
            let described = match answer.message_response {
                Some(MessageResponse::FileDescriptorResponse(described)) => described.file_descriptor_proto,
                Some(MessageResponse::ErrorResponse(error)) => {
                    let (origin, message) = (self.origin.to_owned(), excerpt(&error.error_message));
                    found.push(Err(ErrorKind::Grpc { origin, code: Code::from(error.error_code), message }.into()));
                    continue;
                }
                _ => Vec::new(),
            };
            let mut files = Vec::new();
            for bytes in described {
                let file = File::decode(bytes.as_slice());
                files.push(file.map_err(|e| self.wrong(format!("describes itself wrongly by reflection: {e}")))?);
                let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if !self.share.take(bytes.saturating_mul(DECODED_TIMES)) {
                    return Err(ErrorKind::Http(crate::http::Error::Memory { origin: self.origin.to_owned() }).into());
                }
                count += 1;
                if count > FILES_MAX {
                    return Err(self.wrong(format!("describes itself in over {FILES_MAX} files")));
                }
            }
            found.push(Ok(files));
        }
        Ok(found)
    }

    fn wrong(&self, why: String) -> Error {
        ErrorKind::Request(format!("{} {why}", self.origin)).into()
    }
}

/// Whether a call failed because of what was asked for. What may pass is another matter: a type that is bytes in one poll
/// and itself in the next one would be a change of its record.
fn is_unknown(error: &Error) -> bool {
    use Code::{InvalidArgument, NotFound, Unimplemented};
    let ErrorKind::Grpc { code, .. } = &error.kind else { return false };
    matches!(code, NotFound | InvalidArgument | Unimplemented)
}

/// This program's copy of a file that every implementation has: some servers do not give them.
fn own(name: &str) -> Option<File> {
    DescriptorPool::global().get_file_by_name(name).map(|file| file.file_descriptor_proto().clone())
}

/// An empty file in place of one that cannot be had, such as that of an option: if a type needs it, the pool says so.
fn stand_in(name: &str, absent: &mut Vec<String>) -> File {
    absent.push(name.to_owned());
    File { name: Some(name.to_owned()), syntax: Some("proto3".into()), ..File::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_files_are_here() {
        let names =
            ["any", "api", "descriptor", "duration", "empty", "field_mask", "struct", "timestamp", "type", "wrappers"];
        for name in names {
            let file = own(&format!("google/protobuf/{name}.proto"));
            assert!(file.is_some_and(|file| file.package() == "google.protobuf"), "{name}");
        }
        assert_eq!(own("validate/validate.proto"), None);
    }
}
