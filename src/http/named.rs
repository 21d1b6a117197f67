//! TLS with roots of the file. A certificate that the file names, and that a server shows as its own, is that server's: so do
//! appliances that signed theirs themselves. Name, dates and signatures count as for any other.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;

use super::identity::Version;
use crate::settings::secret::Secret;

/// The certificates of a PEM text.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// TLS that trusts the system and these certificates, with the own certificate and its key.
pub fn config(
    named: Vec<CertificateDer<'static>>,
    own: Option<&Secret>,
    version: Version,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Named::new(named, provider.clone()).map_err(|e| format!("a root cannot be used: {e}"))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let failed = |e: &dyn std::fmt::Display| format!("tls.cert and tls.key: {e}");
            let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|e| failed(&e))?;
            let chain = certificates(pem.expose()).map_err(|e| failed(&e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| failed(&e))?
        }
    };
    let protocols: &[&[u8]] = match version {
        Version::Auto => &[b"h2", b"http/1.1"],
        Version::One => &[b"http/1.1"],
        Version::Two => &[b"h2"],
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// The system's verifier, which takes a named certificate as that of its server.
#[derive(Debug)]
struct Named {
    named: Vec<CertificateDer<'static>>,
    /// Trusts these and nothing else: what it says of one of them is no news for the log.
    alone: Arc<WebPkiServerVerifier>,
    all: Verifier,
}

impl Named {
    fn new(named: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        named.iter().try_for_each(|root| roots.add(root.clone()))?;
        let alone = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let alone = alone.map_err(|e| Error::General(e.to_string()))?;
        let all = Verifier::new_with_extra_roots(named.iter().cloned(), provider)?;
        Ok(Self { named, alone, all })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.named.iter().any(|named| named == end_entity) {
            return self.all.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        }
        // What cannot be read at all is told here, so that an error below is one of a certificate whose dates were looked at first.
        let parsed = ParsedCertificate::try_from(end_entity)?;
        match self.alone.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // Somebody else signed it, even one who has the same name, or it may sign others (which has no name of its own among
            // rustls's errors). Every byte of it is known, so that nobody needs to vouch for it.
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_),
            )) => {
                verify_server_name(&parsed, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.all.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    const IN_2025: u64 = 1_750_000_000;
    const IN_2019: u64 = 1_560_000_000;
    const IN_2035: u64 = 2_060_000_000;

    fn parameters(is_ca: IsCa) -> CertificateParams {
        let mut parameters = CertificateParams::new(vec!["box.example".into(), "10.0.0.7".into()]).expect("parameters");
        parameters.is_ca = is_ca;
        (parameters.not_before, parameters.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
        parameters
    }

    fn own(is_ca: IsCa) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        parameters(is_ca).self_signed(&key).expect("signed").der().clone()
    }

    fn any() -> IsCa {
        IsCa::Ca(BasicConstraints::Unconstrained)
    }

    fn verifier(named: &[&CertificateDer<'static>]) -> Named {
        let named = named.iter().map(|cert| (*cert).clone()).collect();
        Named::new(named, Arc::new(ring::default_provider())).expect("a verifier")
    }

    fn verify(
        named: &[&CertificateDer<'static>],
        shown: &CertificateDer<'_>,
        name: &str,
        at: u64,
    ) -> Result<(), Error> {
        verify_by(&verifier(named), shown, name, at)
    }

    fn verify_by(verifier: &Named, shown: &CertificateDer<'_>, name: &str, at: u64) -> Result<(), Error> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        verifier.verify_server_cert(shown, &[], &name, &[], at).map(|_| ())
    }

    /// lightningnetwork/lnd#5450, rustls/webpki#205: a certificate that signed itself is mostly one that may sign others, and no
    /// server was to be that.
    #[test]
    fn a_certificate_that_is_named_is_its_servers_by_its_name_and_dates_only() {
        for is_ca in [any(), IsCa::ExplicitNoCa, IsCa::NoCa] {
            let (cert, other) = (own(is_ca), own(is_ca));
            for (named, name, at, good) in [
                (&[&cert][..], "box.example", IN_2025, true),
                (&[&cert], "10.0.0.7", IN_2025, true),
                (&[&other, &cert], "box.example", IN_2025, true),
                (&[&cert], "box.example.org", IN_2025, false),
                (&[&cert], "10.0.0.8", IN_2025, false),
                (&[&cert], "box.example", IN_2019, false),
                (&[&cert], "box.example", IN_2035, false),
                (&[&other], "box.example", IN_2025, false),
            ] {
                let found = verify(named, &cert, name, at);
                assert_eq!(found.is_ok(), good, "{is_ca:?} {name} {at}: {found:?}");
            }
        }
    }

    /// What a named certificate signed is judged as ever, and one that an authority signed may be named itself. All have one subject
    /// here, as where somebody made authority and certificate by the same command.
    #[test]
    fn authorities_are_still_authorities() {
        let (root_key, leaf_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let root = parameters(any()).self_signed(&root_key).expect("signed").der().clone();
        let issuer = Issuer::new(parameters(any()), root_key);
        let mut of_client = parameters(IsCa::NoCa);
        of_client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = parameters(IsCa::NoCa).signed_by(&leaf_key, &issuer).expect("signed").der().clone();
        let client = of_client.signed_by(&leaf_key, &issuer).expect("signed").der().clone();
        for (named, shown, good) in [
            (&[&root][..], &leaf, true),
            (&[&leaf], &leaf, true),
            (&[&root, &leaf], &leaf, true),
            (&[&leaf], &root, false),
            (&[&root], &client, false),
            (&[&root, &client], &client, false),
        ] {
            let found = verify(named, shown, "box.example", IN_2025);
            assert_eq!(found.is_ok(), good, "{found:?}");
            assert!(verify(named, shown, "other.example", IN_2025).is_err());
        }
    }

    /// One byte makes another certificate of it.
    #[test]
    fn a_certificate_that_differs_anywhere_is_not_the_named_one() {
        let cert = own(any());
        let verifier = verifier(&[&cert]);
        let mut seed = 5_u64;
        for _ in 0..300 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bytes = cert.to_vec();
            let at = usize::try_from(seed >> 40).expect("24 bits") % bytes.len();
            bytes[at] ^= 1 << (seed >> 33 & 7);
            assert!(verify_by(&verifier, &CertificateDer::from(bytes), "box.example", IN_2025).is_err(), "{at}");
        }
    }
}
