//! Names that resolve late, differently, or not at all.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// What the test sees of the lookups, and how it answers them.
struct LookupScript {
    started: Receiver<String>,
    results: Sender<io::Result<Vec<IpAddr>>>,
}

/// A resolver whose lookups wait for the script. All of them take their result from one queue.
fn scripted() -> (Resolver, LookupScript) {
    let (start, started) = channel();
    let (results, queue) = channel();
    let queue = Mutex::new(queue);
    let resolver = Resolver::with_lookup(Box::new(move |name| {
        start.send(name.to_owned()).expect("the test waits");
        queue.lock().expect("no lookup panics").recv().unwrap_or_else(|_| Err(io::Error::other("the test has ended")))
    }));
    (resolver, LookupScript { started, results })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ips(addresses: &Addresses) -> Vec<IpAddr> {
    addresses.in_turn().iter().map(|address| address.ip()).collect()
}

#[tokio::test]
async fn all_who_ask_for_a_name_wait_for_one_lookup() {
    let (resolver, script) = scripted();
    let (one, other) = (resolver.host("orders.internal"), resolver.host("orders.internal"));
    let answer = async {
        // Both are waiting by now: the futures below are polled in order.
        script.results.send(Ok(vec![ip("192.0.2.1")])).expect("a lookup waits");
    };
    let (first, second, third, ()) = tokio::join!(one.addresses(), other.addresses(), one.addresses(), answer);
    for addresses in [first, second, third] {
        assert_eq!(ips(&addresses.expect("it resolves")), [ip("192.0.2.1")]);
    }
    assert_eq!(ips(&one.addresses().await.expect("the result is kept")), [ip("192.0.2.1")]);
    assert_eq!(script.started.try_iter().collect::<Vec<_>>(), ["orders.internal"]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_holds_one_thread_and_delays_no_other() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let (start, started) = channel();
    let resolver = Resolver::with_lookup(Box::new(move |name| {
        if name == "dead.internal" {
            start.send(()).expect("the test waits");
            let _ = released.lock().expect("no lookup panics").recv();
            return Err(io::Error::other("no name server answers"));
        }
        Ok(vec![ip("192.0.2.7")])
    }));
    let dead = resolver.host("dead.internal");
    let asked: Vec<_> = (0..1_000).map(|_| dead.addresses()).collect();
    let mut asked: Vec<_> = asked.into_iter().map(Box::pin).collect();
    for request in &mut asked {
        assert!(poll_once(request.as_mut()).await.is_none(), "it waits for the lookup");
    }
    assert_eq!(ips(&resolver.host("alive.internal").addresses().await.expect("it resolves")), [ip("192.0.2.7")]);
    started.recv().expect("the dead name is looked up");
    assert!(started.try_recv().is_err(), "once");
    drop(release);
    for request in asked {
        assert!(request.await.is_err());
    }
    assert!(dead.addresses().await.is_err(), "a failure is kept for a moment");
    assert!(started.try_recv().is_err(), "without another lookup");
}

async fn poll_once<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[test]
fn connections_take_turns_on_the_addresses_and_avoid_those_that_failed() {
    let name = Name::new("orders.internal", &LookupThreads::new(Box::new(|_| Ok(Vec::new()))), &Arc::default());
    let found = |name: &Arc<Name>| name.found().expect("it was looked up");
    name.complete(Ok(vec![ip("2001:db8::1"), ip("192.0.2.2"), ip("192.0.2.1"), ip("192.0.2.1")]));
    let addresses = found(&name);
    let firsts: Vec<_> = (0..4).map(|_| ips(&addresses)[0]).collect();
    assert_eq!(firsts, [ip("192.0.2.1"), ip("192.0.2.2"), ip("2001:db8::1"), ip("192.0.2.1")]);
    addresses.in_turn().iter().find(|address| address.ip() == ip("192.0.2.2")).expect("listed").backoff().fail();
    for _ in 0..3 {
        assert_eq!(ips(&addresses)[2], ip("192.0.2.2"), "it is tried last");
    }

    name.complete(Ok(vec![ip("192.0.2.2"), ip("192.0.2.3")]));
    let addresses = found(&name);
    assert_eq!(ips(&addresses), [ip("192.0.2.3"), ip("192.0.2.2")], "its failures are remembered");
    assert!(name.has(ip("192.0.2.3")) && !name.has(ip("192.0.2.1")), "an address that is gone is not used again");

    name.complete(Err(io::Error::other("no name server answers")));
    assert!(Arc::ptr_eq(&found(&name), &addresses), "the last result stays in use");
    name.complete(Ok(vec![ip("192.0.2.3"), ip("192.0.2.2")]));
    assert!(Arc::ptr_eq(&found(&name), &addresses), "the same addresses in another order are the same");
    name.complete(Ok((0..100).map(|last| ip(&format!("192.0.2.{last}"))).collect()));
    assert_eq!(ips(&found(&name)).len(), MAX_ADDRESSES);
}

#[test]
fn only_as_many_names_as_there_are_threads_are_looked_up_at_a_time() {
    let (resolver, script) = scripted();
    let hosts: VecDeque<_> = (0..20).map(|n| resolver.host(&format!("n{n}.internal"))).collect();
    for host in &hosts {
        host.refresh();
        host.refresh();
    }
    for _ in 0..8 {
        script.started.recv().expect("a thread looks up");
    }
    assert!(script.started.try_recv().is_err());
    for _ in 0..20 {
        script.results.send(Err(io::Error::other("no"))).expect("lookups wait");
    }
    let rest: Vec<_> = script.started.iter().take(12).collect();
    assert_eq!(rest.len(), 12, "each once");
}

#[tokio::test]
async fn an_address_needs_no_lookup() {
    let (resolver, script) = scripted();
    for text in ["127.0.0.1", "::1"] {
        assert_eq!(ips(&resolver.host(text).addresses().await.expect("it is an address")), [ip(text)]);
    }
    assert!(script.started.try_recv().is_err());
}

#[tokio::test]
async fn a_change_of_addresses_is_counted_once_and_wakes_those_who_wait() {
    let (resolver, script) = scripted();
    let (host, changes) = (resolver.host("orders.internal"), resolver.changes());
    let look_up = async |result: io::Result<Vec<IpAddr>>| {
        script.results.send(result).expect("the resolver lives");
        host.addresses().await
    };
    assert_eq!((host.known_addresses(), changes.count()), (Vec::new(), 0), "nothing is known before the first lookup");
    let (found, count) = tokio::join!(look_up(Ok(vec![ip("192.0.2.2"), ip("192.0.2.1")])), changes.changed_since(0));
    assert_eq!((ips(&found.expect("it resolves")).len(), count), (2, 1));
    assert_eq!(host.known_addresses(), [ip("192.0.2.1"), ip("192.0.2.2")]);
    let Host::Name(name) = &host else { panic!("a name") };
    name.complete(Ok(vec![ip("192.0.2.1"), ip("192.0.2.2")]));
    name.complete(Err(io::Error::other("no name server answers")));
    assert_eq!(changes.count(), 1, "neither the order nor a failure changes the addresses");
    name.complete(Ok(vec![ip("192.0.2.2")]));
    assert_eq!(changes.changed_since(1).await, 2);
    assert_eq!(host.known_addresses(), [ip("192.0.2.2")]);
}

#[tokio::test]
async fn one_address_of_a_name_is_valid_while_the_name_has_it() {
    let (resolver, script) = scripted();
    let host = resolver.host("orders.internal");
    script.results.send(Ok(vec![ip("192.0.2.1"), ip("192.0.2.2")])).expect("the resolver lives");
    host.addresses().await.expect("it resolves");
    let second = host.at(ip("192.0.2.2"));
    assert_eq!(ips(&second.addresses().await.expect("it is known")), [ip("192.0.2.2")]);
    assert!(second.has(ip("192.0.2.2")));
    let Host::Name(name) = &host else { panic!("a name") };
    name.complete(Ok(vec![ip("192.0.2.1")]));
    assert!(!second.has(ip("192.0.2.2")), "a connection to it is not used again");
}
