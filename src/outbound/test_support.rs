//! A scripted HTTP server on loopback, for the tests of everything that sends requests.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Serves one fixed response per path, on a free port. Runs until the test process ends.
#[derive(Clone)]
pub(crate) struct TestServer {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, Page>>>,
}

#[derive(Default)]
struct Page {
    hits: usize,
    last_head: String,
    response: Vec<u8>,
    then: Then,
}

/// What the server does after it has sent the response's bytes.
#[derive(Clone, Copy, Default)]
pub(crate) enum Then {
    /// Closes the connection.
    #[default]
    Close,
    /// Keeps the connection open and sends nothing.
    Hang,
    /// Sends spaces until the client closes the connection.
    SendForever,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), pages: Arc::default() };
        let acceptor = server.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let server = acceptor.clone();
                std::thread::spawn(move || server.serve(connection));
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> url::Url {
        self.url_by_name("127.0.0.1", path)
    }

    /// The URL of `path` with `host` in place of the address.
    pub(crate) fn url_by_name(&self, host: &str, path: &str) -> url::Url {
        format!("http://{host}:{}{path}", self.address.port()).parse().unwrap()
    }

    /// Serves 200 with this body and these additional header lines at `path`.
    pub(crate) fn put(&self, path: &str, headers: &str, body: &[u8]) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
        self.put_raw(path, [head.as_bytes(), body].concat(), Then::Close);
    }

    pub(crate) fn put_raw(&self, path: &str, response: impl Into<Vec<u8>>, then: Then) {
        let mut pages = self.pages.lock().unwrap();
        let page = pages.entry(path.to_owned()).or_default();
        (page.response, page.then) = (response.into(), then);
    }

    /// How many requests for `path` have arrived.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.pages.lock().unwrap().get(path).map_or(0, |page| page.hits)
    }

    /// The head of the last request for `path`.
    pub(crate) fn last_head(&self, path: &str) -> String {
        self.pages.lock().unwrap().get(path).map(|page| page.last_head.clone()).unwrap_or_default()
    }

    fn serve(&self, mut connection: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|read| read == 1) {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (response, then) = {
            let mut pages = self.pages.lock().unwrap();
            let page = pages.entry(path).or_default();
            page.hits += 1;
            page.last_head = head;
            (page.response.clone(), page.then)
        };
        let _ = connection.write_all(&response);
        match then {
            Then::Close => {}
            Then::Hang => drop(connection.read(&mut byte)),
            Then::SendForever => while connection.write_all(&[b' '; 4096]).is_ok() {},
        }
    }
}
