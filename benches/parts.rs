//! Single parts of the gateway: `cargo bench --bench parts`.

#[path = "../tests/it/support/token.rs"]
#[expect(dead_code, reason = "the integration tests use all of it")]
mod token;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::{AllocProfiler, Bencher};
use http::{HeaderMap, HeaderValue, Method, header};
use portcullis::clock::Clock;
use portcullis::internals::Host;
use portcullis::internals::KeyOrigin;
use portcullis::internals::Quota;
use portcullis::internals::Table;
use portcullis::internals::{AccessLog, Adopter, Metrics, Plan, load_text};
use portcullis::internals::{
    Algorithm, ClaimSources, IssuerSettings, Issuers, KeySource, Principal, Profile, RawToken, RefreshTimes,
    VerdictCache, Verification, Verifier,
};
use portcullis::internals::{CorsPolicy, Origins};
use portcullis::internals::{NormalPath, UnusualForms};
use portcullis::internals::{PathPattern, Pattern, RouteMatch, RouteTable};
use token::{TestKey, TokenBuilder};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const ISSUER: &str = "https://idp.example";

/// A verifier that has fetched its keys.
struct PrimedVerifier {
    runtime: tokio::runtime::LocalRuntime,
    issuers: Issuers,
    verdicts: VerdictCache<Principal>,
    key: TestKey,
}

impl PrimedVerifier {
    fn new(key: TestKey) -> Self {
        let file = tempfile(&serde_json::json!({ "keys": [key.public_jwk()] }).to_string());
        let settings = IssuerSettings {
            name: "main".into(),
            issuer: ISSUER.into(),
            audiences: vec!["api".to_owned()],
            algorithms: Algorithm::ALL.to_vec(),
            profile: Profile::Default,
            leeway: Duration::from_secs(30),
            max_lifetime: None,
            keys: KeySource::JwksFile(file.clone()),
            ca_file: None,
            allow_http: false,
            claims: ClaimSources::default(),
            times: RefreshTimes {
                refresh: Duration::from_secs(900),
                cooldown: Duration::from_secs(30),
                max_stale: Duration::from_secs(86_400),
            },
        };
        let metrics = Metrics::new(Clock::system());
        let verifier = Verifier::new(settings, Clock::system(), metrics.issuer("main")).expect("settings");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime");
        let bench = Self { runtime, issuers: Issuers::new(vec![verifier]), verdicts: VerdictCache::new(), key };
        // The first token triggers the fetch of the keys.
        let token = bench.token("warm-up");
        bench.verify(&token);
        let _ = std::fs::remove_file(file);
        bench
    }

    fn token(&self, subject: &str) -> String {
        TokenBuilder::new(ISSUER)
            .claim("sub", subject)
            .claim("client_id", "shop-web")
            .claim("jti", "5b4ab2ba67f14b7ea1a5b4b6d4b3c2d1")
            .claim("email", format!("{subject}@shop.example"))
            .sign(&self.key)
    }

    fn verify(&self, token: &str) {
        let token = RawToken::new(token);
        let verified = self.runtime.block_on(self.issuers.verify(&token));
        let Verification { principal, proof } = verified.expect("a good token");
        let bytes = principal.estimated_bytes();
        self.verdicts.insert(token.digest(), proof, Arc::new(black_box(principal)), bytes);
    }
}

fn tempfile(content: &str) -> std::path::PathBuf {
    use portcullis::internals::random;
    let name = format!("portcullis-bench-{}.json", random::hex(&random::bytes::<8>()));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, content).expect("a temporary file can be written");
    path
}

#[divan::bench(args = ["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"])]
fn verify(bencher: Bencher<'_, '_>, algorithm: &str) {
    let key = match algorithm {
        "ES256" => TestKey::es256("es256"),
        "ES384" => TestKey::es384("es384"),
        "EdDSA" => TestKey::ed25519("ed25519"),
        "RS256" => TestKey::rsa("rsa"),
        "RS512" => TestKey::rsa("rsa").with_algorithm("RS512"),
        "PS256" => TestKey::rsa("rsa").with_algorithm("PS256"),
        other => panic!("no key for {other}"),
    };
    let bench = PrimedVerifier::new(key);
    let token = bench.token("alice");
    bencher.bench_local(|| bench.verify(&token));
}

