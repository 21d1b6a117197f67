#![no_main]

//! Bytes on a connection of the admin server: it answers or closes, and goes on.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bellpull::{
    admin::{self, Codes, Gate, Standing, Web},
    pulse::Pulse,
    settings::secret::Secret,
};
use libfuzzer_sys::fuzz_target;
use tokio::{net::TcpListener, sync::watch};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const WITHIN: Duration = Duration::from_secs(8);

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
            told.send(listener.local_addr().expect("an address")).expect("told");
            let (_standing, standing) = watch::channel(Standing::NotReady("nothing is open".into()));
            let web =
                Web { standing, pulse: Pulse::new(), shutdown: Default::default(), page: Arc::default(), codes: Codes::default(), reloads: Default::default() };
            admin::serve(listener, web, Gate { token: Secret::new(TOKEN.into()), hosts: Vec::new() }).await;
        });
    });
    address.recv().expect("it starts")
});

/// What is answered; with `ends` nothing more comes behind the bytes, which the server may take for the end of it all.
fn answer(data: &[u8], ends: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(*SERVER).expect("it takes connections");
    stream.set_read_timeout(Some(WITHIN)).expect("set");
    let _ = stream.write_all(data);
    if ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("neither an answer nor an end"),
        _ => answer,
    }
}

fuzz_target!(|data: &[u8]| {
    let said = answer(data, true);
    // Without the token nothing of the API is said but that.
    if !String::from_utf8_lossy(data).contains(TOKEN) {
        assert!(!String::from_utf8_lossy(&said).contains("\"bridges\""));
    }
    let live = answer(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", false);
    assert!(live.starts_with(b"HTTP/1.1 200"));
});
