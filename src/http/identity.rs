//! Who asks, and which way: client certificate, roots, proxy and HTTP version of one source. Read with the file, so that a
//! certificate that cannot be used is an error of the file.

use url::Url;

use crate::{
    model::Hash,
    settings::{
        Item, Table,
        key::{Form, Shape, keys},
        secret::Secret,
    },
};

/// A PEM file of certificates, by its path.
pub const CERTIFICATES: Form<String> = Form::new(Shape::Text, read_certificates);
/// A proxy's URL, which may be a secret.
pub const PROXY: Form<Url> = Form::new(Shape::OneOf(&[Shape::Text, Shape::Secret]), read_proxy);

keys! {
    /// Who asks, and which way.
    mod identity;
    /// Additional roots, and the own certificate.
    get TLS: (Option<String>, Option<Secret>) = "tls", Form::table(&tls::FAMILY, read_tls);
    /// An `http://`, `https://` or `socks5h://` URL, or a secret that holds one, where it has a password.
    maybe PROXY: Url = "proxy", super::PROXY, "`network.proxy`";
}

keys! {
    /// Roots, and the own certificate with its key.
    mod tls: Rule::Schema(r#"{ "dependencies": { "cert": ["key"], "key": ["cert"] } }"#);
    /// A PEM file of additional roots. A certificate that stands in it and that a server shows as its own, signed by whomever, is
    /// that server's, if its name and dates fit.
    get CA: String = "ca", CERTIFICATES;
    /// The client certificate's PEM file.
    get CERT: () = "cert", Form::raw(Shape::Text);
    /// The client certificate's key in PEM, a secret.
    get KEY: () = "key", Form::raw(Shape::Secret);
}

keys! {
    /// The version of HTTP.
    mod version;
    /// `"1"` or `"2"`: this version only; `"2"` over `http://` from the first byte (h2c).
    or HTTP: Version = "http", Form::words(&[("auto", Version::Auto), ("1", Version::One), ("2", Version::Two)]),
        || Version::Auto;
}

/// What makes a connection another one. The default is the daemon's own.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// PEM text of more roots.
    pub ca: Option<String>,
    /// PEM text of the certificate chain and its key.
    pub own: Option<Secret>,
    pub proxy: Option<Url>,
    pub version: Version,
    /// Of all of it.
    pub hash: Hash,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Auto,
    One,
    /// Without an upgrade: over `http` from the first byte, over `https` as negotiated.
    Two,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Identity {
    /// Reads `tls`, `proxy` and, where the version is the file's to choose, `http`.
    pub fn read(table: &mut Table<'_>, any_version: bool) -> Self {
        let (ca, own) = table.get(&identity::TLS).unwrap_or_default();
        let proxy = table.get(&identity::PROXY);
        let version = if any_version { table.or(&version::HTTP) } else { Version::Auto };
        Self::new(ca, own, proxy, version)
    }

    fn new(ca: Option<String>, own: Option<Secret>, proxy: Option<Url>, version: Version) -> Self {
        let mut identity = Self { ca, own, proxy, version, hash: Hash::default() };
        if identity.ca.is_some() || identity.own.is_some() || identity.proxy.is_some() || version != Version::Auto {
            let own = identity.own.as_ref().map(Secret::expose);
            let text = format!("{:?} {own:?} {:?} {version:?}", identity.ca, identity.proxy.as_ref().map(Url::as_str));
            identity.hash = Hash::of(text.as_bytes());
        }
        identity
    }

    /// The same under another version.
    pub fn with(&self, version: Version) -> Self {
        Self::new(self.ca.clone(), self.own.clone(), self.proxy.clone(), version)
    }
}

/// A proxy's URL, which may be a secret.
pub fn read_proxy(item: &Item<'_>) -> Option<Url> {
    let proxy = |text: &str| match text.parse::<Url>() {
        Ok(url) if ["http", "https", "socks5h"].contains(&url.scheme()) => Ok(url),
        _ => Err("a proxy is http://, https:// or socks5h://".to_owned()),
    };
    if item.is_secret() {
        let secret = item.secret()?;
        if !item.resolved(&secret) {
            return Some(Url::parse("http://unresolved.invalid").expect("a URL"));
        }
        return proxy(secret.expose())
            .map_err(|e| item.error(format!("`{}`: the secret is not a proxy's URL: {e}", item.path)).report())
            .ok();
    }
    let url = item.parse_text(proxy, "a proxy's URL")?;
    if url.password().is_some() {
        item.context().keep_secret(&Secret::new(url.to_string()));
        item.warn(
            format!("`{}` holds a password", item.path),
            "use { credential }, { file } or { env } for the whole URL",
        );
    }
    Some(url)
}

/// PEM text of certificates, from the file that is named.
pub fn read_certificates(item: &Item<'_>) -> Option<String> {
    let path = item.string()?;
    let read = std::fs::read_to_string(path).map_err(|e| format!("failed to read {path}: {e}"));
    let checked = read.and_then(|text| {
        let found = reqwest::Certificate::from_pem_bundle(text.as_bytes()).map_err(|_| format!("{path} is not PEM"))?;
        if found.is_empty() { Err(format!("{path} holds no certificate")) } else { Ok(text) }
    });
    checked.map_err(|e| item.error(format!("`{}`: {e}", item.path)).report()).ok()
}

/// Roots, and the own certificate with its key.
fn read_tls(item: &Item<'_>) -> Option<(Option<String>, Option<Secret>)> {
    let mut table = item.table()?;
    let ca = table.get(&tls::CA);
    let (cert, key) = (table.item(&tls::CERT), table.item(&tls::KEY));
    let title = table.title();
    table.finish();
    let own = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let (pem, secret) = (read_certificates(&cert), key.secret());
            let (pem, secret) = (pem?, secret?);
            let own = Secret::new(format!("{}\n{pem}", secret.expose()));
            if key.resolved(&secret) && reqwest::Identity::from_pem(own.expose().as_bytes()).is_err() {
                key.error(format!("`{}` is not a PEM key of the certificate in `cert`", key.path)).report();
                return None;
            }
            Some(own)
        }
        (Some(one), None) | (None, Some(one)) => {
            one.error(format!("{title} needs both `cert` and `key`"))
                .help("cert = \"/etc/bellpull/client.pem\", key = { file = \"/etc/bellpull/client.key\" }".into())
                .report();
            return None;
        }
    };
    Some((ca, own))
}