#[divan::bench]
fn cached_verdict(bencher: Bencher<'_, '_>) {
    let bench = PrimedVerifier::new(TestKey::rsa("rsa"));
    let token = bench.token("alice");
    bench.verify(&token);
    let clock = Clock::system();
    bencher.bench_local(|| {
        let digest = RawToken::new(&token).digest();
        let verdict = bench.verdicts.get(&digest).expect("known");
        assert!(bench.issuers.revalidate(verdict.proof(), clock.moment(Instant::now())));
        black_box(verdict);
    });
}

#[divan::bench(args = [10, 100, 1_000])]
fn route(bencher: Bencher<'_, '_>, routes: usize) {
    let pattern = |number: usize| Pattern {
        host: None,
        path: PathPattern::parse(&format!("/service-{number}/{{id}}/items/*")).expect("a pattern"),
        methods: vec![Method::GET],
        unusual_paths: UnusualForms::NONE,
    };
    let table = RouteTable::build((0..routes).map(pattern).collect()).expect("no two routes are the same");
    let host = Host::parse("api.example").expect("a host");
    let target = format!("/service-{}/4711/items/a/b", routes / 2);
    bencher.bench_local(|| {
        let path = NormalPath::parse(black_box(&target), UnusualForms::ALL).expect("a path");
        let choice = table.find(&host, &path, &Method::GET);
        assert!(matches!(choice, RouteMatch::Found(_)), "{choice:?}");
    });
}

#[divan::bench(args = [1, 100_000])]
fn limit(bencher: Bencher<'_, '_>, keys: u64) {
    let table = Table::default();
    let quota = Quota { count: 1_000_000, period: Duration::from_secs(1), burst: 1_000_000 };
    let mut next = 0;
    let mut now = 1_000_000;
    // Spreads the keys as hashes are spread.
    let spread = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for key in 0..keys {
        table.take(spread(key), KeyOrigin::Verified, &quota, now);
    }
    bencher.bench_local(|| {
        next = (next + 1) % keys;
        now += 1;
        black_box(table.take(spread(next), KeyOrigin::Verified, &quota, now));
    });
}

/// A pick takes about the same time however many servers there are, and allocates nothing.
#[divan::bench(
    args = ["least_request", "round_robin", "hash:ip"],
    consts = [2, 64, 512],
)]
fn pick_server<const SERVERS: usize>(bencher: Bencher<'_, '_>, balance: &str) {
    let servers: Vec<String> = (0..SERVERS).map(|n| format!("\"http://10.0.{}.{}:9000\"", n / 256, n % 256)).collect();
    let text = format!(
        "[upstreams.a]\nservers = [{}]\nbalance = \"{balance}\"\n[[routes]]\npath = \"/*\"\naccess = \"public\"\n\
         upstream = \"a\"",
        servers.join(", ")
    );
    let plan = Plan::compile(load_text("gateway.toml", &text, &|_| None)).expect("a valid file");
    let adopter = Adopter::new(Metrics::new(Clock::system()), Clock::system(), AccessLog::off());
    let runtime = adopter.adopt(&plan, None).expect("no file is needed");
    let upstream = &runtime.upstreams()[0];
    let mut key = 0;
    bencher.bench_local(|| {
        key += 1;
        black_box(upstream.pick_once(Some(key)).expect("all servers are up"));
    });
}

#[divan::bench]
fn cors(bencher: Bencher<'_, '_>) {
    let policy = CorsPolicy {
        origins: Origins::Listed(
            (0..8).map(|n| HeaderValue::try_from(format!("https://{n}.example")).expect("text")).collect(),
        ),
        credentials: false,
        methods: HeaderValue::from_static("GET, POST"),
        headers: HeaderValue::from_static("Authorization"),
        expose: HeaderValue::from_static("X-Request-Id"),
        max_age: HeaderValue::from_static("600"),
    };
    let asked: HeaderMap = [(header::ORIGIN, HeaderValue::from_static("https://5.example"))].into_iter().collect();
    bencher.with_inputs(HeaderMap::new).bench_local_values(|mut response| {
        policy.write(&policy.decide(&asked), &mut response);
        response
    });
}
