//! What a response body passes on.

use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::early_end::Exchange;
use super::http1::Fixture;
use crate::upstream::body::Trailers;
use crate::upstream::tests::raw_server::run_locally;

#[tokio::test]
async fn trailers_pass_only_where_they_are_wanted() {
    const RESPONSE: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n";
    run_locally(async {
        let fixture = Fixture::start().await;
        for (trailers, expected) in [(Trailers::Drop, None), (Trailers::Pass, Some("0"))] {
            let mut exchange = Exchange::of_get(&fixture).await;
            let response = exchange.respond(RESPONSE).await;
            let (body, _peer, _) = exchange.into_body(response, trailers, &fixture);
            let collected = body.collect().await.unwrap();
            let found = collected.trailers().and_then(|trailers| trailers.get("grpc-status"));
            assert_eq!(found.map(|value| value.to_str().unwrap()), expected);
            assert_eq!(collected.to_bytes(), "ok");
        }
    })
    .await;
}

#[tokio::test]
async fn the_length_of_a_body_is_known_from_its_head() {
    run_locally(async {
        let fixture = Fixture::start().await;
        let mut exchange = Exchange::of_get(&fixture).await;
        let response = exchange.respond("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345").await;
        let (mut body, _peer, _) = exchange.into_body(response, Trailers::Drop, &fixture);
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "12345");
        assert_eq!(body.size_hint().exact(), Some(0));
    })
    .await;
}
