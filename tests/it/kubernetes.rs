//! docs/kubernetes.yaml does what it says: it is YAML, and its paths, ports, probes and files are the daemon's and the image's.

use std::{collections::BTreeMap, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use bellpull::config::{self, Secrets};
use serde_json::{Map, Value as Json, json};

use crate::support::{daemon::Place, receiver::SECRET};

const MANIFEST: &str = "docs/kubernetes.yaml";

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The YAML of a manifest: mappings, lists and block scalars by indentation, and scalars of one line. Panics on all else, so that what
/// it takes means the same to each reader of YAML.
mod yaml {
    use super::{Json, Map};

    #[derive(Clone, Copy)]
    struct Line<'a> {
        indent: usize,
        text: &'a str,
        /// As it stands in the file.
        whole: &'a str,
    }

    pub fn documents(text: &str) -> Vec<Json> {
        text.split("\n---\n").map(document).collect()
    }

    fn document(text: &str) -> Json {
        assert!(!text.contains('\t'), "YAML indents by spaces");
        let line = |whole| Line { indent: str::len(whole) - whole.trim_start().len(), text: whole.trim(), whole };
        let lines: Vec<Line<'_>> = text.lines().map(line).collect();
        let mut at = 0;
        let value = block(&lines, &mut at, 0);
        skip(&lines, &mut at);
        assert_eq!(at, lines.len(), "left over: {:?}", lines.get(at).map(|line| line.whole));
        value
    }

    fn skip(lines: &[Line<'_>], at: &mut usize) {
        while lines.get(*at).is_some_and(|line| line.text.is_empty() || line.text.starts_with('#')) {
            *at += 1;
        }
    }

    /// What stands at an indentation.
    fn block(lines: &[Line<'_>], at: &mut usize, indent: usize) -> Json {
        skip(lines, at);
        let first = lines.get(*at).filter(|line| line.indent == indent).expect("a block");
        if first.text.starts_with("- ") { list(lines, at, indent) } else { mapping(lines, at, indent, None) }
    }

    fn list(lines: &[Line<'_>], at: &mut usize, indent: usize) -> Json {
        let mut out = Vec::new();
        loop {
            skip(lines, at);
            let Some(line) = lines.get(*at).filter(|line| line.indent == indent) else { break };
            let rest = line.text.strip_prefix("- ").unwrap_or_else(|| panic!("an entry of a list: {}", line.whole));
            if key(rest).is_some() {
                out.push(mapping(lines, at, indent + 2, Some(rest)));
            } else {
                *at += 1;
                out.push(scalar(rest));
            }
        }
        Json::Array(out)
    }

    /// `first` is what stands behind the dash of a list's entry.
    fn mapping<'a>(lines: &[Line<'a>], at: &mut usize, indent: usize, first: Option<&'a str>) -> Json {
        let (mut out, mut first) = (Map::new(), first);
        loop {
            skip(lines, at);
            let Some(line) = lines.get(*at) else { break };
            let text = match first.take() {
                Some(text) => text,
                None if line.indent == indent && !line.text.starts_with("- ") => line.text,
                None => break,
            };
            let (name, rest) = key(text).unwrap_or_else(|| panic!("a key: {}", line.whole));
            *at += 1;
            let value = match rest {
                "|" => literal(lines, at, indent),
                "" => {
                    skip(lines, at);
                    let next = lines.get(*at).expect("a value").indent;
                    assert!(next > indent, "{name} has no value");
                    block(lines, at, next)
                }
                rest => scalar(rest),
            };
            assert!(out.insert(name.to_owned(), value).is_none(), "{name} stands there twice");
        }
        Json::Object(out)
    }

    fn key(text: &str) -> Option<(&str, &str)> {
        let (name, rest) = text.split_once(':')?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        (is_name && (rest.is_empty() || rest.starts_with(' '))).then(|| (name, rest.trim()))
    }

    fn literal(lines: &[Line<'_>], at: &mut usize, parent: usize) -> Json {
        let indent = lines.get(*at).expect("a text").indent;
        assert!(indent > parent, "a text is indented");
        let mut out = String::new();
        while let Some(line) = lines.get(*at).filter(|line| line.text.is_empty() || line.indent >= indent) {
            out.push_str(line.whole.get(indent..).unwrap_or_default());
            out.push('\n');
            *at += 1;
        }
        Json::String(format!("{}\n", out.trim_end()))
    }

    fn scalar(text: &str) -> Json {
        if let Some(rest) = text.strip_prefix('"') {
            let (inner, rest) = rest.split_once('"').expect("the end of a string");
            assert!(!inner.contains('\\') && (rest.is_empty() || rest.starts_with(" #")), "{text}");
            return inner.into();
        }
        let text = text.split(" #").next().unwrap_or_default().trim();
        let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:".contains(c));
        assert!(is_plain && !text.contains(": "), "a scalar in quotes: {text}");
        match text {
            "true" => true.into(),
            "false" => false.into(),
            // YAML 1.1, which Kubernetes reads.
            _ if text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()) => {
                i64::from_str_radix(text, 8).expect("octal").into()
            }
            _ => text.parse::<i64>().map_or_else(|_| text.into(), Json::from),
        }
    }
}

/// The objects, by kind.
fn objects() -> BTreeMap<String, Json> {
    let kind = |object: Json| (object["kind"].as_str().expect("a kind").to_owned(), object);
    yaml::documents(&read(MANIFEST)).into_iter().map(kind).collect()
}

fn toml() -> String {
    objects()["ConfigMap"]["data"]["bridges.toml"].as_str().expect("a file").to_owned()
}

fn container() -> Json {
    objects()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn yaml_is_read_as_others_read_it() {
    let text = "# a\na: 1 # one\nb:\n  - c: \"x: # y\"\n    d: true\n  - e: 0440\nf: |\n  [x]\n\n    # y\n  z = 1\ng:\n  - h\n  - i/j\n";
    let expected = json!({ "a": 1, "b": [{ "c": "x: # y", "d": true }, { "e": 288 }], "f": "[x]\n\n  # y\nz = 1\n", "g": ["h", "i/j"] });
    assert_eq!(yaml::documents(text), [expected]);
    for wrong in [
        "a:\n\tb: 1\n",
        "a: 1\na: 2\n",
        "a: {b: 1}\n",
        "a: [1]\n",
        "a: &x 1\n",
        "a: \"b\n",
        "a:\n  b: 1\n c: 2\n",
        "a: 'b'\n",
    ] {
        assert!(std::panic::catch_unwind(|| yaml::documents(wrong)).is_err(), "{wrong:?}");
    }
}

/// Another reader of YAML, where there is one, reads the same.
#[test]
fn python_reads_the_same() {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST);
    let Ok(ran) = Command::new("python3").arg("-c").arg(script).arg(file).output() else {
        println!("skipped: python3 is absent");
        return;
    };
    if !ran.status.success() && String::from_utf8_lossy(&ran.stderr).contains("ModuleNotFoundError") {
        println!("skipped: PyYAML is absent");
        return;
    }
    let theirs: Vec<Json> =
        serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&ran.stderr)));
    assert_eq!(yaml::documents(&read(MANIFEST)), theirs);
}

