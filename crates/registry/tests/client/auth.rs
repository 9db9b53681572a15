//! Challenges and the answers to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::{Class, Classified as _, Secret};
use registry::{Credentials, NodeCredentials, Registry, RegistryConfig};

use crate::server::{Reply, Request, Server, client, content, fetch, limits, manifest};

fn basic(user: &str, password: &str) -> Credentials {
    Credentials::Basic { user: user.into(), password: Secret::new(password.into()) }
}

/// A registry whose token server is at `/token` of the same host. `good` says which token opens it.
fn guarded(
    r: &Request,
    good: &str,
    token: impl Fn(&Request) -> Reply,
    answer: impl Fn(&Request) -> Reply,
) -> Reply {
    if r.path() == "/token" {
        return token(r);
    }
    if r.header("authorization") == Some(good) {
        return answer(r);
    }
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="the service",scope="repository:team/app:pull""#,
        r.header("host").unwrap()
    );
    Reply::new(401, br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
        .header("WWW-Authenticate", &challenge)
}

fn token(text: &str) -> Reply {
    Reply::ok(format!(r#"{{"token":"{text}","expires_in":300}}"#).as_bytes())
}

#[tokio::test]
async fn a_token_is_fetched_as_the_challenge_says_and_used_again() {
    let server = Server::start(|r| {
        guarded(r, "Bearer t1", |_| token("t1"), |_| Reply::manifest(&manifest()))
    })
    .await;
    let client = client();
    let reference = server.reference("team/app:v1");
    for _ in 0..2 {
        client.resolve(&reference, Some(&basic("user", "pass"))).await.unwrap();
    }
    assert_eq!(
        server.lines(),
        [
            "GET /v2/team/app/manifests/v1",
            "GET /token",
            "GET /v2/team/app/manifests/v1",
            "GET /v2/team/app/manifests/v1"
        ]
    );
    let asked = &server.requests()[1];
    assert_eq!(
        asked.target,
        "/token?service=the+service&scope=repository%3Ateam%2Fapp%3Apull&account=user"
    );
    assert_eq!(asked.header("authorization"), Some("Basic dXNlcjpwYXNz"));
}

#[tokio::test]
async fn nobody_gets_a_token_without_credentials_where_that_is_allowed() {
    let server =
        Server::start(|r| guarded(r, "Bearer a", |_| token("a"), |_| Reply::manifest(&manifest())))
            .await;
    client().resolve(&server.reference("team/app:v1"), None).await.unwrap();
    assert!(server.requests()[1].header("authorization").is_none());
}

#[tokio::test]
async fn many_layers_at_once_ask_for_one_token() {
    let layer = content(50_000);
    let served = layer.clone();
    let server =
        Server::start(move |r| guarded(r, "Bearer t", |_| token("t"), |r| Reply::part(r, &served)))
            .await;
    let (client, reference) = (client(), server.reference("team/app:v1"));
    let mut pulls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (client, reference, layer) = (client.clone(), reference.clone(), layer.clone());
        pulls
            .spawn(async move { fetch(&client, &reference, &layer).await.map(|got| got == layer) });
    }
    while let Some(pull) = pulls.join_next().await {
        assert!(pull.unwrap().unwrap());
    }
    assert_eq!(server.lines().iter().filter(|l| *l == "GET /token").count(), 1);
}

#[tokio::test]
async fn a_token_that_ended_is_replaced() {
    let valid = Arc::new(AtomicUsize::new(1));
    let (now, given) = (Arc::clone(&valid), Arc::clone(&valid));
    let server = Server::start(move |r| {
        let good = format!("Bearer t{}", now.load(Ordering::SeqCst));
        let token = |_: &Request| token(&format!("t{}", given.load(Ordering::SeqCst)));
        guarded(r, &good, token, |_| Reply::manifest(&manifest()))
    })
    .await;
    let (client, reference) = (client(), server.reference("team/app:v1"));
    client.resolve(&reference, None).await.unwrap();
    valid.store(2, Ordering::SeqCst);
    client.resolve(&reference, None).await.unwrap();
    assert_eq!(server.lines().iter().filter(|l| *l == "GET /token").count(), 2);
}

#[tokio::test]
async fn challenges_without_end_are_given_up() {
    let given = AtomicUsize::new(0);
    let server = Server::start(move |r| {
        // A new token each time, and none is ever good.
        let token = |_: &Request| token(&format!("t{}", given.fetch_add(1, Ordering::SeqCst)));
        guarded(r, "Bearer none", token, |_| Reply::manifest(&manifest()))
    })
    .await;
    let error = client().resolve(&server.reference("team/app:v1"), None).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthenticated, "{error}");
    assert!(server.lines().len() < 20, "{:?}", server.lines());
}

