//! Which addresses may be reached: public ones, and what `network.allow` names.
//!
//! Every address is judged at connect time, after DNS, and literals before a request is made, because the client's
//! resolver is not asked for those. What is reachable is a list of what is global: of IPv4 all but IANA's special blocks, of IPv6
//! what is given out, less those (RFC 6890 and its updates).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::names::Names;

/// Special-purpose ranges and what they are.
static RANGES: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
    [
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local and cloud metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::ffff:0:0:0/96", "translated IPv4"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "dummy"),
        ("2001:2::/48", "benchmarking"),
        ("2001:10::/28", "ORCHID"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        // Teredo has addresses in it that are judged themselves.
        ("2001::/23", "protocol assignments"),
    ]
    .map(|(net, what)| (net.parse().expect("a range"), what))
    .to_vec()
});

/// Parts of these that are global all the same.
static GLOBAL: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    [
        "192.0.0.9/32",
        "192.0.0.10/32",
        "2001::/32",
        "2001:1::1/128",
        "2001:1::2/128",
        "2001:1::3/128",
        "2001:3::/32",
        "2001:4:112::/48",
        "2001:20::/28",
        "2001:30::/28",
    ]
    .map(|net| net.parse().expect("a range"))
    .to_vec()
});

/// All of IPv6 that is given out (RFC 4291), and the prefix that leads to all of IPv4 (RFC 6052).
static UNICAST: LazyLock<[IpNet; 2]> =
    LazyLock::new(|| ["2000::/3", "64:ff9b::/96"].map(|net| net.parse().expect("a range")));

/// An address that may not be reached.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{host} is refused: {address} is in {range} ({what}); to reach it, add \"{range}\" to `network.allow`")]
pub struct Refused {
    pub host: String,
    pub address: IpAddr,
    pub range: IpNet,
    pub what: &'static str,
}

/// The rule, and a resolver that applies it.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    allow: Arc<Vec<IpNet>>,
    names: Names,
}

impl Egress {
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow: Arc::new(allow), names: Names::default() }
    }

    /// Judges one address; `host` is for the message.
    pub fn judge(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        if self.allowed(address) {
            return Ok(());
        }
        for form in std::iter::once(address).chain(embedded(address)) {
            if self.allowed(form) {
                continue;
            }
            if GLOBAL.iter().any(|range| range.contains(&form)) {
                continue;
            }
            let special = RANGES.iter().find(|(range, _)| range.contains(&form)).copied();
            if let Some((range, what)) = special.or_else(|| not_given_out(form)) {
                return Err(Refused { host: host.to_owned(), address, range, what });
            }
        }
        Ok(())
    }

    /// Judges a URL whose host is an address, in whatever spelling: the URL's parser has read `0x7f.1` already.
    pub fn judge_literal(&self, url: &Url) -> Result<(), Refused> {
        match url.host() {
            Some(Host::Ipv4(v4)) => self.judge(&v4.to_string(), v4.into()),
            Some(Host::Ipv6(v6)) => self.judge(&v6.to_string(), v6.into()),
            _ => Ok(()),
        }
    }

    fn allowed(&self, address: IpAddr) -> bool {
        let mapped = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        self.allow.iter().any(|net| net.contains(&address) || mapped.is_some_and(|v4| net.contains(&v4)))
    }
}

/// What is not a list of today may be one of tomorrow, and some machines route what nobody gave out.
fn not_given_out(address: IpAddr) -> Option<(IpNet, &'static str)> {
    let IpAddr::V6(v6) = address else { return None };
    let is_global = UNICAST.iter().any(|range| range.contains(&address)) || v6.to_ipv4_mapped().is_some();
    (!is_global).then(|| (IpNet::from(address), "not given out"))
}

/// The IPv4 addresses that an IPv6 address stands for: mapped, compatible, NAT64, 6to4 and Teredo.
fn embedded(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => {
            vec![v4(high, low)]
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => vec![v4(high, low)],
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // Teredo (RFC 4380): the server's address, and the client's with its bits flipped.
        [0x2001, 0, s_high, s_low, _, _, c_high, c_low] => vec![v4(s_high, s_low), v4(!c_high, !c_low)],
        _ => Vec::new(),
    }
}

