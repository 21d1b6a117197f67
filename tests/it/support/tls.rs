//! A server that wants a certificate of its own authority, which no machine trusts.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::AbortHandle,
};

/// Answers every request of a client that shows its certificate with 200 and one body.
pub struct Mutual {
    pub addr: SocketAddr,
    dir: TempDir,
    accepting: AbortHandle,
}

impl Drop for Mutual {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Mutual {
    pub async fn start(body: &'static str) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&authority_key).expect("signed");
        let issuer = Issuer::new(authority, authority_key);
        let issue = |name: &str| {
            let key = KeyPair::generate().expect("a key");
            let parameters = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
            (parameters.signed_by(&key, &issuer).expect("signed"), key)
        };
        let (server_cert, server_key) = issue("127.0.0.1");
        let (client_cert, client_key) = issue("bellpull");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.der().clone()).expect("a root");
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let server_key = rustls::pki_types::PrivateKeyDer::try_from(server_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("one"))
            .with_single_cert(vec![server_cert.der().clone()], server_key)
            .expect("a certificate");
        let (addr, accepting) = serve(config, body).await;
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in
            [("ca.pem", root.pem()), ("cert.pem", client_cert.pem()), ("key.pem", client_key.serialize_pem())]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        }
        Self { addr, dir, accepting }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The key `ca` of `tls`.
    pub fn ca(&self) -> String {
        format!("ca = {:?}", self.path("ca.pem"))
    }

    /// The keys `cert` and `key` of `tls`.
    pub fn own(&self) -> String {
        format!("cert = {:?}, key = {{ file = {:?} }}", self.path("cert.pem"), self.path("key.pem"))
    }
}

/// Answers every request with 200 and one body, under a certificate that it signed itself, for one name.
pub struct SelfSigned {
    pub addr: SocketAddr,
    dir: TempDir,
    accepting: AbortHandle,
}

impl Drop for SelfSigned {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl SelfSigned {
    pub async fn start(body: &'static str, name: &str, is_ca: IsCa) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        parameters.is_ca = is_ca;
        let cert = parameters.self_signed(&key).expect("signed");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate");
        let (addr, accepting) = serve(config, body).await;
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("own.pem"), cert.pem()).expect("written");
        Self { addr, dir, accepting }
    }

    /// The key `ca` of `tls`.
    pub fn ca(&self) -> String {
        format!("ca = {:?}", self.dir.path().join("own.pem").display().to_string())
    }
}

async fn serve(config: rustls::ServerConfig, body: &'static str) -> (SocketAddr, AbortHandle) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await?;
                let length = body.len();
                let answer = format!("HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    (addr, accepting.abort_handle())
}
