//! `daemon.hosts`: names by which the page and the API are asked for.

use std::net::Ipv6Addr;

use url::Host;

use crate::settings::{
    Item,
    key::{Form, Shape, keys},
    secret::read_env,
};

const KINDS: &[Shape] = &[Shape::Text, Shape::Table(&host::FAMILY)];
const HOST: &Shape = &Shape::OneOf(KINDS);
/// In lower case, as a browser sends them.
pub const HOSTS: Form<Vec<String>> = Form::shown_by(
    Shape::List(HOST),
    |item| {
        // Each mistake is told.
        let all: Vec<_> = item.items()?.iter().map(read_hosts).collect();
        Some(all.into_iter().collect::<Option<Vec<_>>>()?.concat())
    },
    |hosts| hosts.as_slice().into(),
);

keys! {
    /// A name that is not known when the file is written.
    mod host;
    /// A variable of the environment that holds a host, or several with commas between them, such as the addresses of a pod.
    need ENV: String = "env", TEXT, "hosts = [{ env = \"POD_IP\" }]";
}

fn read_hosts(item: &Item<'_>) -> Option<Vec<String>> {
    if !item.is_table() {
        let text = item.string()?;
        return match read(text) {
            Ok(host) => Some(vec![host]),
            Err(why) => {
                let report = item.error(format!("`{}`: {text:?} {why}", item.path));
                match likely(text) {
                    Some(host) => report.help(format!("write {host:?}")).report(),
                    None => report.help("a name such as \"bell.example.com\", or an address".into()).report(),
                }
                None
            }
        };
    }
    let mut table = item.table()?;
    let name = table.need(&host::ENV);
    table.finish();
    let name = name?;
    if !item.context().resolve {
        return Some(Vec::new());
    }
    let hosts = read_env(&name).and_then(|text| {
        let hosts =
            text.split(',').map(|one| read(one.trim()).map_err(|why| format!("one of the hosts in {name} {why}")));
        hosts.collect::<Result<Vec<_>, _>>()
    });
    // Not with what the variable holds: it may be the wrong variable.
    hosts.map_err(|why| item.error(format!("`{}`: {why}", item.path)).report()).ok()
}

/// A host as `Host` has it, without a port; or why it can be none.
fn read(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.contains("://") {
        return Err("has a scheme, which no `Host` has");
    }
    if text.contains(['/', '?', '#']) {
        return Err("has a path, which no `Host` has");
    }
    if text.contains('*') {
        return Err("is a pattern: each name stands for itself");
    }
    if text.contains('@') {
        return Err("has a user, which no `Host` has");
    }
    // As addresses are written outside of URLs.
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    match Host::parse(text) {
        // A URL may have more in it than a name has.
        Ok(Host::Domain(name)) if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) => {
            Err("is not the name or the address of a host")
        }
        Ok(host) => Ok(host.to_string()),
        Err(_) if without_port(text).is_some() => Err("has a port: a name counts for each port"),
        Err(_) => Err("is not the name or the address of a host"),
    }
}

fn without_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| Host::parse(host).ok())?.map(|host| host.to_string())
}

/// What was most likely meant.
fn likely(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next()?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    read(rest).ok().or_else(|| without_port(rest).filter(|host| !host.contains('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host between what people write around it: alone it is taken, with anything else it is refused, and the host is what is advised.
    #[test]
    fn only_a_host_is_one() {
        let hosts = [
            ("bell.example.com", "bell.example.com"),
            ("Bell.Example", "bell.example"),
            ("bell", "bell"),
            ("bell.default.svc.cluster.local", "bell.default.svc.cluster.local"),
            ("10.1.2.3", "10.1.2.3"),
            ("[fd00::1]", "[fd00::1]"),
            ("bücher.example", "xn--bcher-kva.example"),
        ];
        for (written, sent) in hosts {
            for before in ["", "https://", "http://", "user@", "https://user:word@"] {
                for after in ["", ":8642", "/", "/path", ":8642/path?x=1", "#part"] {
                    let text = format!("{before}{written}{after}");
                    let found = read(&text);
                    if before.is_empty() && after.is_empty() {
                        assert_eq!(found.as_deref(), Ok(sent), "{text}");
                    } else {
                        assert!(found.is_err(), "{text}: {found:?}");
                        assert_eq!(likely(&text).as_deref(), Some(sent), "{text}");
                    }
                }
            }
        }
        assert_eq!(read("fd00::1").as_deref(), Ok("[fd00::1]"));
        for wrong in
            ["", " ", "*", "*.example.com", "two words", "a,b", "[fd00::1", "bell.example:", "https://", "a\nb"]
        {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