/// Every address of a name is judged; one bad one refuses the name.
impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.clone();
        Box::pin(async move {
            let addresses = egress.names.addresses(name.as_str()).await?;
            for address in addresses.iter() {
                egress.judge(name.as_str(), *address)?;
            }
            let addresses: Vec<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(*address, 0)).collect();
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_refused_in_every_spelling() {
        let egress = Egress::default();
        let refused = [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[2001:0:0a00:1::]/",
            "http://[2001:0:808:808::f5ff:fffe]/",
            "http://10.1.2.3/",
            "http://172.31.0.1/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://0.0.0.0/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "http://[2001:db8::1]/",
            "http://[::]/",
            "http://192.0.2.1/",
            "http://168.63.129.16/",
        ];
        for url in refused {
            let parsed: Url = url.parse().expect(url);
            assert!(egress.judge_literal(&parsed).is_err(), "{url}");
        }
        for url in [
            "http://1.1.1.1/",
            "http://[2606:4700::1111]/",
            "http://[64:ff9b::101:101]/",
            "http://[2002:101:101::1]/",
            "http://172.32.0.1/",
        ] {
            let parsed: Url = url.parse().expect(url);
            assert_eq!(egress.judge_literal(&parsed), Ok(()), "{url}");
        }
    }

    /// The registries of October 2025, by hand: block, and whether it is globally reachable.
    const REGISTRY: [(&str, bool); 46] = [
        ("0.0.0.0/8", false),
        ("10.0.0.0/8", false),
        ("100.64.0.0/10", false),
        ("127.0.0.0/8", false),
        ("169.254.0.0/16", false),
        ("172.16.0.0/12", false),
        ("192.0.0.0/29", false),
        ("192.0.0.8/32", false),
        ("192.0.0.9/32", true),
        ("192.0.0.10/32", true),
        ("192.0.0.170/32", false),
        ("192.0.0.171/32", false),
        ("192.0.2.0/24", false),
        ("192.31.196.0/24", true),
        ("192.52.193.0/24", true),
        ("192.88.99.2/32", false),
        ("192.168.0.0/16", false),
        ("192.175.48.0/24", true),
        ("198.18.0.0/15", false),
        ("198.51.100.0/24", false),
        ("203.0.113.0/24", false),
        ("240.0.0.0/4", false),
        ("255.255.255.255/32", false),
        ("::1/128", false),
        ("::/128", false),
        ("64:ff9b:1::/48", false),
        ("100::/64", false),
        ("100:0:0:1::/64", false),
        ("2001:1::/128", false),
        ("2001:1::1/128", true),
        ("2001:1::2/128", true),
        ("2001:1::3/128", true),
        ("2001:2::/48", false),
        ("2001:3::/32", true),
        ("2001:4:112::/48", true),
        ("2001:10::/28", false),
        ("2001:20::/28", true),
        ("2001:30::/28", true),
        ("2001:db8::/32", false),
        ("2620:4f:8000::/48", true),
        ("3fff::/20", false),
        ("5f00::/16", false),
        ("fc00::/7", false),
        ("fe80::/10", false),
        ("fec0::/10", false),
        ("ff00::/8", false),
    ];

    /// By the registry, of all blocks that hold an address the narrowest; else by what is given out.
    fn is_global(address: IpAddr) -> bool {
        let blocks = REGISTRY.iter().map(|(net, global)| (net.parse::<IpNet>().expect("a range"), *global));
        let narrowest = blocks.filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
        let wide = |net: &str| net.parse::<IpNet>().expect("a range").contains(&address);
        match (narrowest, address) {
            (Some((_, global)), _) => global,
            (None, IpAddr::V4(_)) => !wide("224.0.0.0/4") && !wide("192.0.0.0/24") && !wide("192.88.99.0/24"),
            (None, IpAddr::V6(_)) => wide("2000::/3") && !wide("2001::/23"),
        }
    }

    #[test]
    fn every_block_of_the_registries_and_what_lies_beside() {
        let (egress, mut judged) = (Egress::default(), 0);
        let step = |address: IpAddr, up: bool| match address {
            IpAddr::V4(v4) => {
                let number = u32::from(v4);
                IpAddr::V4(if up { number.saturating_add(1) } else { number.saturating_sub(1) }.into())
            }
            IpAddr::V6(v6) => {
                let number = u128::from(v6);
                IpAddr::V6(if up { number.saturating_add(1) } else { number.saturating_sub(1) }.into())
            }
        };
        for (block, _) in REGISTRY {
            let net: IpNet = block.parse().expect("a range");
            let (first, last) = (net.network(), net.broadcast());
            for address in [first, last, step(first, false), step(last, true)] {
                // What stands for an IPv4 address is judged as that.
                if !embedded(address).is_empty() {
                    continue;
                }
                judged += 1;
                assert_eq!(egress.judge("host", address).is_ok(), is_global(address), "{address}, beside {block}");
            }
        }
        assert!(judged > 170, "{judged}");
        // 1,000 others, spread by a hash.
        for number in 0..1000_u32 {
            let hash = crate::model::Hash::of(&number.to_be_bytes()).0;
            let v6 = IpAddr::V6(hash.into());
            let v4 = IpAddr::V4([hash[0], hash[1], hash[2], hash[3]].into());
            for address in [v6, v4] {
                if embedded(address).is_empty() {
                    assert_eq!(egress.judge("host", address).is_ok(), is_global(address), "{address}");
                }
            }
        }
    }

    #[test]
    fn an_error_names_address_range_and_setting() {
        let url: Url = "http://169.254.169.254/".parse().expect("a url");
        let error = Egress::default().judge_literal(&url).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "169.254.169.254 is refused: 169.254.169.254 is in 169.254.0.0/16 (link-local and cloud metadata); to reach it, add \"169.254.0.0/16\" to `network.allow`"
        );
    }

    #[test]
    fn what_is_allowed_is_allowed_in_its_mapped_form_too() {
        let egress = Egress::new(vec!["10.0.0.0/8".parse().expect("a range")]);
        for ok in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"] {
            assert_eq!(egress.judge("h", ok.parse().expect(ok)), Ok(()), "{ok}");
        }
        assert!(egress.judge("h", "127.0.0.1".parse().expect("an address")).is_err());
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        use std::str::FromStr;
        let name = Name::from_str("localhost").expect("a name");
        let Err(error) = Egress::default().resolve(name).await else { panic!("localhost is loopback") };
        assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
    }
}
