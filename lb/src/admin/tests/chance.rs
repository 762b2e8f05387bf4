//! Walks the OpenAPI document with requests that are right, odd or hostile: each answer is one that the document
//! knows, and no fault is ours.
//!
//! A failing seed is printed; `RINGMASTER_SEED=N cargo test -p ringmaster admin::tests::chance` runs it alone.

use super::{contract::operations, *};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
};

const CASES: u32 = 1_500;

const TOKENS: &str = "read reader-0123456789\nadmin operator-0123456789\n";

/// What means something to a parser of texts, numbers, paths, headers or names.
const ODD: [&str; 24] = [
    "",
    " ",
    "-1",
    "0",
    "1.5",
    "1e400",
    "99999999999999999999",
    "NaN",
    "null",
    "[]",
    "{",
    "\"",
    "é",
    "😀",
    "\u{202e}",
    "\0",
    "\r\nX: y",
    "..",
    "a/b",
    "a b",
    "%",
    "%FF",
    "&",
    "=",
];

#[derive(Clone, Debug)]
struct Sent {
    /// In the document, that it was made from.
    path: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    addr: &'static str,
}

impl Sent {
    /// `None` for what no HTTP parser would let through to the router.
    fn request(&self) -> Option<Request<Body>> {
        let mut request = from(self.addr, Door::Admin, &self.method, "/", "");
        *request.uri_mut() = self.target.parse().ok()?;
        for (name, value) in &self.headers {
            let name: http::HeaderName = name.parse().ok()?;
            request.headers_mut().insert(name, value.parse().ok()?);
        }
        *request.body_mut() = Body::from(self.body.clone());
        Some(request)
    }
}

/// Mostly `right`, at times something odd.
fn or_odd(right: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    let long = (1_000_usize..9_000).prop_map(|length| "x".repeat(length));
    let odd = prop_oneof![6 => select(&ODD[..]).prop_map(str::to_owned), 3 => ".{0,12}", 1 => long];
    prop_oneof![6 => right, 1 => odd].boxed()
}

/// A value that the document allows for a parameter.
fn right(name: &str, schema: &Value) -> BoxedStrategy<String> {
    let one_of = |words: &'static [&str]| select(words).prop_map(str::to_owned).boxed();
    let types = schema["type"].to_string();
    match name {
        "pool" => one_of(&["default", "default", "any"]),
        "name" => one_of(&["Server1", "Server2", "A", "Server9"]),
        "remove" => one_of(&["Server1", "Server1,Server3", "Server9"]),
        "If-Match" => one_of(&["\"1\"", "*", "\"99\""]),
        _ if types.contains("boolean") => one_of(&["true", "false"]),
        _ if types.contains("integer") => (0_u32..14).prop_map(|n| n.to_string()).boxed(),
        _ => "[a-z]{1,8}".boxed(),
    }
}

/// For a path or a query.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        or_odd("[a-z]{0,5}").prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("n|names|hostnames|[a-z]{1,4}", inner, 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// A body with some of the fields that `schema` has, most of them right.
fn object(schema: &Value) -> BoxedStrategy<Vec<u8>> {
    let mut object = Just(serde_json::Map::new()).boxed();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let types = schema["type"].to_string();
        let host = || select(&["A", "B", "Server1", "Server2", "C:80"][..]);
        let right = if types.contains("integer") {
            (1_u64..5).prop_map(Value::from).boxed()
        } else if types.contains("array") {
            proptest::collection::vec(host(), 0..3).prop_map(Value::from).boxed()
        } else {
            host().prop_map(Value::from).boxed()
        };
        let value =
            prop_oneof![4 => Just(None), 4 => right.prop_map(Some), 1 => json().prop_map(Some)];
        let name = name.clone();
        object = (object, value)
            .prop_map(move |(mut object, value)| {
                object.extend(value.map(|value| (name.clone(), value)));
                object
            })
            .boxed();
    }
    object.prop_map(|object| Value::from(object).to_string().into_bytes()).boxed()
}

fn body(operation: &Value) -> BoxedStrategy<Vec<u8>> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"].to_string();
    let pointer = schema.split("\"#").nth(1).and_then(|rest| rest.split('"').next());
    let schema = pointer.and_then(|pointer| CONTRACT.document.pointer(pointer));
    let form = or_odd(Just("Server1".to_owned())).prop_map(|name| format!("server_id={name}"));
    let odd = prop_oneof![
        form.prop_map(String::into_bytes),
        json().prop_map(|json| json.to_string().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..64),
        (0_usize..70_000).prop_map(|depth| b"[".repeat(depth)),
        (0_usize..9_000).prop_map(|depth| b"{\"n\":".repeat(depth)),
        (0_usize..400).prop_map(|digits| format!("{{\"n\":1{}}}", "0".repeat(digits)).into_bytes()),
        Just(b"{\"n\":1,\"n\":2}".to_vec()),
    ];
    let right = schema.map_or(Just(Vec::new()).boxed(), object);
    prop_oneof![2 => Just(Vec::new()), 6 => right, 2 => odd].boxed()
}