/// What a schema of Kubernetes says of it, where kubeconform is at hand.
#[test]
fn kubeconform_takes_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST);
    match Command::new("kubeconform").args(["-strict", "-summary"]).arg(file).output() {
        Ok(ran) => assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout)),
        Err(_) => println!("skipped: kubeconform is absent"),
    }
}

#[test]
fn its_parts_belong_together() {
    let objects = objects();
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["ConfigMap", "Secret", "Service", "StatefulSet"]);
    let set = &objects["StatefulSet"]["spec"];
    assert_eq!(set["replicas"], 1, "a store has one owner");
    let labels = &set["template"]["metadata"]["labels"];
    for selector in [&set["selector"]["matchLabels"], &objects["Service"]["spec"]["selector"]] {
        assert_eq!(selector, labels);
    }
    let pod = &set["template"]["spec"];
    let container = container();
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let mount = |name: &str| mounts.iter().find(|mount| mount["name"] == name).expect("it is mounted");
    let volumes = pod["volumes"].as_array().expect("volumes");
    let volume = |name: &str| volumes.iter().find(|volume| volume["name"] == name).expect("it is there");
    // Arbitrary users, and nothing to write but the volume.
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(
        pod["securityContext"].get("runAsUser").is_none() && container["securityContext"].get("runAsUser").is_none()
    );
    assert!(pod["securityContext"]["fsGroup"].is_i64());
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    for read_only in ["config", "secrets"] {
        assert_eq!(mount(read_only)["readOnly"], true, "{read_only}");
    }
    assert_eq!(volume("secrets")["secret"]["defaultMode"], 0o440);
    assert_eq!(volume("secrets")["secret"]["secretName"], objects["Secret"]["metadata"]["name"]);
    assert_eq!(volume("config")["configMap"]["name"], objects["ConfigMap"]["metadata"]["name"]);
    // The image's own paths.
    let image = read("Containerfile");
    let state = mount("state")["mountPath"].as_str().expect("a path");
    assert!(image.contains(&format!("ENV STATE_DIRECTORY={state}\n")), "{state}");
    assert_eq!(set["volumeClaimTemplates"][0]["metadata"]["name"], mount("state")["name"]);
    let config = format!("{}/bridges.toml", mount("config")["mountPath"].as_str().expect("a path"));
    assert!(image.contains(&format!("CMD [\"--config\", \"{config}\", \"run\"]")), "{config}");
    // What the file names is there, and all that is there is named.
    let (toml, secrets) = (toml(), mount("secrets")["mountPath"].as_str().expect("a path"));
    let keys: Vec<&String> = objects["Secret"]["stringData"].as_object().expect("secrets").keys().collect();
    let named = toml.matches("{ file = ").count();
    assert_eq!(named, keys.len());
    assert!(keys.iter().all(|key| toml.contains(&format!("{{ file = \"{secrets}/{key}\" }}"))), "{keys:?}: {toml}");
    let env: Vec<&str> =
        container["env"].as_array().expect("env").iter().filter_map(|one| one["name"].as_str()).collect();
    for name in toml.split("{ env = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(env.contains(&name), "{name} of bridges.toml is none of {env:?}");
    }
}