#[tokio::test]
async fn an_identity_token_is_changed_for_an_access_token_by_post() {
    let server = Server::start(|r| {
        let token = |_: &Request| Reply::ok(br#"{"access_token":"acc","refresh_token":"new"}"#);
        guarded(r, "Bearer acc", token, |_| Reply::manifest(&manifest()))
    })
    .await;
    let credentials = Credentials::IdentityToken(Secret::new("id/tok en".into()));
    client().resolve(&server.reference("team/app:v1"), Some(&credentials)).await.unwrap();
    let asked = &server.requests()[1];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token"));
    assert_eq!(
        asked.body,
        "grant_type=refresh_token&service=the+service&client_id=isopod&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=id%2Ftok+en"
    );
}

#[tokio::test]
async fn a_registry_token_is_sent_as_it_is() {
    let server = Server::start(|r| {
        guarded(r, "Bearer reg", |_| token("no"), |_| Reply::manifest(&manifest()))
    })
    .await;
    let credentials = Credentials::RegistryToken(Secret::new("reg".into()));
    client().resolve(&server.reference("team/app:v1"), Some(&credentials)).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn basic_credentials_answer_a_basic_challenge() {
    let server = Server::start(|r| match r.header("authorization") {
        Some("Basic dTpw") => Reply::manifest(&manifest()),
        _ => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let reference = server.reference("a:b");
    client().resolve(&reference, Some(&basic("u", "p"))).await.unwrap();
    for wrong in [Some(basic("u", "wrong")), None] {
        let e = client().resolve(&reference, wrong.as_ref()).await.unwrap_err();
        assert_eq!(e.class(), Class::Unauthenticated, "{e}");
        assert_eq!(e.tries, 1, "a refusal is not asked again");
    }
}

#[tokio::test]
async fn the_nodes_own_credentials_are_used_where_a_request_has_none() {
    let server = Server::start(|r| match r.header("authorization") {
        Some("Basic bjpw") => Reply::manifest(&manifest()),
        _ => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let mut credentials = NodeCredentials::new();
    credentials.add(&server.host(), basic("n", "p"));
    let client = Registry::new(RegistryConfig {
        credentials,
        limits: limits(),
        ..RegistryConfig::default()
    });
    let reference = server.reference("a:b");
    client.resolve(&reference, None).await.unwrap();
    client.resolve(&reference, Some(&Credentials::None)).await.unwrap();
    assert!(client.resolve(&reference, Some(&basic("other", "x"))).await.is_err());
}

#[tokio::test]
async fn no_secret_is_in_an_error_even_if_the_server_repeats_it() {
    let echo = |r: &Request| {
        let authorization = r.header("authorization").unwrap_or_default();
        let words = format!(
            r#"{{"errors":[{{"code":"DENIED","message":"you sent {authorization} and hunter2secret {}"}}]}}"#,
            r.body
        );
        Reply::new(403, words.as_bytes())
    };
    let opened =
        Server::start(move |r| guarded(r, "Bearer bearersecret", |_| token("bearersecret"), echo))
            .await;
    let refused = Server::start(move |r| guarded(r, "Bearer no", echo, echo)).await;
    let secret = || Secret::new("hunter2secret".to_owned());
    for credentials in [
        basic("user", "hunter2secret"),
        Credentials::IdentityToken(secret()),
        Credentials::RegistryToken(secret()),
    ] {
        for server in [&opened, &refused] {
            let client = client();
            let reference = server.reference("team/app:v1");
            let e = client.resolve(&reference, Some(&credentials)).await.unwrap_err();
            let text = format!("{e} {e:?} {client:?} {credentials:?}");
            for secret in ["hunter2secret", "bearersecret", "dXNlcjpodW50ZXIyc2VjcmV0"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_server_that_refuses_or_babbles_is_named() {
    for (reply, class) in [
        (
            Reply::new(401, b"{\"details\":\"incorrect username or password\"}"),
            Class::Unauthenticated,
        ),
        (Reply::ok(b"secretish"), Class::Unavailable),
        (Reply::ok(b"{}"), Class::Unavailable),
        (Reply::new(500, b""), Class::Unavailable),
    ] {
        let server =
            Server::start(move |r| guarded(r, "none", |_| reply.clone(), |_| Reply::ok(&[]))).await;
        let e = client().resolve(&server.reference("team/app:v1"), None).await.unwrap_err();
        assert_eq!(e.class(), class, "{e}");
        assert!(!e.to_string().contains("secretish"), "{e}");
    }
}