/// The parameters in one place, some of them left out if they may be, with one that nobody knows at times.
fn params(operation: &Value, place: &str) -> BoxedStrategy<Vec<(String, String)>> {
    let mut all = Just(Vec::new()).boxed();
    for param in operation["parameters"].as_array().into_iter().flatten() {
        if param["in"] != place {
            continue;
        }
        let name = param["name"].as_str().unwrap().to_owned();
        let value = or_odd(right(&name, &param["schema"]));
        let value = match param["required"] == true {
            true => value.prop_map(Some).boxed(),
            false => proptest::option::weighted(0.4, value).boxed(),
        };
        all = (all, value)
            .prop_map(move |(mut all, value)| {
                all.extend(value.map(|value| (name.clone(), value)));
                all
            })
            .boxed();
    }
    all
}

fn headers(operation: &Value) -> impl Strategy<Value = Vec<(String, String)>> + use<> {
    let other = [
        ("content-type", "application/json"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", "http://127.0.0.1:5001"),
        ("host", "localhost"),
        ("accept", "*/*"),
    ];
    let other = select(other.to_vec()).prop_flat_map(|(name, value)| {
        let value = or_odd(Just(value.to_owned()));
        value.prop_map(move |value| (name.to_owned(), value))
    });
    let token =
        select(&["", "Bearer reader-0123456789", "Bearer operator-0123456789", "Basic x"][..]);
    let token = token.prop_map(|token| ("authorization".to_owned(), token.to_owned()));
    let rest = (proptest::option::weighted(0.3, other), token);
    (params(operation, "header"), rest).prop_map(|(mut headers, (other, token))| {
        headers.extend(other);
        headers.push(token);
        headers
    })
}

fn target(path: &str, operation: &Value) -> impl Strategy<Value = String> + use<> {
    let path = path.to_owned();
    let strange =
        prop_oneof![12 => Just(""), 1 => select(&["/", "//", "/x", "/..", "%00", ";a"][..])];
    let unknown = proptest::option::weighted(0.05, or_odd("[a-z]{1,3}"));
    let query = (params(operation, "query"), unknown);
    (params(operation, "path"), query, strange).prop_map(
        move |(segments, (query, unknown), strange)| {
            let mut target = path.clone();
            for (name, value) in segments {
                target = target.replace(&format!("{{{name}}}"), &escaped(&value));
            }
            let query =
                query.into_iter().map(|(name, value)| format!("{name}={}", escaped(&value)));
            let query: Vec<_> = query.chain(unknown).collect();
            format!("{target}{strange}?{}", query.join("&"))
        },
    )
}

fn sent() -> impl Strategy<Value = Sent> {
    let all: Vec<_> = operations(&CONTRACT.document).collect();
    select(all).prop_flat_map(|(path, method, operation)| {
        let other =
            select(&["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS", "TRACE", "BREW"][..]);
        let method =
            prop_oneof![12 => Just(method.to_uppercase()), 1 => other.prop_map(str::to_owned)];
        let addr = prop_oneof![4 => Just(LOCAL), 1 => Just(STRANGER)];
        (method, target(path, operation), headers(operation), body(operation), addr).prop_map(
            move |(method, target, headers, body, addr)| {
                let path = path.to_owned();
                Sent { path, method, target, headers, body, addr }
            },
        )
    })
}

#[test]
fn every_answer_is_documented_and_no_fault_is_ours() {
    let seed = match std::env::var("RINGMASTER_SEED") {
        Ok(seed) => seed.parse().expect("RINGMASTER_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answered = RefCell::new(BTreeSet::new());
    let run = TestRunner::new_with_rng(config, rng).run(&sent(), |sent| {
        let Some(request) = sent.request() else { return Ok(()) };
        let answer = runtime.block_on(async {
            let api = Api::with(Access::trusting(&["127.0.0.0/8"], TOKENS));
            api.send(request).await
        });
        prop_assert!(answer.status != 500, "{}", answer.body);
        if answer.status == 200 {
            answered.borrow_mut().insert((sent.path.clone(), sent.method.clone()));
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}\nRINGMASTER_SEED={seed} runs it again"));
    // A program that could take over would take over from the tests.
    let fails_here = |path: &str| path == "/api/v1/upgrade";
    for (path, method, _) in operations(&CONTRACT.document).filter(|it| !fails_here(it.0)) {
        let operation = (path.to_owned(), method.to_uppercase());
        assert!(
            answered.borrow().contains(&operation),
            "seed {seed}: {operation:?} never succeeded"
        );
    }
}
