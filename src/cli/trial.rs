//! A URL tried without a file: read as it is, and polled by a bridge that is in memory only, by the daemon's own code.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc, time::Duration};

use clap::Args;
use ipnet::IpNet;
use reqwest::Method;
use tokio::time::sleep;
use url::Url;

use super::{CONFIG, FAILED, Failure, IO, UNAVAILABLE, USAGE};
use crate::{
    auth::vault::Vault,
    clock::Clock,
    config::{self, Config, Secrets},
    deliver::Deliveries,
    guess::{
        Guess,
        credentials::{self, Request},
        draft::{Draft, Walk},
    },
    http::{
        Answer, BodyLimit, Client,
        budget::Budget,
        client,
        egress::{Egress, Refused},
        origin,
    },
    model::Name,
    poller::{Polled, Poller},
    pulse::Pulse,
    store::{Store, memory::MemoryEngine},
};

/// The endpoint of a bridge in memory; nothing is sent to it.
pub(super) const TO: &str = "nobody";
/// Between two reads: a clock in the answer has moved on by then.
const BETWEEN: Duration = Duration::from_millis(1100);
/// One read may take so long.
const WITHIN: Duration = Duration::from_secs(30);
/// What a person waits for at a terminal is smaller.
const BYTES_MAX: u64 = 32 << 20;
const REDIRECTS_MAX: usize = 5;

/// What is polled.
#[derive(Debug, Args)]
pub(super) struct UrlArgs {
    /// What is polled, with GET
    url: String,
    /// A header of the request, such as "Authorization: Bearer TOKEN"
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
}

impl UrlArgs {
    pub fn request(&self) -> Result<Request, Failure> {
        Request::new(&self.url, &self.headers).map_err(|e| Failure::new(USAGE, e))
    }

    /// The name of a bridge over it.
    pub fn name(&self) -> Result<String, Failure> {
        Ok(credentials::bridge_name(&self.request()?.url))
    }
}

/// A URL and how it is reached.
pub(super) struct Trial {
    pub request: Request,
    /// Addresses that a daemon would refuse, and this command does not: the person named them.
    pub private: Vec<Refused>,
    network: client::Config,
    client: Client,
    clock: Clock,
}

impl Trial {
    /// `network` is that of the file, if there is one.
    pub async fn new(request: Request, network: client::Config) -> Result<Self, Failure> {
        let private = private(&request.url, &network.allow).await;
        let of = |refused: &Refused| IpNet::from(refused.address);
        let allow = network.allow.iter().copied().chain(private.iter().map(of)).collect();
        let network = client::Config { allow, ..network };
        let client = Client::new(&network).map_err(|e| Failure::new(CONFIG, e))?;
        Ok(Self { request, private, network, client, clock: Clock::system() })
    }

    /// What the URL answers. Redirects are followed on its own origin.
    pub async fn read(&self) -> Result<Answer, Failure> {
        let (mut url, headers) = self.request.wire();
        for _ in 0..REDIRECTS_MAX {
            let turn = self.client.turn(&url, None).await;
            let asked =
                crate::http::Request { method: Method::GET, url: url.clone(), headers: headers.clone(), body: None };
            let sent = self.client.send(&turn, asked, WITHIN, BodyLimit::Whole(BYTES_MAX), None).await;
            let answer = sent.map_err(|e| Failure::new(UNAVAILABLE, e.to_string()))?;
            let next = answer.header("location").and_then(|to| answer.url.join(to).ok());
            match next.filter(|next| (300..400).contains(&answer.status) && next.origin() == url.origin()) {
                Some(next) => url = next,
                None => return Ok(answer),
            }
        }
        Err(Failure::new(FAILED, format!("{} redirects more than {REDIRECTS_MAX} times", origin(&self.request.url))))
    }

    /// A guess after one read, and after a second one a moment later.
    pub fn guess(&self, first: &Answer, second: Option<&Answer>) -> Result<Guess, Failure> {
        let found = Guess::of(&self.request.url, first, second, self.clock.now());
        let told = |e: &dyn std::fmt::Display| self.request.redact(&format!("{}: {e}", origin(&self.request.url)));
        found.map_err(|e| Failure::new(FAILED, told(&e)))
    }

    /// A second read, when a clock in the answer has moved on.
    pub async fn read_again(&self) -> Result<Answer, Failure> {
        sleep(BETWEEN).await;
        self.read().await
    }

    /// A poller with the bridge of a guess, in a store that is in memory.
    pub async fn bridge(&self, guess: &Guess, name: &str, walk: Walk) -> Result<Tried, Failure> {
        let draft = Draft { name, request: &self.request, guess, to: TO };
        let allow: Vec<String> = self.network.allow.iter().map(|net| format!("\"{net}\"")).collect();
        let text = format!(
            "[network]\nallow = [{}]\n{}\n[endpoint.{TO}]\nurl = \"https://example.com/\"\n",
            allow.join(", "),
            draft.bridge(credentials::Secrets::Inline, walk)
        );
        let read = move || config::load_text(Path::new("the guessed bridge"), text, Secrets::Read);
        let config = tokio::task::spawn_blocking(read).await.map_err(|e| Failure::new(IO, e.to_string()))?;
        let config = config.map_err(|e| Failure::new(FAILED, e.to_string()))?;
        self.tried(config, name)
    }

    fn tried(&self, config: Config, name: &str) -> Result<Tried, Failure> {
        let failed = |e: String| Failure::new(IO, e);
        let store = Store::start(Arc::new(MemoryEngine::new())).map_err(|e| failed(e.to_string()))?;
        let bridge = config.bridge(name).cloned().ok_or_else(|| failed(format!("the bridge {name} is not there")))?;
        // No login is guessed that would keep tokens there.
        let vault = Vault::new(std::env::temp_dir().join("bellpull-keeps-nothing"));
        vault.know(config.secrets.clone());
        let pulse = Pulse::new();
        let (deliveries, handle) =
            Deliveries::new(store.clone(), self.client.clone(), vault.clone(), pulse.clone(), self.clock.clone(), 1);
        let poller = Poller {
            store,
            client: self.client.clone(),
            clock: self.clock.clone(),
            budget: Budget::new(config.daemon.memory),
            vault,
            pulse,
            endpoints: Arc::new(config.endpoints),
            deliveries: handle,
        };
        Ok(Tried { poller, polled: Polled::new(bridge, None, None), name: name.into(), _deliveries: deliveries })
    }
}

/// A bridge that is polled by hand.
pub(super) struct Tried {
    pub poller: Poller,
    pub polled: Polled,
    pub name: Name,
    /// Not running: it holds what the poller hands over.
    _deliveries: Deliveries,
}

/// The addresses of a URL's host that are neither public nor allowed. Of a name that is not found the request tells.
pub(super) async fn private(url: &Url, allow: &[IpNet]) -> Vec<Refused> {
    let egress = Egress::new(allow.to_vec());
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: BTreeSet<IpAddr> = match bare.parse::<IpAddr>() {
        Ok(address) => BTreeSet::from([address]),
        Err(_) => {
            let port = url.port_or_known_default().unwrap_or(80);
            let found = tokio::net::lookup_host((bare, port)).await;
            found.map(|all| all.map(|address| address.ip()).collect()).unwrap_or_default()
        }
    };
    addresses.into_iter().filter_map(|address| egress.judge(bare, address).err()).collect()
}