/// The file passes `check`, and the ports and the time to stop are those of the daemon.
#[test]
fn its_configuration_is_right() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bridges.toml");
    std::fs::write(&file, toml()).expect("written");
    let config = config::load(&file, Secrets::FormOnly).unwrap_or_else(|failed| panic!("{failed}"));
    let warnings: Vec<&str> = config.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert!(matches!(warnings.as_slice(), [one] if one.contains("go over the network in clear")), "{warnings:?}");
    let listen: SocketAddr = config.daemon.listen.expect("an address");
    assert!(listen.ip().is_unspecified(), "probes come from outside");
    let (container, objects) = (container(), objects());
    let port = &container["ports"][0];
    assert_eq!((&port["name"], &port["containerPort"]), (&json!("http"), &json!(listen.port())));
    let service = &objects["Service"]["spec"]["ports"][0];
    assert_eq!((&service["targetPort"], &service["port"]), (&json!("http"), &json!(listen.port())));
    let pod = &objects["StatefulSet"]["spec"]["template"];
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], listen.port().to_string());
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(grace > config.daemon.shutdown_grace.as_secs());
    assert!(config.daemon.hosts.contains(&objects["Service"]["metadata"]["name"].as_str().expect("a name").to_owned()));
}

/// A real daemon with this file, secrets with the mode that they have there, answers each probe and the scrape by the pod's address.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_it_answers_its_probes() {
    let (objects, container) = (objects(), container());
    let secrets = objects["Secret"]["stringData"].as_object().expect("secrets").clone();
    let started = tokio::task::spawn_blocking(move || {
        let place = Place { dir: tempfile::tempdir().expect("a directory") };
        let (mount, state) = (place.path().join("secrets"), place.path().join("state"));
        std::fs::create_dir(&mount).expect("made");
        for key in secrets.keys() {
            let file = mount.join(key);
            std::fs::write(&file, SECRET).expect("written");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).expect("its mode");
        }
        let toml = toml()
            .replace("0.0.0.0:8642\"", &format!("127.0.0.1:0\"\nstate-dir = {:?}", state.to_str().expect("a path")))
            .replace("/run/secrets/bellpull", mount.to_str().expect("a path"))
            // Nobody outside is asked.
            .replace("[bridge.branches]", "[bridge.branches]\nenabled = false");
        std::fs::write(place.file(), toml).expect("written");
        let daemon = place.start_with(&[("POD_IP", "10.1.2.3")]);
        let link = place.run(&["dashboard"]).out.trim().to_owned();
        (place, daemon, link)
    });
    let (_place, _daemon, link) = started.await.expect("it starts");
    let (base, _) = link.split_once("/#code=").expect("a link");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let mut asked =
        vec![objects["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"].clone()];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "http", "{probe}");
        asked.push(container[probe]["httpGet"]["path"].clone());
    }
    for path in asked {
        let path = path.as_str().expect("a path");
        let answer = http.get(format!("{base}{path}")).header("host", "10.1.2.3:8642").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    }
}
