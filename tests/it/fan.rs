//! `each`: members of a list, polled as bridges of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::support::{
    rig::World,
    server::{Answer, Request, Server, eventually},
};

/// Serves JSON texts by path and query.
#[derive(Default)]
struct Shelf {
    texts: Mutex<BTreeMap<String, String>>,
    asked: Mutex<Vec<String>>,
}

impl Shelf {
    async fn start(texts: &[(&str, &str)]) -> (Arc<Self>, Server) {
        let shelf = Arc::new(Self::default());
        for (path, text) in texts {
            shelf.put(path, text);
        }
        let on = shelf.clone();
        let server = Server::start(Arc::new(move |request: Request| {
            on.asked.lock().unwrap().push(request.target.clone());
            match on.texts.lock().unwrap().get(&request.target) {
                Some(text) => Answer::json(text.clone()).into(),
                None => Answer::new(404, "no such thing").into(),
            }
        }))
        .await;
        (shelf, server)
    }

    fn put(&self, path: &str, text: &str) {
        self.texts.lock().unwrap().insert(path.into(), text.into());
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

const ISSUES: &str = r#"
[bridge.issues]
every = "100ms"
EACH
items = ".[]"
key = ".id"
to = ["me"]
source.http.url = { jq = '"SERVER/repos/" + .item' }
source.http.query = { state = "open" }
"#;

/// Sorted type, bridge and key of what arrived.
fn arrived(world: &World) -> Vec<String> {
    let mut all: Vec<String> = world
        .receiver
        .received()
        .iter()
        .map(|r| {
            let data = &r.body["data"];
            format!("{} {} {} #{}", r.body["type"], data["bridge"], data["item"], data["sequence"]).replace('"', "")
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn members_of_a_list_have_snapshots_and_sequences_of_their_own() {
    let (shelf, server) = Shelf::start(&[
        ("/repos/a/x?state=open", r#"[{"id":1}]"#),
        ("/repos/b%20c?state=open", r#"[{"id":1},{"id":2}]"#),
    ])
    .await;
    let text = ISSUES.replace("EACH", "each.list = [\"a/x\", \"b%20c\"]").replace("SERVER", &server.origin());
    let mut world = World::start(&text).await;
    let handle = world.rig.run().await;
    eventually("both have their baseline", async || {
        let status = handle.status().await;
        status.len() == 2 && status.values().all(|s| s.state.word() == "ok")
    })
    .await;
    let status = handle.status().await;
    let records: Vec<(&str, u64)> = status.iter().map(|(name, s)| (&**name, s.records)).collect();
    assert_eq!(records, [("issues/a/x", 1), ("issues/b%20c", 2)]);
    // The same key in both: two records, each with a sequence of its member.
    shelf.put("/repos/a/x?state=open", r#"[{"id":1,"v":1}]"#);
    shelf.put("/repos/b%20c?state=open", r#"[{"id":1,"v":2},{"id":2}]"#);
    world.receiver.wait_taken("/me", 2).await;
    assert_eq!(arrived(&world), ["issues.updated issues/a/x a/x #1", "issues.updated issues/b%20c b%20c #1"]);
    // One that fails does not stop the other.
    shelf.texts.lock().unwrap().remove("/repos/a/x?state=open");
    shelf.put("/repos/b%20c?state=open", r#"[{"id":1,"v":2}]"#);
    world.receiver.wait_taken("/me", 3).await;
    eventually("it fails", async || handle.status().await["issues/a/x"].state.word() == "failing").await;
    assert_eq!(handle.status().await["issues/b%20c"].state.word(), "ok");
}

#[tokio::test]
async fn members_follow_the_records_of_another_bridge() {
    let (shelf, server) = Shelf::start(&[
        ("/list", r#"[{"name":"a","stars":1},{"name":"b","stars":1}]"#),
        ("/repos/a?state=open", r#"[{"id":1}]"#),
        ("/repos/b?state=open", r#"[{"id":1}]"#),
        ("/repos/c?state=open", r#"[{"id":7}]"#),
    ])
    .await;
    let list = "[bridge.repos]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".name\"\nto = [\"me\"]\non = [\"deleted\"]\n\
                guard.deletes = 1\nsource.http.url = \"SERVER/list\"\n";
    let text = format!("{ISSUES}{list}").replace("EACH", "each = { bridge = \"repos\", item = \".name\" }");
    let mut world = World::start(&text.replace("SERVER", &server.origin())).await;
    let handle = world.rig.run().await;
    let names = async || handle.status().await.into_keys().map(|name| name.to_string()).collect::<Vec<_>>();
    eventually("both are there", async || {
        let status = handle.status().await;
        ["issues/a", "issues/b"].iter().all(|name| status.get(*name).is_some_and(|s| s.state.word() == "ok"))
    })
    .await;
    // One comes, one goes, and what is not its name is no matter of the member's.
    shelf.put("/list", r#"[{"name":"a","stars":5},{"name":"c","stars":0}]"#);
    eventually("c is polled, b no more", async || {
        names().await == ["issues/a", "issues/c", "repos"] && handle.status().await["issues/c"].state.word() == "ok"
    })
    .await;
    let asked = shelf.asked("/repos/b?state=open");
    let more = shelf.asked("/repos/a?state=open") + 3;
    eventually("time goes by", async || shelf.asked("/repos/a?state=open") >= more).await;
    assert!(shelf.asked("/repos/b?state=open") <= asked + 1, "b is left alone");
    // It comes back and goes on where it stood: what changed meanwhile is an event, and no baseline.
    shelf.put("/repos/b?state=open", r#"[{"id":1},{"id":2}]"#);
    shelf.put("/list", r#"[{"name":"a"},{"name":"b"},{"name":"c"}]"#);
    world.receiver.wait_taken("/me", 2).await;
    let lines = arrived(&world);
    assert!(lines.contains(&"issues.created issues/b b #1".to_owned()), "{lines:?}");
    // The same configuration again: the members are read from the store.
    handle.apply(world.rig.config.bridges.clone(), world.rig.poller.clone()).await;
    assert_eq!(names().await, ["issues/a", "issues/b", "issues/c", "repos"]);
}

/// A member's item became another file's name: the validators of the one were sent to the other, whose 304 froze the member.
#[tokio::test]
async fn a_member_with_another_item_asks_without_the_old_validators() {
    let (shelf, server) = Shelf::start(&[
        ("/list", r#"[{"id":1,"file":"a"}]"#),
        ("/repos/a?state=open", "[]"),
        ("/repos/b?state=open", r#"[{"id":7}]"#),
    ])
    .await;
    let list = "[bridge.repos]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".id\"\nto = [\"me\"]\non = [\"deleted\"]\n\
                source.http.url = \"SERVER/list\"\n";
    let text = format!("{ISSUES}{list}")
        .replace("EACH", "guard.definition = 1\neach = { bridge = \"repos\", item = \".file\" }");
    let mut world = World::start(&text.replace("SERVER", &server.origin())).await;
    let handle = world.rig.run().await;
    eventually("its baseline", async || handle.status().await.get("issues/1").is_some_and(|s| s.state.word() == "ok"))
        .await;
    shelf.put("/list", r#"[{"id":1,"file":"b"}]"#);
    eventually("it is polled with its new item", async || {
        handle.status().await.get("issues/1").is_some_and(|s| s.records == 1)
    })
    .await;
    world.receiver.wait_taken("/me", 1).await;
    assert_eq!(arrived(&world), ["issues.created issues/1 b #1"]);
}

/// The list lost most of its records and was held; after `accept` its members went on as before.
#[tokio::test]
async fn an_accepted_list_changes_its_members() {
    let (shelf, server) = Shelf::start(&[]).await;
    let all: Vec<String> = (0..12).map(|n| format!(r#"{{"name":"m{n}"}}"#)).collect();
    shelf.put("/list", &format!("[{}]", all.join(",")));
    for n in 0..12 {
        shelf.put(&format!("/repos/m{n}?state=open"), "[]");
    }
    let list = "[bridge.repos]\nevery = \"100ms\"\nitems = \".[]\"\nkey = \".name\"\nto = [\"me\"]\nsource.http.url = \"SERVER/list\"\n";
    let text = format!("{ISSUES}{list}").replace("EACH", "each = { bridge = \"repos\", item = \".name\" }");
    let mut world = World::start(&text.replace("SERVER", &server.origin())).await;
    let handle = world.rig.run().await;
    eventually("all members", async || handle.status().await.len() == 13).await;
    shelf.put("/list", r#"[{"name":"m0"}]"#);
    eventually("it is held", async || handle.status().await["repos"].state.word() == "held").await;
    handle.accept("repos".into(), None).await.expect("accepted");
    eventually("one member", async || handle.status().await.len() == 2).await;
}
